/** Requests to services/tools/node-agent.ts and its answers, one JSON document per call. */

export type AgentAction =
  | { op: "signal"; signal: "SIGKILL" | "SIGSTOP" | "SIGCONT" }
  /** `ports`: packets from or to these TCP ports of either side are dropped. */
  | { op: "cut"; ports: number[] }
  | { op: "counters" }
  | { op: "uncut" }
  | { op: "state" }
  /** Checks that the node has the programs that a cut needs. */
  | { op: "tools" }
  /** A volume that is a folder of the node: replaced by a small one with the same content, filled, emptied, restored. */
  | { op: "volume"; step: VolumeStep; path: string };

/** Largest content of a volume that is replaced: its copy is in the node's memory. */
export const MAX_VOLUME_MEBIBYTES = 1024;
/** Free space of the small volume: the 64 MiB that InfluxDB's start script requires, and enough for minutes. */
export const SPARE_VOLUME_MEBIBYTES = 160;

export type VolumeStep = "measure" | "shrink" | "fill" | "free" | "restore";

export type AgentRequest = AgentAction & { containerId: string };

export type AgentErrorCode = "no_process" | "failed";
export type AgentAnswer = ({ ok: true } & AgentState) | { ok: false; code: AgentErrorCode; error: string };

/** State after the action; only the fields that the action is about. */
export interface AgentState {
  /** Process id of the container's first process on the node. */
  pid?: number;
  /** State of /proc/PID/stat: R, S, T (frozen), … */
  state?: string;
  /** Packets that the cut has dropped; absent without a cut. */
  dropped?: number;
  /** MiB in the volume, and whether it is the small volume of a drill. */
  usedMebibytes?: number;
  isSmall?: boolean;
  freeBytes?: number;
  /** Memory of the node that a small volume could take. */
  availableMebibytes?: number;
}
