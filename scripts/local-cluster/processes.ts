/**
 * The cluster's programs as detached processes, which outlive this one. Each has a pid file with its start time and the
 * machine's boot, so that a reused process id is never mistaken for ours or killed. All have a mark in their environment, by
 * which processes without a pid file (shims, or after a kill before it was written) are found.
 */

import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { OperatorError } from "../cli/errors.ts";
import { writeAtomic } from "../cli/files.ts";
import { tail } from "../cli/process.ts";
import { toolPath } from "../cli/tools.ts";
import { pause } from "../cli/wait.ts";

/** Environment variable that marks the processes of a local cluster; its value is the state folder. */
export const MARK = "CONVEYOR_LOCAL_CLUSTER";
/** Time between SIGTERM and SIGKILL: etcd and the kubelet need one or two seconds. */
const TERM_LIMIT_MS = 8_000;
/** A process in the kernel (disk) may take a moment to end after SIGKILL. */
const KILL_LIMIT_MS = 5_000;
const POLL_MS = 40;

/** Identifies a process also after its id is reused. */
export interface ProcessIdentity {
  pid: number;
  /** Clock ticks since boot at which it started. */
  start_ticks: number;
  boot_id: string;
}

/** A pid file: the identity, and a hash of the command and its input files. */
export interface PidFile extends ProcessIdentity {
  name: string;
  hash: string;
  started_at: string;
}

export interface Daemon {
  name: string;
  command: readonly string[];
  /** Contents of files that the program reads only at its start: a change restarts it. */
  reads?: readonly string[];
  /** Process whose network and mount namespaces it runs in. */
  inside?: number;
}

export interface DaemonFolders {
  /** The state folder; the mark's value. */
  state: string;
  run: string;
  logs: string;
  /** Before the system's folders on PATH. */
  path: readonly string[];
}

let boot: string | undefined;
/** Id of the machine's current boot. */
function bootId(): string {
  boot ??= readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return boot;
}

/** Start time in clock ticks from /proc/PID/stat; a program's name may contain any character, also ") ". */
export function startTicksOf(stat: string): number | undefined {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // Field 22 of the file; the first field here is number 3. State Z is a zombie: it has ended.
  if (fields[0] === "Z" || fields[0] === "X") return undefined;
  const ticks = Number(fields[19]);
  return Number.isFinite(ticks) && fields[19] ? ticks : undefined;
}

/** Identity of a running process; undefined when there is none. */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    const ticks = startTicksOf(readFileSync(`/proc/${pid}/stat`, "utf8"));
    return ticks === undefined ? undefined : { pid, start_ticks: ticks, boot_id: bootId() };
  } catch {
    return undefined;
  }
}

/** True while exactly this process runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  if (identity.boot_id !== bootId()) return false;
  return identify(identity.pid)?.start_ticks === identity.start_ticks;
}

/** The pid file of a program, running or not; undefined when there is none or it is truncated. */
export async function readPidFile(run: string, name: string): Promise<PidFile | undefined> {
  try {
    const value = JSON.parse(await readFile(join(run, `${name}.json`), "utf8")) as PidFile;
    const valid = Number.isInteger(value.pid) && value.pid > 1 && Number.isFinite(value.start_ticks) && value.boot_id;
    return valid ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The running process of a pid file. */
export async function livingDaemon(run: string, name: string): Promise<PidFile | undefined> {
  const file = await readPidFile(run, name);
  return file && isAlive(file) ? file : undefined;
}

/** Names of all pid files. */
export async function pidFileNames(run: string): Promise<string[]> {
  const names = await readdir(run).catch(() => [] as string[]);
  return names.filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -5));
}

function hashOf(daemon: Daemon): string {
  // Not the namespaces: a new holder has the same ones.
  const parts = JSON.stringify([daemon.command, daemon.reads ?? []]);
  return new Bun.CryptoHasher("sha256").update(parts).digest("hex").slice(0, 16);
}

/**
 * Starts a program unless it runs with the same command and files; restarts it when they differ.
 * @returns its pid file, and whether it was started now
 */
export async function ensureDaemon(
  daemon: Daemon,
  folders: DaemonFolders,
): Promise<{ file: PidFile; started: boolean }> {
  const hash = hashOf(daemon);
  const old = await readPidFile(folders.run, daemon.name);
  if (old && isAlive(old)) {
    if (old.hash === hash) return { file: old, started: false };
    await endProcesses([old]);
  }
  await mkdir(folders.run, { recursive: true });
  await mkdir(folders.logs, { recursive: true });
  const log = openSync(join(folders.logs, `${daemon.name}.log`), "a", 0o600);
  // nsenter and not `ip netns exec`, which remounts /sys and so hides the cgroups. It executes the program: the process id stays.
  const enter = daemon.inside ? ["nsenter", `--target=${daemon.inside}`, "--net", "--mount", "--"] : [];
  const [program = "", ...args] = [...enter, ...daemon.command];
  try {
    const child = spawn(program, args, {
      cwd: "/",
      detached: true,
      stdio: ["ignore", log, log],
      env: {
        PATH: [...folders.path, toolPath()].join(":"),
        HOME: "/root",
        LANG: "C.UTF-8",
        [MARK]: folders.state,
      },
    });
    const failed = new Promise<never>((_, reject) => child.once("error", reject));
    failed.catch(() => {});
    if (child.pid === undefined) await failed;
    child.unref();
    const identity = identify(child.pid!);
    if (!identity) throw new Error("it ended at once");
    const file: PidFile = { name: daemon.name, ...identity, hash, started_at: new Date().toISOString() };
    await writeAtomic(join(folders.run, `${daemon.name}.json`), `${JSON.stringify(file, null, 2)}\n`);
    return { file, started: true };
  } catch (error) {
    const text = await tail(join(folders.logs, `${daemon.name}.log`));
    throw new OperatorError(`${daemon.name} could not be started`, { cause: text ? new Error(text) : error });
  } finally {
    closeSync(log);
  }
}

/** @throws OperatorError with the end of its log when the program has ended. */
export async function mustLive(file: PidFile, logs: string): Promise<void> {
  if (isAlive(file)) return;
  throw new OperatorError(`${file.name} has ended`, {
    cause: new Error((await tail(join(logs, `${file.name}.log`))) || "it logged nothing"),
    hint: `its log is ${join(logs, `${file.name}.log`)}`,
  });
}

function signalAll(processes: readonly ProcessIdentity[], signal: NodeJS.Signals): void {
  for (const identity of processes) {
    try {
      if (isAlive(identity)) process.kill(identity.pid, signal);
    } catch {
      // It has ended meanwhile.
    }
  }
}

async function awaitEnd(processes: readonly ProcessIdentity[], limitMs: number): Promise<ProcessIdentity[]> {
  const startedAt = performance.now();
  for (;;) {
    const living = processes.filter(isAlive);
    if (living.length === 0 || performance.now() - startedAt >= limitMs) return living;
    await pause(POLL_MS);
  }
}

/**
 * Ends processes: SIGTERM, then SIGKILL for those that still run after the limit.
 * @throws OperatorError when one outlives SIGKILL
 */
export async function endProcesses(
  processes: readonly ProcessIdentity[],
  options: { signal?: "SIGTERM" | "SIGKILL"; termLimitMs?: number } = {},
): Promise<void> {
  let living: ProcessIdentity[] = processes.filter(isAlive);
  if (options.signal !== "SIGKILL") {
    signalAll(living, "SIGTERM");
    living = await awaitEnd(living, options.termLimitMs ?? TERM_LIMIT_MS);
  }
  signalAll(living, "SIGKILL");
  living = await awaitEnd(living, KILL_LIMIT_MS);
  if (living.length > 0) {
    throw new OperatorError(`processes that do not end: ${living.map((identity) => identity.pid).join(", ")}`);
  }
}

/** Ends programs by their pid files, which are removed. */
export async function stopDaemons(
  run: string,
  names: readonly string[],
  signal: "SIGTERM" | "SIGKILL" = "SIGTERM",
): Promise<void> {
  const files = await Promise.all(names.map((name) => livingDaemon(run, name)));
  await endProcesses(
    files.filter((file) => file !== undefined),
    { signal },
  );
  await Promise.all(names.map((name) => rm(join(run, `${name}.json`), { force: true })));
}

/** Every process with the mark of this state folder's cluster; without an argument, of any cluster. */
export async function markedProcesses(state?: string): Promise<(ProcessIdentity & { command: string })[]> {
  const found: (ProcessIdentity & { command: string })[] = [];
  const wanted = `${MARK}=${state ?? ""}`;
  for (const name of await readdir("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      const variables = (await readFile(`/proc/${pid}/environ`, "utf8")).split("\0");
      if (!variables.some((variable) => (state === undefined ? variable.startsWith(wanted) : variable === wanted)))
        continue;
      const identity = identify(pid);
      const command = (await readFile(`/proc/${pid}/cmdline`, "utf8")).replaceAll("\0", " ").trim();
      if (identity) found.push({ ...identity, command });
    } catch {
      // It has ended meanwhile, or is a kernel thread.
    }
  }
  return found;
}
