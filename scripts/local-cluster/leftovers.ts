/**
 * Leftovers of a local cluster on a machine: processes, mounts, links, network namespaces, cgroups, firewall rules.
 * `snapshot` and `difference` compare the machine before and after (for tests); `findLeftovers` finds the cluster's objects
 * by their marks, and `down` checks its result with it.
 */
import { readdir, readFile, readlink } from "node:fs/promises";
import { capture } from "../cli/process.ts";
import { findTool, toolPath } from "../cli/tools.ts";
import { CGROUP, hierarchies, ourCgroups, processesInCgroup } from "./cgroups.ts";
import { HOST_LINK } from "./layout.ts";
import { markedProcesses } from "./processes.ts";

/** ip, iptables-save and the like. */
const TOOL_LIMIT_MS = 10_000;
const CGROUP_DEPTH = 3;

export interface Snapshot {
  /** "pid start command" of every process but kernel threads. */
  processes: string[];
  mounts: string[];
  links: string[];
  /** Network and mount namespaces that have a process, by their number. */
  namespaces: string[];
  cgroups: string[];
  /** Lines of iptables-save, ip6tables-save and nft, names of ipsets; without counters. */
  rules: string[];
  routes: string[];
}

const lines = (text: string) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);

async function output(command: readonly string[]): Promise<string[]> {
  if (!findTool(command[0]!)) return [];
  const { stdout } = await capture(command, { timeoutMs: TOOL_LIMIT_MS, env: { PATH: toolPath() } });
  return lines(stdout);
}

async function eachProcess<T>(read: (pid: string) => Promise<T | undefined>): Promise<T[]> {
  const found: T[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const value = await read(name).catch(() => undefined);
    if (value !== undefined) found.push(value);
  }
  return found;
}

async function cgroupFolders(folder: string, depth: number): Promise<string[]> {
  if (depth === 0) return [];
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const found: string[] = [];
  for (const entry of entries) {
    if (!entry.isDirectory()) continue;
    found.push(`${folder}/${entry.name}`, ...(await cgroupFolders(`${folder}/${entry.name}`, depth - 1)));
  }
  return found;
}

/** The present state of the machine. */
export async function snapshot(): Promise<Snapshot> {
  const processes = await eachProcess(async (pid) => {
    const command = (await readFile(`/proc/${pid}/cmdline`, "utf8")).replaceAll("\0", " ").trim();
    return command ? `${pid} ${command.slice(0, 160)}` : undefined;
  });
  const namespaces = new Set<string>();
  await eachProcess(async (pid) => {
    for (const kind of ["net", "mnt"]) namespaces.add(await readlink(`/proc/${pid}/ns/${kind}`));
  });
  const mountinfo = lines(await readFile("/proc/self/mountinfo", "utf8"));
  const cgroups: string[] = [];
  for (const hierarchy of await hierarchies())
    cgroups.push(...(await cgroupFolders(hierarchy.mountPoint, CGROUP_DEPTH)));
  const withoutCounters = (line: string) =>
    line
      .replace(/\[\d+:\d+\]/, "")
      .replace(/^# .*/, "")
      .trim();
  const rules = [
    ...(await output(["iptables-save"])),
    ...(await output(["ip6tables-save"])),
    ...(await output(["nft", "list", "ruleset"])),
    ...(await output(["ipset", "list", "-name"])).map((name) => `ipset ${name}`),
  ];
  return {
    processes: processes.sort(),
    mounts: mountinfo.map((line) => line.split(" ").slice(3, 5).join(" on ")).sort(),
    links: (await output(["ip", "-o", "link", "show"])).map((line) => line.split(":")[1]!.trim().split("@")[0]!).sort(),
    namespaces: [...namespaces, ...(await output(["ip", "netns", "list"]))].sort(),
    cgroups: cgroups.sort(),
    rules: rules.map(withoutCounters).filter(Boolean).sort(),
    routes: (await output(["ip", "route", "show", "table", "all"])).sort(),
  };
}

/** Entries of the second snapshot that are not in the first, by kind; kinds without a difference are absent. */
export function difference(before: Snapshot, after: Snapshot): Partial<Record<keyof Snapshot, string[]>> {
  const found: Partial<Record<keyof Snapshot, string[]>> = {};
  for (const kind of Object.keys(after) as (keyof Snapshot)[]) {
    const old = new Set(before[kind]);
    const added = after[kind].filter((entry) => !old.has(entry));
    if (added.length > 0) found[kind] = added;
  }
  return found;
}

/** Everything on the machine with the marks of the cluster of this state folder; empty after `down`. */
export async function findLeftovers(state: string): Promise<string[]> {
  const found: string[] = [];
  for (const marked of await markedProcesses(state))
    found.push(`process ${marked.pid}: ${marked.command.slice(0, 120)}`);
  for (const inside of await processesInCgroup()) found.push(`process ${inside.pid} in cgroup ${CGROUP}`);
  for (const folder of await ourCgroups()) found.push(`cgroup ${folder}`);
  const links = await output(["ip", "-o", "link", "show"]);
  if (links.some((line) => line.includes(`${HOST_LINK}@`) || line.includes(`${HOST_LINK}:`)))
    found.push(`link ${HOST_LINK}`);
  const mounts = lines(await readFile("/proc/self/mountinfo", "utf8")).map((line) => line.split(" ")[4]!);
  for (const mount of mounts) if (mount === state || mount.startsWith(`${state}/`)) found.push(`mount ${mount}`);
  return found;
}
