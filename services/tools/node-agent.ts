/**
 * The drills' agent in a privileged pod on a node. Each call does one action, a JSON argument, and prints one JSON document
 * (services/protocol/node-agent.ts). It works from the node, since the first process of a container cannot be killed or
 * frozen from inside, and a NetworkPolicy does not end open connections.
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import {
  type AgentAnswer,
  type AgentRequest,
  SPARE_VOLUME_MEBIBYTES,
  type VolumeStep,
} from "../protocol/node-agent.ts";

/** The chain of a drill's rules; --heal finds leftover rules by its name. */
const CHAIN = "CONVEYOR-DRILL";
/** Names of the program for packet rules on different nodes. */
const RULE_PROGRAMS = ["iptables", "iptables-legacy", "iptables-nft"];
/** Part of util-linux, on every node. */
const NSENTER = "/usr/bin/nsenter";
const COMMAND_LIMIT_MS = 10_000;
/** PATH on a node; that of the pod is for its image. */
const NODE_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";

/** The container's first process: number 1 in its own PID namespace. */
function firstProcess(containerId: string): number | undefined {
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      if (!readFileSync(`/proc/${entry}/cgroup`, "utf8").includes(containerId)) continue;
      const numbers = /^NSpid:\s+(.+)$/m.exec(readFileSync(`/proc/${entry}/status`, "utf8"))?.[1]?.split(/\s+/);
      if (numbers?.at(-1) === "1") return Number(entry);
    } catch {
      // The process ended between the two reads.
    }
  }
  return undefined;
}

function stateOf(pid: number): string | undefined {
  try {
    return /^\d+ \(.*\) (\S)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1];
  } catch {
    return undefined;
  }
}

/** The process that started the container; its mounts are the node's, with the node's programs. */
function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 1);
}

function run(command: string[], limitMs = COMMAND_LIMIT_MS): { exitCode: number; stdout: string; stderr: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { timeout: limitMs, env: { PATH: NODE_PATH } });
  return { exitCode: exitCode ?? -1, stdout: stdout.toString(), stderr: stderr.toString() };
}

let isInNode = false;

/**
 * Changes the root of this process to the node's files, for the node's programs: the image may have none but Bun.
 * @throws Error when that is refused.
 */
function enterNode(pid: number): void {
  if (isInNode) return;
  const { symbols } = dlopen("libc.so.6", { chroot: { args: [FFIType.ptr], returns: FFIType.i32 } });
  const path = Buffer.from(`/proc/${parentOf(pid)}/root\0`);
  if (symbols.chroot(ptr(path)) !== 0) throw new Error("the node's files cannot be entered");
  process.chdir("/");
  isInNode = true;
}

/** Runs a program of the node in the network of a container. @throws Error for the network of the node. */
function inNetworkOf(pid: number, command: string[]) {
  enterNode(pid);
  if (readlinkSync(`/proc/${pid}/ns/net`) === readlinkSync(`/proc/${parentOf(pid)}/ns/net`)) {
    throw new Error("the container uses the node's own network: a cut would isolate the node");
  }
  return run([NSENTER, `--net=/proc/${pid}/ns/net`, "--", ...command]);
}

/** The node's program for packet rules. @throws Error when there is none. */
function ruleProgram(pid: number): string {
  const seen: string[] = [];
  for (const name of RULE_PROGRAMS) {
    const { exitCode, stderr } = inNetworkOf(pid, [name, "-w", "-L", "-n"]);
    if (exitCode === 0) return name;
    seen.push(`${name}: ${stderr.trim().split("\n")[0]}`);
  }
  throw new Error(`the node has no program for packet rules (${seen.join("; ")})`);
}

function rules(pid: number, ...commands: string[][]): void {
  const program = ruleProgram(pid);
  for (const command of commands) {
    const { exitCode, stderr } = inNetworkOf(pid, [program, "-w", ...command]);
    if (exitCode !== 0) throw new Error(`${program} ${command.join(" ")}: ${stderr.trim()}`);
  }
}

/** Arguments that delete the rules of a chain that jump to the drill's chain. */
function jumps(pid: number, program: string, chain: string): string[][] {
  const { stdout } = inNetworkOf(pid, [program, "-w", "-S", chain]);
  return stdout
    .split("\n")
    .filter((line) => line.startsWith("-A ") && line.includes(CHAIN))
    .map((line) => ["-D", ...line.trim().split(/\s+/).slice(1)]);
}

function droppedBy(pid: number): number | undefined {
  const { exitCode, stdout } = inNetworkOf(pid, [ruleProgram(pid), "-w", "-L", CHAIN, "-v", "-x", "-n"]);
  if (exitCode !== 0) return undefined;
  const counts = stdout.split("\n").map((line) => /^\s*(\d+)\s+\d+\s+DROP/.exec(line)?.[1]);
  return counts.reduce((sum, count) => sum + Number(count ?? 0), 0);
}

const VOLUME_LIMIT_MS = 60_000;
/** Mount point of the small volume on the node. */
const SMALL = "/run/conveyor-drill/volume";
const BALLAST = `${SMALL}/.drill-ballast`;

/** $1 the volume's folder, $2 the small volume, $3 its size, $4 the ballast. */
const VOLUME_SCRIPTS: Readonly<Record<Exclude<VolumeStep, "measure">, string>> = {
  shrink: `set -e
    mountpoint -q "$2" && exit 0
    mkdir -p "$2"
    mount -t tmpfs -o size="$3"m,mode=0755 conveyor-drill "$2"
    cp -a "$1/." "$2/"
    mount --bind "$2" "$1"`,
  // dd ends with the error of the full volume, as intended.
  fill: `dd if=/dev/zero of="$4" bs=1M 2>/dev/null; dd if=/dev/zero bs=1 count=4096 2>/dev/null >> "$4"; sync; true`,
  free: `rm -f "$4"`,
  // The content is copied beside the old one and then renamed, so that one of the two is always complete.
  restore: `set -e
    mountpoint -q "$2" || exit 0
    rm -f "$4"
    while mountpoint -q "$1"; do umount "$1"; done
    rm -rf "$1.restored"
    cp -a "$2" "$1.restored"
    rm -rf "$1.before"
    mv "$1" "$1.before"
    mv "$1.restored" "$1"
    umount "$2"
    rm -rf "$1.before" "$2"`,
};

function onNode(pid: number, command: string[]) {
  enterNode(pid);
  return run([NSENTER, `--mount=/proc/${parentOf(pid)}/ns/mnt`, "--", ...command], VOLUME_LIMIT_MS);
}

function volume(pid: number, path: string, step: VolumeStep): AgentAnswer {
  const used = Number(onNode(pid, ["du", "-sm", path]).stdout.split("\t")[0]);
  if (!Number.isInteger(used)) throw new Error(`${path} is not a folder of the node`);
  if (step !== "measure") {
    const size = String(used + SPARE_VOLUME_MEBIBYTES);
    const { exitCode, stderr } = onNode(pid, ["sh", "-c", VOLUME_SCRIPTS[step], "sh", path, SMALL, size, BALLAST]);
    if (exitCode !== 0) throw new Error(`${step} ${path}: ${stderr.trim()}`);
  }
  const free = Number(onNode(pid, ["df", "--output=avail", "-B1", path]).stdout.trim().split("\n").at(-1));
  const isSmall = onNode(pid, ["mountpoint", "-q", SMALL]).exitCode === 0;
  const available = Number(/^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1]);
  return {
    ok: true,
    usedMebibytes: used,
    freeBytes: free,
    isSmall,
    availableMebibytes: Math.floor(available / 1024),
  };
}

function perform(request: AgentRequest): AgentAnswer {
  const pid = firstProcess(request.containerId);
  if (pid === undefined) return { ok: false, code: "no_process", error: "no process of this container on this node" };
  const answer = () => {
    const state = stateOf(pid);
    return { ok: true as const, pid, ...(state === undefined ? {} : { state }) };
  };
  switch (request.op) {
    case "state":
      return answer();
    case "signal":
      process.kill(pid, request.signal);
      return answer();
    case "tools":
      ruleProgram(pid);
      return answer();
    case "cut": {
      const ways = request.ports.flatMap((port) => [
        // Not the loopback interface: the container's own probes must succeed.
        ["-I", "INPUT", "!", "-i", "lo", "-p", "tcp", "--dport", String(port), "-j", CHAIN],
        ["-I", "INPUT", "!", "-i", "lo", "-p", "tcp", "--sport", String(port), "-j", CHAIN],
        ["-I", "OUTPUT", "!", "-o", "lo", "-p", "tcp", "--dport", String(port), "-j", CHAIN],
        ["-I", "OUTPUT", "!", "-o", "lo", "-p", "tcp", "--sport", String(port), "-j", CHAIN],
      ]);
      rules(pid, ["-N", CHAIN], ["-A", CHAIN, "-j", "DROP"], ...ways);
      return { ...answer(), dropped: 0 };
    }
    case "volume":
      return volume(pid, request.path, request.step);
    case "counters": {
      const dropped = droppedBy(pid);
      return { ...answer(), ...(dropped === undefined ? {} : { dropped }) };
    }
    case "uncut": {
      const dropped = droppedBy(pid);
      if (dropped === undefined) return answer();
      const program = ruleProgram(pid);
      const ways = ["INPUT", "OUTPUT"].flatMap((chain) => jumps(pid, program, chain));
      rules(pid, ...ways, ["-F", CHAIN], ["-X", CHAIN]);
      return { ...answer(), dropped };
    }
  }
}

if (import.meta.main) {
  let answer: AgentAnswer;
  try {
    answer = perform(JSON.parse(process.argv[2] ?? "") as AgentRequest);
  } catch (error) {
    answer = { ok: false, code: "failed", error: error instanceof Error ? error.message : String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
