/**
 * The drills' own traffic as the host sees it: starts the sender's pod, follows what it says, and gives its account at
 * the end. The account is read again from the pod's whole log, so that nothing depends on a stream that may break.
 */

import type { AttemptRecord, OutcomeRecord } from "../audit/history.ts";
import { OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { type Cluster, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { type OneOffPod, startPod } from "../cluster/one-off-pods.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { DRILLS_NAMESPACE, PROGRAMS, prepareNamespace } from "./fault-agents.ts";

/** Enough to see a gap of a tenth of a second, little enough to leave two cores to the pipeline. */
export const EVENTS_PER_SECOND = 100;
/** One for each partition of the topic (Kafka's partitioner, 6 partitions), so that no part of the way goes unused. */
export const CONVEYORS = ["drill-2", "drill-0", "drill-1", "drill-5", "drill-11", "drill-7"];
/** The sender itself gives up 40 s after it was told to end. */
const END_LIMIT_MS = 60_000;
/** An hour at the full rate is some ten megabytes of lines. */
const LOG_LIMIT_MS = 60_000;
const SECRET = "drill-intake";

export interface TrafficCounts {
  offered: number;
  acknowledged: number;
  unknown: number;
  /** Sent once more, because no answer came; each may stand in Kafka twice. */
  again: number;
}

export interface TrafficOutcomes extends TrafficCounts {
  run: string;
  attempts: AttemptRecord[];
  outcomes: OutcomeRecord[];
}

/** What the runner needs of the traffic. */
export interface Traffic {
  readonly run: string;
  readonly startedAtMs: number;
  counts(): TrafficCounts;
  /**
   * The longest that a batch has waited for its acknowledgement since this was asked last: of those under way, and of those
   * that were answered meanwhile, so that no wait falls between two looks.
   */
  waitedMs(nowMs: number): number;
  /** Makes no more events, waits for what is under way (unless `atOnce`), takes the sender away. */
  stop(atOnce?: boolean): Promise<TrafficOutcomes>;
}

type Line = {
  attempt?: [string, number, number];
  outcome?: "ok" | "unknown";
  batch?: [string, number, number];
  again?: number;
  why?: string;
  done?: TrafficCounts;
  started?: string;
  t: number;
};

/** Adds what the sender's lines say to an account; what is not a line of its own is skipped. */
export function readLines(run: string, text: string): TrafficOutcomes & { done: boolean } {
  const account = {
    run,
    offered: 0,
    acknowledged: 0,
    unknown: 0,
    again: 0,
    attempts: [] as AttemptRecord[],
    outcomes: [] as OutcomeRecord[],
    done: false,
  };
  for (const line of text.split("\n")) {
    if (!line.startsWith("{")) continue;
    let said: Line;
    try {
      said = JSON.parse(line) as Line;
    } catch {
      continue;
    }
    if (said.attempt) {
      const [conveyor, seq, last] = said.attempt;
      account.offered += last - seq + 1;
      account.attempts.push({ run, conveyor, seq, last_seq: last, t_ms: said.t });
    }
    if (said.outcome && said.batch) {
      const [conveyor, seq, last] = said.batch;
      if (said.outcome === "ok") account.acknowledged += last - seq + 1;
      else account.unknown += last - seq + 1;
      account.outcomes.push({ run, conveyor, seq, last_seq: last, outcome: said.outcome, t_ms: said.t });
    }
    if (said.again) account.again += said.again;
    if (said.done) account.done = true;
  }
  return account;
}

/** How long batches wait for their acknowledgement, from the sender's own times. */
export class Waits {
  /** Conveyor → when its batch that is under way was first sent. */
  readonly #open = new Map<string, number>();
  #longestAnsweredMs = 0;

  /** Takes in what the sender said, in its order. */
  add({ attempts, outcomes }: Pick<TrafficOutcomes, "attempts" | "outcomes">): void {
    const said = [
      ...attempts.map(({ conveyor, t_ms = 0 }) => ({ conveyor, t_ms, isAttempt: true })),
      ...outcomes.map(({ conveyor, t_ms = 0 }) => ({ conveyor, t_ms, isAttempt: false })),
      // An answer in the millisecond of its attempt stands behind it; the next attempt comes a pause later.
    ].sort((a, b) => a.t_ms - b.t_ms || Number(b.isAttempt) - Number(a.isAttempt));
    for (const { conveyor, t_ms, isAttempt } of said) {
      if (isAttempt) {
        this.#open.set(conveyor, t_ms);
        continue;
      }
      const since = this.#open.get(conveyor);
      this.#open.delete(conveyor);
      if (since !== undefined) this.#longestAnsweredMs = Math.max(this.#longestAnsweredMs, t_ms - since);
    }
  }

  /** The longest since this was asked last. */
  take(nowMs: number): number {
    const longest = Math.max(this.#longestAnsweredMs, ...[...this.#open.values()].map((since) => nowMs - since));
    this.#longestAnsweredMs = 0;
    return longest;
  }
}

function senderPod(name: string, run: string, image: string): OneOffPod {
  return {
    prefix: "sender",
    name,
    namespace: DRILLS_NAMESPACE,
    image,
    labels: { "app.kubernetes.io/name": "drill-sender", "conveyor.dev/intake-client": "true" },
    command: ["bun", "/programs/sender.js"],
    environment: {
      RUN_ID: run,
      INTAKE_URL: `https://producer.${NAMESPACE}.svc.cluster.local:8443`,
      EVENTS_PER_SECOND: String(EVENTS_PER_SECOND),
      CONVEYORS: CONVEYORS.join(","),
    },
    secrets: { [SECRET]: "/secrets" },
    configMaps: { [PROGRAMS]: "/programs" },
  };
}

/** Once per run. */
const intakes = new WeakMap<Cluster, Promise<void>>();

/** What a sender needs to be let in: the intake's token and its CA, as a Secret of the drills' namespace. */
function prepareIntake(cluster: Cluster): Promise<void> {
  let preparing = intakes.get(cluster);
  if (!preparing) {
    preparing = (async () => {
      await prepareNamespace(cluster);
      const token = (await readSecret(cluster, "producer-intake")).token;
      const ca = (await readSecret(cluster, "producer-tls"))["ca.crt"];
      if (!token || !ca) {
        throw new OperatorError("the intake's token or CA is missing", { hint: "bun scripts/deploy.ts" });
      }
      const metadata = { name: SECRET, namespace: DRILLS_NAMESPACE };
      await cluster.apply([{ apiVersion: "v1", kind: "Secret", metadata, stringData: { token, "ca.crt": ca } }]);
    })();
    intakes.set(cluster, preparing);
    preparing.catch(() => intakes.delete(cluster));
  }
  return preparing;
}

/** Starts the sender of one drill. @throws OperatorError when it does not start. */
export async function startTraffic(
  cluster: Cluster,
  image: string,
  run: string,
  signal: AbortSignal,
): Promise<Traffic> {
  await prepareIntake(cluster);
  const name = `sender-${run}`
    .toLowerCase()
    .slice(0, 62)
    .replace(/[^a-z0-9]+$/, "");
  const pod = await startPod(cluster, senderPod(name, run, image), signal);
  const startedAtMs = Date.now();
  const counts: TrafficCounts = { offered: 0, acknowledged: 0, unknown: 0, again: 0 };
  const waits = new Waits();
  const followed = new AbortController();
  void (async () => {
    const parse = (line: string) => readLines(run, line);
    for await (const more of cluster.follow(name, parse, followed.signal, DRILLS_NAMESPACE)) {
      counts.offered += more.offered;
      counts.acknowledged += more.acknowledged;
      counts.unknown += more.unknown;
      counts.again += more.again;
      waits.add(more);
    }
  })().catch(() => {});
  const log = async () =>
    (await cluster.kubectl(["logs", name, "-n", DRILLS_NAMESPACE], { timeoutMs: LOG_LIMIT_MS })).stdout;
  return {
    run,
    startedAtMs,
    counts: () => ({ ...counts }),
    waitedMs: (nowMs) => waits.take(nowMs),
    async stop(atOnce = false) {
      try {
        if (atOnce) return readLines(run, await log());
        await cluster.exec(name, ["bun", "-e", "process.kill(1, 'SIGTERM')"], { namespace: DRILLS_NAMESPACE });
        return await waitFor(
          async () => {
            const phase = (await cluster.get<Pod>("pod", name, DRILLS_NAMESPACE))?.status.phase;
            if (phase !== "Succeeded" && phase !== "Failed") return { done: false, state: `sender ${phase}` };
            const account = readLines(run, await log());
            return account.done ? { done: true, value: account } : { done: false, state: "its record has no end" };
          },
          { what: "the drill's sender to end", limitMs: END_LIMIT_MS },
        );
      } finally {
        followed.abort();
        await pod.remove();
      }
    },
  };
}
