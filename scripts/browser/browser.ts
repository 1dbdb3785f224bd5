/** A headless Chromium of the system that trusts exactly one server certificate. */
import { createHash, X509Certificate } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Tool } from "../cli/tools.ts";

/** Names under which systems have it. */
const COMMANDS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
export const CHROMIUM: Tool = { command: COMMANDS[0]!, why: "draws pages as pictures", aptPackage: "chromium" };
/** Wide enough for three panels side by side, tall enough that a dashboard's panels are all in view and load. */
const VIEWPORT = { width: 1680, height: 1900 };
/** A start takes a second, on a busy machine some more. */
const LAUNCH_LIMIT_MS = 90_000;

/** Path of the browser: the one that was named, or the first that the system has. */
export function findBrowser(named?: string): string | undefined {
  if (named) return Bun.which(named) ?? undefined;
  return COMMANDS.map((command) => Bun.which(command)).find((path) => path !== null) ?? undefined;
}

/** Hash of a certificate's public key as Chromium's pins have it. */
export function pinOf(certificate: string): string {
  const key = new X509Certificate(certificate).publicKey.export({ type: "spki", format: "der" });
  return createHash("sha256").update(key).digest("base64");
}

export interface BrowserOptions {
  path: string;
  /** PEM of the server's certificate; the page is refused when the server shows another. */
  certificate?: string;
}

/** @throws OperatorError (exit 3) with the first line of the reason: behind it stands the browser's whole output. */
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

/** Runs `work` in a fresh browser with a profile of its own, and leaves nothing behind. */
export async function withBrowser<T>(
  options: BrowserOptions,
  work: (context: BrowserContext) => Promise<T>,
): Promise<T> {
  const profile = await mkdtemp(join(tmpdir(), "conveyor-browser-"));
  try {
    const context = await launch(options, profile);
    try {
      return await work(context);
    } finally {
      await context.close();
    }
  } finally {
    await rm(profile, { recursive: true, force: true });
  }
}

/** Signing in is one small request; a busy machine takes its time to start the page. */
const SIGN_IN_LIMIT_MS = 90_000;

/**
 * Signs in as Grafana's own form does, so that the browser has a session and the password goes nowhere else.
 * @throws OperatorError when the server refuses.
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
    throw new OperatorError(`Grafana refused the sign-in of ${username}: ${status}`, {
      hint: "Secret grafana-admin holds the password that Grafana was first started with",
    });
  }
}
