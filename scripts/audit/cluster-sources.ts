/** The audit's sources on a cluster: each part is queried itself, over its own protocol. */
import { DLQ_TOPIC, EVENTS_TOPIC, PROCESSOR_GROUP } from "../../services/domain/kafka-layout.ts";
import { LEDGER_CHECKPOINT, type LedgerCheckpoint, readCheckpoint } from "../../services/protocol/ledger-checkpoint.ts";
import type { LogEnd, LogRequest } from "../../services/protocol/log-reader.ts";
import { causeChain, isAbort, OperatorError } from "../cli/errors.ts";
import { nsOfMs } from "../clients/log-backend.ts";
import { deployedLogBackend, openLogStore } from "../clients/log-store.ts";
import { getVerified } from "../clients/pod-metrics.ts";
import { KAFKA, type ProbeSession, readBy } from "../clients/probe-session.ts";
import { type Cluster, KubectlError, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";
import {
  type AuditSources,
  BrokenLogRead,
  type LogEvent,
  MAX_DEAD_LETTERS,
  type ProducerLedger,
  readLogLines,
} from "./sources.ts";

const OPS_PORT = 9464;
const LOG_READER = "/app/log-reader.js";
/** Exit code for an image without the reader; no program of the image uses it. */
const NO_LOG_READER = 64;
/** Reading a million events takes half a minute; beyond this the reader hangs. */
const LOG_LIMIT_MS = 15 * 60_000;
/**
 * Reads of the log until one is complete. Its stream passes through the API server and the kubelet for half a minute per
 * million events, and either may close it. A third break in a row is a fault of the cluster.
 */
const MAX_LOG_READS = 3;
/** Most checkpoints to read: a week of one producer, an hour of a hundred. */
const MAX_CHECKPOINTS = 150_000;
const LOGS_LIMIT_MS = 60_000;

/** Sources of a cluster, through the session's probe pod and database connection. */
export function clusterSources(cluster: Cluster, context: ProbeSession, signal: AbortSignal): AuditSources {
  return {
    ledgers: () => readLedgers(cluster, signal),
    checkpoints: (sinceMs) => readCheckpoints(cluster, sinceMs, signal),
    async offsets() {
      signal.throwIfAborted();
      const { result } = await context.probeFrom("admin", {
        result: { kind: "kafka_offsets", ...KAFKA, topic: EVENTS_TOPIC, group: PROCESSOR_GROUP },
      });
      return readBy(result, "Kafka's offsets");
    },
    async deadLetters(sinceMs) {
      signal.throwIfAborted();
      const { result } = await context.probeFrom("admin", {
        result: { kind: "dlq_read", ...KAFKA, topic: DLQ_TOPIC, from_timestamp_ms: sinceMs, max: MAX_DEAD_LETTERS },
      });
      return readBy(result, "the dead-letter topic");
    },
    log: (range, visit) => readLog(cluster, context, { ...KAFKA, topic: EVENTS_TOPIC, ...range }, visit, signal),
    async pointCounts(filter, range) {
      const store = await context.store();
      return await store.countPoints(filter, range);
    },
    async points(filter, startMs, endMs, visit) {
      const store = await context.store();
      await store.eachPoint(filter, startMs, endMs, visit);
    },
    async fieldCounts(measurement, range) {
      const store = await context.store();
      return await store.countFieldValues(measurement, range);
    },
    async fieldValues(measurement, startMs, endMs, visit) {
      const store = await context.store();
      await store.eachFieldValue(measurement, startMs, endMs, visit);
    },
  };
}

/** Reads the log in the session's pod, again from the start when the stream breaks; each event is visited once. */
export async function readLog(
  cluster: Cluster,
  context: Pick<ProbeSession, "podFor">,
  request: LogRequest,
  visit: (event: LogEvent) => Promise<void> | void,
  signal: AbortSignal,
): Promise<LogEnd | undefined> {
  // An older image has no reader: the shell reports it by its exit code.
  const script = `test -e ${LOG_READER} || exit ${NO_LOG_READER}; exec bun ${LOG_READER}`;
  /** The next offset to visit, per partition; a reader lists the offsets of a partition in ascending order. */
  const next = new Map<number, number>();
  const visitOnce = (event: LogEvent) => {
    if (event.offset < (next.get(event.partition) ?? 0)) return;
    next.set(event.partition, event.offset + 1);
    return visit(event);
  };
  for (let reads = 1; ; reads++) {
    const pod = await context.podFor("admin");
    const lines = cluster.lines(["exec", "-i", pod, "-n", NAMESPACE, "--", "sh", "-c", script], signal, {
      input: JSON.stringify(request),
      timeoutMs: LOG_LIMIT_MS,
      mustSucceed: true,
      skipCutEnd: true,
    });
    try {
      return await readLogLines(lines, visitOnce);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof KubectlError && error.result.exitCode === NO_LOG_READER) return undefined;
      const isBroken = error instanceof KubectlError || error instanceof BrokenLogRead;
      if (!isBroken || reads === MAX_LOG_READS) throw error;
    }
  }
}

async function readLedgers(cluster: Cluster, signal: AbortSignal) {
  const ca = (await readSecret(cluster, "producer-tls"))["ca.crt"] ?? "";
  const pods = await cluster.runningPods("producer");
  const ledgers: ProducerLedger[] = [];
  const unresponsive: string[] = [];
  await Promise.all(
    pods.map(async ({ metadata }) => {
      try {
        await using forward = await cluster.portForward(`pod/${metadata.name}`, OPS_PORT, NAMESPACE);
        const answer = await getVerified(forward.port, "/ledger", ca, `producer.${NAMESPACE}.svc`, signal);
        if (answer.status !== 200) throw new OperatorError(`/ledger of ${metadata.name} answered ${answer.status}`);
        ledgers.push(JSON.parse(answer.body) as ProducerLedger);
      } catch (error) {
        // It is ending, starting or frozen: its logged checkpoints are judged, the rest is unknown.
        if (signal.aborted || isAbort(error)) throw error;
        unresponsive.push(metadata.name);
      }
    }),
  );
  return { ledgers, unresponsive };
}

/** Reads checkpoints from the existing pods, their previous container included, and from the log store, which has those of deleted pods. */
async function readCheckpoints(cluster: Cluster, sinceMs: number, signal: AbortSignal) {
  const lines: LedgerCheckpoint[] = [];
  const gaps: string[] = [];
  const take = (text: string) => {
    const line = readCheckpoint(text);
    if (line && lines.length < MAX_CHECKPOINTS) lines.push(line);
  };
  const sinceTime = new Date(sinceMs).toISOString();
  const pods = await cluster.list<Pod>("pods", "app.kubernetes.io/name=producer");
  await Promise.all(
    pods.flatMap(({ metadata, status }) => {
      const restarts = status.containerStatuses?.[0]?.restartCount ?? 0;
      const ask = async (more: readonly string[]) => {
        const args = ["logs", metadata.name, "-n", NAMESPACE, `--since-time=${sinceTime}`, "--tail=-1", ...more];
        const { stdout } = await cluster.kubectl(args, { allowFailure: true, timeoutMs: LOGS_LIMIT_MS, signal });
        for (const text of stdout.split("\n")) take(text);
      };
      return restarts > 0 ? [ask([]), ask(["--previous"])] : [ask([])];
    }),
  );
  try {
    if (await deployedLogBackend(cluster)) {
      await using store = await openLogStore(cluster);
      const range = { startNs: nsOfMs(sinceMs), endNs: nsOfMs(Date.now() + 1000) };
      const search = { services: [], levels: [], grep: LEDGER_CHECKPOINT };
      for await (const entries of store.all(search, range, signal)) for (const { line } of entries) take(line);
    } else {
      gaps.push("no log store is deployed: checkpoints of deleted producers are not known");
    }
  } catch (error) {
    signal.throwIfAborted();
    gaps.push(`the log store could not be queried: ${causeChain(error).join(": ").slice(0, 200)}`);
  }
  if (lines.length >= MAX_CHECKPOINTS) gaps.push(`only the first ${MAX_CHECKPOINTS} checkpoints were read`);
  return { lines, gap: gaps.join("; ") || undefined };
}
