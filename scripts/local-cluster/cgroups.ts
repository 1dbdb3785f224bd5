/** The cgroup of all pods of the local cluster, in each hierarchy of the machine (v1: one per controller). */
import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pause } from "../cli/wait.ts";
import { identify, type ProcessIdentity } from "./processes.ts";

/** Name at the top of each hierarchy. */
export const CGROUP = "conveyor";
/**
 * CPU weight of all pods together; the default of a group is 1. On a node with systemd all daemons are one group, and the pods
 * another. Here each daemon, and each command on the machine, is a group (autogroup): at the default, pods that compete
 * with four of them would get a fifth of the CPU, and a restarting broker would delay all others.
 */
const PODS_CPU_WEIGHT = 4;
/** The defaults of cpu.shares (v1) and cpu.weight (v2). */
const DEFAULT_CPU_SHARES = 1024;
const DEFAULT_CPU_WEIGHT = 100;
/** A cgroup whose last process was just killed can be busy for a moment. */
const REMOVE_TRIES = 50;
const REMOVE_PAUSE_MS = 40;

export interface Hierarchy {
  mountPoint: string;
  version: 1 | 2;
  /** Controllers of a v1 hierarchy. */
  controllers: string[];
}

/** Mount points of cgroup hierarchies in the text of /proc/self/mountinfo. */
export function parseHierarchies(mountinfo: string): Hierarchy[] {
  const found: Hierarchy[] = [];
  for (const line of mountinfo.split("\n")) {
    const [left, right] = line.split(" - ");
    const mountPoint = left?.split(" ")[4];
    const [type, , options] = right?.split(" ") ?? [];
    if (!mountPoint || (type !== "cgroup" && type !== "cgroup2")) continue;
    found.push({
      mountPoint,
      version: type === "cgroup2" ? 2 : 1,
      controllers: type === "cgroup" ? (options ?? "").split(",").filter((name) => !["rw", "ro"].includes(name)) : [],
    });
  }
  return found;
}

export const hierarchies = async (): Promise<Hierarchy[]> =>
  parseHierarchies(await readFile("/proc/self/mountinfo", "utf8"));

/** True when pods are managed by v1 hierarchies, which is a setting of the kubelet. */
export const isVersion1 = (all: readonly Hierarchy[]): boolean =>
  all.some((hierarchy) => hierarchy.version === 1 && hierarchy.controllers.includes("memory"));

/** Creates the cgroup in every hierarchy that pods use. */
export async function ensureCgroup(): Promise<void> {
  const all = await hierarchies();
  const version1 = isVersion1(all);
  for (const hierarchy of all) {
    // On a mixed machine the v2 hierarchy has no controllers and no pods.
    if (version1 && hierarchy.version === 2) continue;
    const folder = join(hierarchy.mountPoint, CGROUP);
    await mkdir(folder, { recursive: true });
    if (hierarchy.controllers.includes("cpuset")) {
      // A new v1 cpuset is empty, and no process may enter an empty one.
      for (const file of ["cpuset.cpus", "cpuset.mems"]) {
        const value = (await readFile(join(hierarchy.mountPoint, file), "utf8")).trim();
        await writeFile(join(folder, file), value);
      }
    }
    if (hierarchy.controllers.includes("cpu"))
      await writeFile(join(folder, "cpu.shares"), String(PODS_CPU_WEIGHT * DEFAULT_CPU_SHARES));
    if (hierarchy.version === 2) {
      const available = (await readFile(join(hierarchy.mountPoint, "cgroup.controllers"), "utf8")).trim().split(/\s+/);
      const enable = available
        .filter(Boolean)
        .map((name) => `+${name}`)
        .join(" ");
      // Already enabled on every machine with systemd; then this changes nothing.
      if (enable) await writeFile(join(hierarchy.mountPoint, "cgroup.subtree_control"), enable).catch(() => {});
      if (enable) await writeFile(join(folder, "cgroup.subtree_control"), enable);
      // Absent where the controller is not enabled.
      if (available.includes("cpu"))
        await writeFile(join(folder, "cpu.weight"), String(PODS_CPU_WEIGHT * DEFAULT_CPU_WEIGHT)).catch(() => {});
    }
  }
}

/** Our cgroups of all hierarchies, deepest first. */
export async function ourCgroups(): Promise<string[]> {
  const folders: string[] = [];
  const walk = async (folder: string): Promise<void> => {
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => undefined);
    if (!entries) return;
    for (const entry of entries) if (entry.isDirectory()) await walk(join(folder, entry.name));
    folders.push(folder);
  };
  for (const hierarchy of await hierarchies()) await walk(join(hierarchy.mountPoint, CGROUP));
  return folders;
}

/** Every process in our cgroups: containers, also those whose shim has ended. */
export async function processesInCgroup(): Promise<ProcessIdentity[]> {
  const pids = new Set<number>();
  for (const folder of await ourCgroups()) {
    const text = await readFile(join(folder, "cgroup.procs"), "utf8").catch(() => "");
    for (const line of text.split("\n")) if (line) pids.add(Number(line));
  }
  return [...pids].flatMap((pid) => identify(pid) ?? []);
}

/** Removes our cgroups; they must be empty of processes. @returns those that could not be removed */
export async function removeCgroups(): Promise<string[]> {
  let left: string[] = [];
  for (let attempt = 0; attempt < REMOVE_TRIES; attempt++) {
    for (const folder of await ourCgroups()) await rmdir(folder).catch(() => {});
    left = await ourCgroups();
    if (left.length === 0) return [];
    await pause(REMOVE_PAUSE_MS);
  }
  return left;
}
