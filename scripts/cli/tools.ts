/** Programs that must be on the machine: checked all at once, with the command that installs the missing ones. */
import { homedir } from "node:os";
import { join } from "node:path";
import { EXIT, OperatorError } from "./errors.ts";
import { capture, must } from "./process.ts";
import type { Report } from "./report.ts";

/** apt on a slow mirror. */
const APT_LIMIT_MS = 10 * 60_000;

export interface Tool {
  /** Name on PATH. */
  command: string;
  /** Its purpose, shown after the command: "runs containers". */
  why: string;
  /** Debian package; absent when the distribution's is not usable. */
  aptPackage?: string;
  /** Fedora's package. */
  dnfPackage?: string;
  /** Homebrew's formula, for macOS. */
  brewPackage?: string;
  /** Where to get it when not from apt. */
  source?: string;
  /** Lowest version that works, as printed by `versionCommand`. */
  minVersion?: string;
  /** Prints the version; the first "1.2.3" of its output counts. Needed with minVersion. */
  versionCommand?: readonly string[];
}

/** A tool that is missing or too old. */
export interface MissingTool extends Tool {
  /** The version found, when it is too old. */
  found?: string;
  /** In place of "is not installed". */
  problem?: string;
}

/** Folders that are not on the PATH of sudo or a bare login: system programs, and the defaults of Go and Rust. */
const SYSTEM_FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin", join(homedir(), ".cargo", "bin")];
/** Printing a version takes milliseconds. */
const VERSION_LIMIT_MS = 10_000;

/** PATH with the folders of system programs and toolchains. */
export const toolPath = (): string =>
  [...(process.env.PATH ?? "").split(":").filter(Boolean), ...SYSTEM_FOLDERS]
    .filter((folder, index, all) => all.indexOf(folder) === index)
    .join(":");

/** Path of a program, or undefined. */
export const findTool = (command: string): string | undefined => Bun.which(command, { PATH: toolPath() }) ?? undefined;

/** Below zero when a is older than b; versions as dotted numbers. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.split(".").map(Number));
  for (let index = 0; index < Math.max(left!.length, right!.length); index++) {
    const difference = (left![index] ?? 0) - (right![index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** All tools that are missing or too old, each once. */
export async function missingTools(tools: readonly Tool[]): Promise<MissingTool[]> {
  const missing: MissingTool[] = [];
  for (const tool of tools) {
    if (missing.some((known) => known.command === tool.command)) continue;
    const path = findTool(tool.command);
    if (!path) {
      missing.push(tool);
      continue;
    }
    if (!tool.minVersion || !tool.versionCommand) continue;
    const { stdout, stderr } = await capture(tool.versionCommand, {
      env: { PATH: toolPath() },
      timeoutMs: VERSION_LIMIT_MS,
    }).catch(() => ({ stdout: "", stderr: "" }));
    const found = /\d+(\.\d+)+/.exec(stdout || stderr)?.[0] ?? "unknown";
    if (found === "unknown" || compareVersions(found, tool.minVersion) < 0) missing.push({ ...tool, found });
  }
  return missing;
}

const APT_INSTALL = "apt-get install -y --no-install-recommends";

/** The command that installs those that apt has; undefined when apt has none of them. */
export function aptLine(missing: readonly Tool[]): string | undefined {
  const packages = [...new Set(missing.flatMap((tool) => tool.aptPackage ?? []))].sort();
  return packages.length > 0 ? `${APT_INSTALL} ${packages.join(" ")}` : undefined;
}

/** The command that installs missing tools with the package manager of this machine; undefined where it has none of them. */
export function installLine(missing: readonly Tool[]): string | undefined {
  const managers = [
    { command: "brew", install: "brew install", packages: missing.map(({ brewPackage }) => brewPackage) },
    { command: "apt-get", install: `sudo ${APT_INSTALL}`, packages: missing.map(({ aptPackage }) => aptPackage) },
    { command: "dnf", install: "sudo dnf install -y", packages: missing.map(({ dnfPackage }) => dnfPackage) },
  ];
  // Homebrew exists on Linux too, where the packages of the system are the usual ones.
  const usable = managers.slice(process.platform === "darwin" ? 0 : 1).find(({ command }) => findTool(command));
  const names = [...new Set(usable?.packages.filter((name) => name !== undefined))].sort();
  return names.length > 0 ? `${usable!.install} ${names.join(" ")}` : undefined;
}

/** One line per missing tool. */
export function describeMissing(missing: readonly MissingTool[]): string[] {
  return missing.map((tool) => {
    const absent = tool.problem ?? "is not installed";
    const state = tool.found ? `is ${tool.found}, must be at least ${tool.minVersion}` : absent;
    const source = !tool.aptPackage && tool.source ? ` (${tool.source})` : "";
    return `${tool.command} ${state}: ${tool.why}${source}`;
  });
}

/** The error (exit 3) for missing tools. */
export function toolsError(what: string, missing: readonly MissingTool[]): OperatorError {
  return new OperatorError(
    `${what}:\n${describeMissing(missing)
      .map((text) => `  - ${text}`)
      .join("\n")}`,
    {
      exitCode: EXIT.precondition,
      hint: installLine(missing),
    },
  );
}

/** Installs the Debian packages of the missing tools. @throws OperatorError when apt fails. */
export async function installTools(missing: readonly Tool[], report: Report, signal?: AbortSignal): Promise<void> {
  const line = aptLine(missing);
  if (!line) return;
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const names = line.split(" ").slice(4);
  await report.step(
    `install ${names.join(", ")}`,
    async (step) => {
      step.update("apt-get update");
      await must(["apt-get", "update", "-q"], { env, signal, timeoutMs: APT_LIMIT_MS });
      step.update("apt-get install");
      await must(line.split(" "), { env, signal, timeoutMs: APT_LIMIT_MS });
      step.update("");
    },
    { limitMs: 2 * APT_LIMIT_MS },
  );
}
