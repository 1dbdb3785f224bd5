/**
 * Records the history of the running pipeline, as somebody who trusts none of its parts would: what the producers say
 * was acknowledged, what two fresh readers find in Kafka, what the group has committed, what stands in InfluxDB and in
 * the dead-letter topic. Nothing is judged here (scripts/toolkit/verdict.ts).
 *
 * The order makes the sets comparable while events flow: first what was acknowledged; then an end of the log, which is
 * behind all of that; then the wait until the group has committed up to that end; then the dead letters, the log up to
 * that end, and the database. What was attempted is read last, so that it covers everything found before.
 */
import { DLQ_TOPIC, EVENTS_TOPIC, PROCESSOR_GROUP } from "../../services/domain/kafka-layout.ts";
import type { Range } from "../../services/domain/sequence.ts";
import type { LogPage } from "../../services/probe.ts";
import { BROKERS, type CheckContext, OWN_TLS, type Probe, type ProbeResult } from "../checks/context.ts";
import { type Cluster, NAMESPACE } from "../toolkit/cluster.ts";
import { EXIT, OperatorError } from "../toolkit/errors.ts";
import type { HistoryMeta, HistoryWriter } from "../toolkit/history.ts";
import { readSecret } from "../toolkit/live-secrets.ts";
import type { Report } from "../toolkit/report.ts";
import { getVerified } from "../toolkit/scrape.ts";
import { pause } from "../toolkit/wait.ts";

const OPS_PORT = 9464;
/** The group commits several times a second; a backlog beyond this is reported as unread, not waited for. */
const COMMIT_LIMIT_MS = 60_000;
const COMMIT_LOOK_MS = 1000;
/** A page of the log takes seconds; the probe's own limit is a minute. */
const LOG_PAGE_LIMIT_MS = 50_000;
/** Pages of one reading: some twelve million records. A longer window is refused before it fills a disk. */
const MAX_LOG_PAGES = 200;
const MAX_LETTERS = 100_000;
/** The database is read in slices, so that it never sorts more than this much at once… */
const SINK_SLICE_MS = 10 * 60_000;
/** …and in no more than so many, however old some events are. */
const MAX_SINK_SLICES = 200;

/** What a producer says of itself at /ledger. */
export interface ProducerLedger {
  pod: string;
  /** The run of its simulated fleet; other runs came over HTTP. */
  run: string;
  started_at: string;
  repeated: number;
  dropped_from_ledger: number;
  runs: Record<string, Record<string, Range[]>>;
}

export interface RecordOptions {
  cluster: Cluster;
  context: CheckContext;
  writer: HistoryWriter;
  report: Report;
  signal: AbortSignal;
  /** Records of Kafka since this moment are judged. */
  sinceMs: number;
  /** Only this run; otherwise the runs of the producers' own fleets. */
  run: string | undefined;
}

export interface Recording {
  meta: HistoryMeta;
  runs: string[];
  /** Acknowledged before the window, so not judged. */
  acknowledged_before: number;
  /** Acknowledged events of other runs in the producers' ledgers, not judged. */
  acknowledged_elsewhere: number;
}

/** The ledgers of all running producers. @throws OperatorError when one does not answer. */
export async function readLedgers(cluster: Cluster, signal: AbortSignal): Promise<ProducerLedger[]> {
  const ca = (await readSecret(cluster, "producer-tls"))["ca.crt"] ?? "";
  const pods = (await cluster.pods("producer")).filter(({ status }) => status.phase === "Running");
  return await Promise.all(
    pods.map(async ({ metadata }) => {
      const forward = await cluster.portForward(`pod/${metadata.name}`, OPS_PORT, NAMESPACE);
      try {
        const answer = await getVerified(forward.port, "/ledger", ca, `producer.${NAMESPACE}.svc`, signal);
        if (answer.status !== 200) throw new OperatorError(`/ledger of ${metadata.name} answered ${answer.status}`);
        return JSON.parse(answer.body) as ProducerLedger;
      } finally {
        await forward.close();
      }
    }),
  );
}

/** The first sequence number of each run and conveyor that the window holds: nothing before it is judged. */
export class Window {
  readonly #first = new Map<string, number>();

  see(run: string, conveyor: string, seq: number): void {
    const key = `${run}\n${conveyor}`;
    const first = this.#first.get(key);
    if (first === undefined || seq < first) this.#first.set(key, seq);
  }

  /** Undefined: the window holds nothing of it. */
  first(run: string, conveyor: string): number | undefined {
    return this.#first.get(`${run}\n${conveyor}`);
  }

  /** The parts of some ranges that lie in the window, and how many numbers lie before it. */
  clip(run: string, conveyor: string, ranges: readonly Range[]): { inside: Range[]; before: number } {
    const first = this.first(run, conveyor) ?? Number.POSITIVE_INFINITY;
    let before = 0;
    const inside: Range[] = [];
    for (const [from, to] of ranges) {
      if (to < first) before += to - from + 1;
      else {
        before += Math.max(0, first - from);
        inside.push([Math.max(from, first), to]);
      }
    }
    return { inside, before };
  }
}

interface Offsets {
  partition: number;
  begin: number;
  end: number;
  committed?: number;
}

interface Letter {
  headers: Record<string, string>;
}

/** Writes the history of the running pipeline; the writer stays open. */
export async function recordHistory(options: RecordOptions): Promise<Recording> {
  const { cluster, context, writer, report, signal, sinceMs } = options;
  const kafka = { brokers: BROKERS, tls: OWN_TLS };
  const ask = async (probe: Probe): Promise<ProbeResult> => {
    signal.throwIfAborted();
    return (await context.probeFrom("admin", [probe])).get(probe.id)!;
  };
  const demand = async <T>(probe: Probe, what: string): Promise<T> => {
    const result = await ask(probe);
    if (!result.ok) throw new OperatorError(`${what} cannot be read: ${result.outcome} ${result.detail}`);
    return result.data as T;
  };
  const meta: HistoryMeta = {
    attempts_complete: false,
    quiescent: false,
    not_recorded: {
      writes: "the processor counts its writes, it does not list them",
      faults: "an audit makes none",
    },
  };

  // 1. What was acknowledged, before anything else is looked at.
  const before = await report.step("producers' ledgers", async (step) => {
    const ledgers = await readLedgers(cluster, signal);
    step.update(`${ledgers.length} producers`);
    return ledgers;
  });
  const runs = options.run === undefined ? before.map(({ run }) => run) : [options.run];
  if (runs.length === 0) {
    throw new OperatorError("no producer is running: nobody can say what was acknowledged", {
      exitCode: EXIT.precondition,
      hint: "bun scripts/audit.ts --run RUN judges what Kafka holds of one run",
    });
  }
  const repeated = before.reduce((sum, ledger) => sum + ledger.repeated, 0);
  if (repeated > 0) {
    meta.idempotent_producer = false;
    meta.retries = repeated;
  }

  // 2. An end of the log behind all of that, and the group's way to it.
  const offsetsProbe = { id: "offsets", kind: "kafka_offsets", ...kafka, topic: EVENTS_TOPIC, group: PROCESSOR_GROUP };
  const offsets = await report.step(
    "the processor's offsets",
    async (step) => {
      const first = await demand<Offsets[]>(offsetsProbe, "Kafka's offsets");
      const ends = new Map(first.map(({ partition, end }) => [partition, end]));
      const startedAt = performance.now();
      for (let now = first; ; now = await demand<Offsets[]>(offsetsProbe, "Kafka's offsets")) {
        const behind = now.reduce(
          (sum, { partition, committed }) => sum + Math.max(0, (ends.get(partition) ?? 0) - (committed ?? 0)),
          0,
        );
        if (now.some(({ committed }) => committed === undefined)) {
          meta.not_recorded!.commits = "the deployed image is older than this command";
          step.update("not told by the deployed image");
          return { ends, committed: undefined };
        }
        step.update(behind === 0 ? "all read and committed" : `${behind} behind`);
        if (behind === 0 || performance.now() - startedAt > COMMIT_LIMIT_MS) {
          return { ends, committed: now.map(({ partition, committed }) => ({ partition, offset: committed! })) };
        }
        await pause(COMMIT_LOOK_MS, signal);
      }
    },
    { limitMs: COMMIT_LIMIT_MS },
  );
  for (const commit of offsets.committed ?? []) await writer.append("commits", commit);

  // 3. The dead letters. One of the processor's names the record that it refused: the log gives the identity.
  const refusedAt = new Map<string, string>();
  await report.step("dead letters", async (step) => {
    const letters = await demand<Letter[]>(
      { id: "letters", kind: "dlq_read", ...kafka, topic: DLQ_TOPIC, from_timestamp_ms: sinceMs, max: MAX_LETTERS },
      "the dead-letter topic",
    );
    await writer.begin("dlq");
    for (const { headers } of letters) {
      const reason = headers.reason ?? "none";
      if (headers.source_offset !== undefined)
        refusedAt.set(`${headers.source_partition} ${headers.source_offset}`, reason);
      else await writer.append("dlq", { reason });
    }
    step.update(`${letters.length}`);
  });

  // 4. The log, by two readers that know nothing of each other.
  const window = new Window();
  let oldestMs = sinceMs;
  let newestMs = Date.now();
  const to = [...offsets.ends].map(([partition, offset]) => ({ partition, offset }));
  for (const reader of [1, 2]) {
    const isRead = await report.step(`Kafka's log, reader ${reader} of 2`, async (step) => {
      let from: LogPage["next"] | undefined;
      let listed = 0;
      for (let pageNumber = 0; pageNumber < MAX_LOG_PAGES; pageNumber++) {
        const result = await ask({
          id: "log",
          kind: "log_read",
          ...kafka,
          topic: EVENTS_TOPIC,
          timeout_ms: LOG_PAGE_LIMIT_MS,
          runs,
          to,
          ...(from ? { from } : { from_timestamp_ms: sinceMs }),
        });
        if (!result.ok && result.detail.includes("is not a probe")) {
          meta.not_recorded!.log = "the deployed image is older than this command";
          step.update("not told by the deployed image");
          return false;
        }
        if (!result.ok) throw new OperatorError(`Kafka's log cannot be read: ${result.outcome} ${result.detail}`);
        const page = result.data as LogPage;
        await writer.begin("log");
        for (const [partition, offset, run, conveyor, seq, tsMs, hash] of page.rows) {
          const identity = { run: page.runs[run]!, conveyor: page.conveyors[conveyor]!, seq };
          await writer.append("log", { reader, partition, offset, ...identity, hash, ts_ms: tsMs });
          if (reader !== 1) continue;
          window.see(identity.run, identity.conveyor, seq);
          oldestMs = Math.min(oldestMs, tsMs);
          newestMs = Math.max(newestMs, tsMs);
          const reason = refusedAt.get(`${partition} ${offset}`);
          if (reason !== undefined) await writer.append("dlq", { ...identity, reason });
        }
        listed += page.rows.length;
        step.update(`${listed} events`);
        from = page.next;
        if (page.next.every(({ partition, offset }) => offset >= (offsets.ends.get(partition) ?? 0))) return true;
      }
      throw new OperatorError(`the window holds more than ${MAX_LOG_PAGES} pages of the log`, {
        exitCode: EXIT.usage,
        hint: "a shorter --since",
      });
    });
    if (!isRead) break;
  }
  const hasLog = meta.not_recorded!.log === undefined;

  // 5. The database, over the times that the log's events have.
  await report.step("InfluxDB's points", async (step) => {
    const store = await context.store();
    await writer.begin("sink");
    const endMs = Math.max(Date.now(), newestMs) + 1;
    const sliceMs = Math.max(SINK_SLICE_MS, Math.ceil((endMs - oldestMs) / MAX_SINK_SLICES));
    let points = 0;
    for (let startMs = oldestMs; startMs < endMs; startMs += sliceMs) {
      signal.throwIfAborted();
      await store.eachPoint(runs, startMs, Math.min(endMs, startMs + sliceMs), async (point) => {
        const { run, conveyor, seq, timestampNs } = point;
        if (!hasLog) window.see(run, conveyor, seq);
        const first = window.first(run, conveyor);
        if (first === undefined || seq < first) return;
        points++;
        await writer.append("sink", { run, conveyor, seq, t_ns: timestampNs });
      });
      step.update(`${points} points`);
    }
  });

  // 6. What was attempted: everything acknowledged by now covers what was found a moment ago.
  const after = await readLedgers(cluster, signal);
  const ledgersOf = (ledgers: readonly ProducerLedger[]) =>
    ledgers.flatMap((ledger) =>
      Object.entries(ledger.runs).flatMap(([run, conveyors]) =>
        Object.entries(conveyors).map(([conveyor, ranges]) => ({ run, conveyor, ranges })),
      ),
    );
  const isKnown = [...before, ...after].some((ledger) => runs.some((run) => ledger.runs[run]));
  if (!isKnown) {
    meta.not_recorded!.attempts = "no running producer lists this run";
    meta.not_recorded!.outcomes = meta.not_recorded!.attempts;
    return { meta, runs, acknowledged_before: 0, acknowledged_elsewhere: 0 };
  }
  await writer.begin("attempts");
  await writer.begin("outcomes");
  for (const { run, conveyor, ranges } of ledgersOf([...before, ...after])) {
    if (!runs.includes(run)) continue;
    for (const [seq, last] of window.clip(run, conveyor, ranges).inside) {
      await writer.append("attempts", { run, conveyor, seq, last_seq: last });
    }
  }
  let acknowledgedBefore = 0;
  let acknowledgedElsewhere = 0;
  for (const { run, conveyor, ranges } of ledgersOf(before)) {
    if (!runs.includes(run)) {
      acknowledgedElsewhere += ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);
      continue;
    }
    const { inside, before: outside } = window.clip(run, conveyor, ranges);
    acknowledgedBefore += outside;
    for (const [seq, last] of inside) {
      await writer.append("outcomes", { run, conveyor, seq, last_seq: last, outcome: "ok" });
    }
  }
  return { meta, runs, acknowledged_before: acknowledgedBefore, acknowledged_elsewhere: acknowledgedElsewhere };
}
