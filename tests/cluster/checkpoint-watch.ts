/**
 * Listens to the producers while something is done to them. What a pod said is gone with the pod where no Loki keeps it;
 * whoever deletes one listens beforehand, and gives what was heard to the audit (auditRuns' `checkpoints`).
 */

import { type CheckpointLine, readCheckpoint } from "../../scripts/audit/checkpoints.ts";
import { type Cluster, NAMESPACE, type Pod } from "../../scripts/cluster/cluster.ts";

/** A new pod says nothing of its ledger for five seconds. */
const LOOK_MS = 2000;
/** A week of one producer: what a watch may hold. */
const MAX_LINES = 150_000;

export interface CheckpointWatch {
  /** What was heard so far, from each producer's beginning on. */
  readonly lines: readonly CheckpointLine[];
  /** Ends the listening; what was heard stays. */
  close(): Promise<void>;
}

/** Begins to listen to every producer that is there, and to those that come. */
export function watchCheckpoints(cluster: Cluster, signal?: AbortSignal): CheckpointWatch {
  const lines: CheckpointLine[] = [];
  const followed = new Map<string, Bun.Subprocess<"ignore", "pipe", "ignore">>();
  let isClosed = false;

  const follow = async (key: string, pod: string): Promise<void> => {
    const command = cluster.commandLine(["logs", "--follow", "--tail=-1", pod, "-n", NAMESPACE]);
    const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "ignore" });
    followed.set(key, child);
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of child.stdout as unknown as AsyncIterable<Uint8Array>) {
      const texts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = texts.pop() ?? "";
      for (const text of texts) {
        const line = readCheckpoint(text);
        if (line && lines.length < MAX_LINES) lines.push(line);
      }
    }
    // The container ended, or the API server closed the connection: the next look follows whatever is there then.
    followed.delete(key);
  };
  const look = async (): Promise<void> => {
    const pods = await cluster.list<Pod>("pods", "app.kubernetes.io/name=producer").catch(() => []);
    for (const { metadata, status } of pods) {
      const [container] = status.containerStatuses ?? [];
      if (isClosed || !container?.state.running) continue;
      const key = `${metadata.uid}/${container.restartCount}`;
      if (!followed.has(key)) void follow(key, metadata.name).catch(() => followed.delete(key));
    }
  };
  void look();
  const timer = setInterval(() => void look(), LOOK_MS);
  const close = async () => {
    isClosed = true;
    clearInterval(timer);
    const children = [...followed.values()];
    for (const child of children) child.kill();
    await Promise.all(children.map(({ exited }) => exited));
  };
  signal?.addEventListener("abort", () => void close(), { once: true });
  return { lines, close };
}
