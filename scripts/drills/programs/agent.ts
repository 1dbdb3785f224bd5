/**
 * What a drill does on a node, as one short program: it runs in a privileged pod that sees the node's processes, and
 * does one thing per call, named by a JSON argument. It prints one JSON document.
 *
 * The first process of a container cannot be killed or frozen from inside the container, and a NetworkPolicy does not
 * end connections that stand: so both are done from the node, where the effect can be read back (a process' state, the
 * counter of a rule).
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

export type AgentAction =
  | { op: "signal"; signal: "SIGKILL" | "SIGSTOP" | "SIGCONT" }
  /** `ports`: packets from or to these TCP ports of either side are dropped. */
  | { op: "cut"; ports: number[] }
  | { op: "counters" }
  | { op: "uncut" }
  | { op: "state" }
  /** Does the node have what a cut needs? */
  | { op: "tools" };

export type AgentRequest = AgentAction & { containerId: string };

export interface AgentAnswer {
  ok: boolean;
  error?: string;
  /** The container's first process, as the node numbers it. */
  pid?: number;
  /** Letter of /proc/PID/stat: R, S, T (frozen), … */
  state?: string;
  /** Packets that the cut has dropped; undefined: there is no cut. */
  dropped?: number;
}

/** The chain that holds a drill's rules: its name is how leftovers are found. */
const CHAIN = "CONVEYOR-DRILL";
/** Programs for packet rules, by the names that nodes have them under. */
const RULE_PROGRAMS = ["iptables", "iptables-legacy", "iptables-nft"];
const COMMAND_LIMIT_MS = 10_000;

/** The container's first process: the one that is number 1 in its own numbering. */
function firstProcess(containerId: string): number | undefined {
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      if (!readFileSync(`/proc/${entry}/cgroup`, "utf8").includes(containerId)) continue;
      const numbers = /^NSpid:\s+(.+)$/m.exec(readFileSync(`/proc/${entry}/status`, "utf8"))?.[1]?.split(/\s+/);
      if (numbers?.at(-1) === "1") return Number(entry);
    } catch {
      // The process ended between the two looks.
    }
  }
  return undefined;
}

/** State letter of a process, or undefined when it is gone. */
function stateOf(pid: number): string | undefined {
  try {
    return /^\d+ \(.*\) (\S)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1];
  } catch {
    return undefined;
  }
}

/** The process that started the container: it lives in the node's own mounts, where the node's programs are. */
function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 1);
}

function run(command: string[]): { exitCode: number; stdout: string; stderr: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { timeout: COMMAND_LIMIT_MS });
  return { exitCode: exitCode ?? -1, stdout: stdout.toString(), stderr: stderr.toString() };
}

/** Runs a program of the node in the network of a container. */
function inNetworkOf(pid: number, command: string[]) {
  if (readlinkSync(`/proc/${pid}/ns/net`) === readlinkSync(`/proc/${parentOf(pid)}/ns/net`)) {
    throw new Error("the container uses the node's own network: a cut would cut the node");
  }
  return run(["nsenter", `--mount=/proc/${parentOf(pid)}/ns/mnt`, `--net=/proc/${pid}/ns/net`, "--", ...command]);
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

/** Rules of a chain that jump to the drill's chain, as arguments that delete them. */
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

function perform(request: AgentRequest): AgentAnswer {
  const pid = firstProcess(request.containerId);
  if (pid === undefined) return { ok: false, error: "no process of this container on this node" };
  const answer = (): AgentAnswer => {
    const state = stateOf(pid);
    return { ok: true, pid, ...(state === undefined ? {} : { state }) };
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
        ["-I", "INPUT", "-p", "tcp", "--dport", String(port), "-j", CHAIN],
        ["-I", "INPUT", "-p", "tcp", "--sport", String(port), "-j", CHAIN],
        ["-I", "OUTPUT", "-p", "tcp", "--dport", String(port), "-j", CHAIN],
        ["-I", "OUTPUT", "-p", "tcp", "--sport", String(port), "-j", CHAIN],
      ]);
      rules(pid, ["-N", CHAIN], ["-A", CHAIN, "-j", "DROP"], ...ways);
      return { ...answer(), dropped: 0 };
    }
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
    answer = { ok: false, error: error instanceof Error ? error.message : String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
