/** The headless Chromium of the system; it trusts exactly one server certificate. */
import { createHash, X509Certificate } from "node:crypto";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Tool } from "../cli/tools.ts";

const COMMANDS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
export const CHROMIUM: Tool = { command: COMMANDS[0]!, why: "renders pages as pictures", aptPackage: "chromium" };
/** Three panels side by side; tall enough for a complete dashboard, since Grafana loads only visible panels. */
const VIEWPORT = { width: 1680, height: 1900 };
/** A second on an idle machine. */
const LAUNCH_LIMIT_MS = 90_000;

/** Path of the named browser, or of the first that is installed. */
export function findBrowser(named?: string): string | undefined {
  if (named) return Bun.which(named) ?? undefined;
  return COMMANDS.map((command) => Bun.which(command)).find((path) => path !== null) ?? undefined;
}

/** Hash of a certificate's public key in Chromium's format for pins. */
export function pinOf(certificate: string): string {
  const key = new X509Certificate(certificate).publicKey.export({ type: "spki", format: "der" });
  return createHash("sha256").update(key).digest("base64");
}

export interface BrowserOptions {
  path: string;
  /** PEM of the server certificate; a server with another key is rejected. */
  certificate?: string;
}

/** @throws OperatorError (exit 3) with the first line of the reason; the rest is the browser's output. */
async function launch(options: BrowserOptions, profile: string): Promise<BrowserContext> {
  try {
    return await chromium.launchPersistentContext(profile, {
      executablePath: options.path,
      headless: true,
      timeout: LAUNCH_LIMIT_MS,
      viewport: VIEWPORT,
      // Chromium's own sandbox does not work for root.
      chromiumSandbox: process.getuid?.() !== 0,
      timezoneId: "UTC",
      colorScheme: "dark",
      // The project's CA is not in the system's store; the pin accepts this one key and no other.
      args: options.certificate ? [`--ignore-certificate-errors-spki-list=${pinOf(options.certificate)}`] : [],
    });
  } catch (error) {
    const [first] = String(error instanceof Error ? error.message : error).split("\n");
    throw new OperatorError(`the browser ${options.path} does not start: ${first}`, { exitCode: EXIT.precondition });
  }
}

export async function withBrowser<T>(
  options: BrowserOptions,
  work: (context: BrowserContext) => Promise<T>,
): Promise<T> {
  await using profile = await mkdtempDisposable(join(tmpdir(), "conveyor-browser-"));
  const context = await launch(options, profile.path);
  try {
    return await work(context);
  } finally {
    await context.close();
  }
}

/** For the first page of Grafana on a busy machine. */
const SIGN_IN_LIMIT_MS = 90_000;

/**
 * Signs in to Grafana with the request of its form; the browser gets a session.
 * @throws OperatorError when Grafana rejects it.
 */
export async function signIn(page: Page, origin: string, username: string, password: string): Promise<void> {
  await page.goto(`${origin}/login`, { waitUntil: "domcontentloaded", timeout: SIGN_IN_LIMIT_MS });
  const status = await page.evaluate(
    async (credentials) => {
      const headers = { "content-type": "application/json" };
      const answer = await fetch("/login", { method: "POST", headers, body: JSON.stringify(credentials) });
      return answer.status;
    },
    { user: username, password },
  );
  if (status !== 200) {
    throw new OperatorError(`Grafana rejected the sign-in of ${username}: ${status}`, {
      hint: "Secret grafana-admin holds the password that Grafana was first started with",
    });
  }
}
