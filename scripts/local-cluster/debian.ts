/**
 * Programs from another Debian release without a change to the system: packages are downloaded with a separate package
 * index and unpacked into a folder. The mirror is that of the machine.
 */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { must, runLogged } from "../cli/process.ts";
import type { Tool } from "../cli/tools.ts";
import type { BuildContext } from "./cache.ts";

/** Index and packages have some 30 MB. */
const APT_LIMIT_MS = 5 * 60_000;

export const DEBIAN_TOOLS: Tool[] = [
  { command: "apt-get", why: "downloads Debian packages", source: "part of Debian" },
  { command: "dpkg-deb", why: "unpacks Debian packages", source: "part of Debian" },
];

/** One archive of the machine's apt sources. */
export interface AptSource {
  uri: string;
  suites: string[];
  components: string[];
  signedBy?: string;
}

/** Sources of a deb822 file (`*.sources`): paragraphs of fields, continued lines indented, comments anywhere. */
export function parseDeb822(text: string): AptSource[] {
  const sources: AptSource[] = [];
  const lines = text.split("\n").filter((line) => !line.startsWith("#"));
  for (const paragraph of lines.join("\n").split(/\n\s*\n/)) {
    const fields = new Map<string, string>();
    let last = "";
    for (const line of paragraph.split("\n")) {
      const field = /^([\w-]+):\s*(.*)$/.exec(line);
      if (field) {
        last = field[1]!.toLowerCase();
        fields.set(last, field[2]!.trim());
      } else if (last && /^\s/.test(line)) fields.set(last, `${fields.get(last)} ${line.trim()}`.trim());
    }
    const words = (name: string) => (fields.get(name) ?? "").split(/\s+/).filter(Boolean);
    if (!words("types").includes("deb") || fields.get("enabled")?.toLowerCase() === "no") continue;
    const signedBy = fields.get("signed-by");
    for (const uri of words("uris")) {
      sources.push({
        uri,
        suites: words("suites"),
        components: words("components"),
        // A one-line source cannot name an inline key block; the machine's trusted keys are used instead.
        ...(signedBy?.startsWith("/") ? { signedBy } : {}),
      });
    }
  }
  return sources;
}

/** Sources of a one-line file (`*.list`). */
export function parseSourcesList(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split("\n")) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)/.exec(line);
    if (!match) continue;
    const signedBy = /signed-by=(\S+)/.exec(match[1] ?? "")?.[1];
    sources.push({
      uri: match[2]!,
      suites: [match[3]!],
      components: match[4]!.trim().split(/\s+/),
      signedBy,
    });
  }
  return sources;
}

/** The archive of the release: its suite, component main, not the security archive. */
export function pickMirror(sources: readonly AptSource[], codename: string): AptSource | undefined {
  return sources.find((source) => source.suites.includes(codename) && source.components.includes("main"));
}

async function machineSources(): Promise<AptSource[]> {
  const folder = "/etc/apt/sources.list.d";
  const read = (path: string) => readFile(path, "utf8").catch(() => "");
  const sources = parseSourcesList(await read("/etc/apt/sources.list"));
  for (const name of (await readdir(folder).catch(() => [] as string[])).sort()) {
    if (name.endsWith(".sources")) sources.push(...parseDeb822(await read(join(folder, name))));
    else if (name.endsWith(".list")) sources.push(...parseSourcesList(await read(join(folder, name))));
  }
  return sources;
}

/** A value of /etc/os-release. */
async function osRelease(name: string): Promise<string> {
  const text = await readFile("/etc/os-release", "utf8").catch(() => "");
  return new RegExp(`^${name}="?([^"\n]*)"?$`, "m").exec(text)?.[1] ?? "";
}

/** The reason why Debian packages are not available on this machine; undefined when they are. */
export async function debianProblem(): Promise<string | undefined> {
  const [id, codename] = [await osRelease("ID"), await osRelease("VERSION_CODENAME")];
  if (id !== "debian") return `the machine runs ${id || "an unknown distribution"}, not Debian`;
  if (!pickMirror(await machineSources(), codename)) return `no apt source of this machine has ${codename} main`;
  return undefined;
}

/**
 * Downloads packages of a Debian suite and unpacks them into `out` (`out/usr/bin/…`).
 * @param options.dependencies also what they depend on, without recommended packages
 * @returns the versions, by package
 * @throws OperatorError exit 3 when the machine is not Debian, otherwise with the output of apt
 */
export async function unpackDebian(
  suite: string,
  packages: readonly string[],
  out: string,
  context: BuildContext,
  options: { dependencies?: boolean } = {},
): Promise<Record<string, string>> {
  const problem = await debianProblem();
  if (problem) {
    throw new OperatorError(`Debian packages of ${suite} are not available: ${problem}`, {
      exitCode: EXIT.precondition,
    });
  }
  const mirror = pickMirror(await machineSources(), await osRelease("VERSION_CODENAME"))!;
  const apt = join(context.work, "apt");
  const folders = { lists: join(apt, "lists"), cache: join(apt, "cache"), debs: join(apt, "debs") };
  await rm(folders.debs, { recursive: true, force: true });
  await mkdir(join(folders.lists, "partial"), { recursive: true });
  await mkdir(join(folders.cache, "archives", "partial"), { recursive: true });
  await mkdir(join(folders.debs, "partial"), { recursive: true });
  const list = join(apt, "sources.list");
  const trust = mirror.signedBy ? `[signed-by=${mirror.signedBy}] ` : "";
  await writeFile(list, `deb ${trust}${mirror.uri} ${suite} main\n`);
  await writeFile(join(apt, "status"), "");
  const settings = [
    `Dir::State::lists=${folders.lists}`,
    `Dir::State::status=${join(apt, "status")}`,
    `Dir::Etc::sourcelist=${list}`,
    "Dir::Etc::sourceparts=/dev/null",
    `Dir::Cache=${folders.cache}`,
    "APT::Sandbox::User=root",
    "Acquire::Languages=none",
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
    "Acquire::Retries=3",
  ].flatMap((setting) => ["-o", setting]);
  const run = {
    log: context.log,
    signal: context.signal,
    timeoutMs: APT_LIMIT_MS,
    env: { DEBIAN_FRONTEND: "noninteractive" },
  };
  context.update(`package index of ${suite}`);
  await runLogged(["apt-get", "-q", ...settings, "update"], run);
  context.update(packages.join(", "));
  const download = options.dependencies
    ? ["install", "--download-only", "--yes", "--no-install-recommends", "-o", `Dir::Cache::archives=${folders.debs}`]
    : ["download"];
  await runLogged(["apt-get", "-q", ...settings, ...download, ...packages], { ...run, cwd: folders.debs });
  const versions: Record<string, string> = {};
  for (const deb of (await readdir(folders.debs)).filter((name) => name.endsWith(".deb")).sort()) {
    const path = join(folders.debs, deb);
    await runLogged(["dpkg-deb", "--extract", path, out], run);
    // The default of --show: name, tab, version.
    const [name, version] = (await must(["dpkg-deb", "--show", path])).trim().split("\t");
    if (name && version) versions[name] = version;
  }
  return versions;
}
