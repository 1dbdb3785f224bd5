/** Fault: a batch of invalid records is written into the topic, past the producer, which would refuse them. */
import { randomBytes } from "node:crypto";
import { DLQ_TOPIC, EVENTS_TOPIC } from "../../services/domain/kafka-layout.ts";
import { OperatorError } from "../cli/errors.ts";
import { HOSTS, KAFKA, KAFKA_CLIENT_PORT } from "../clients/probe-session.ts";
import { withPod } from "../cluster/one-off-pods.ts";
import { BUDGET, type Drill, defineDrill } from "./drill.ts";
import { bundled } from "./fault-agents.ts";
import { getLogs, getPods } from "./targets.ts";

interface RecordLocation {
  partition: number;
  offset: number;
  kind: string;
}

interface InvalidRecords {
  startedAtMs: number;
  placed: RecordLocation[];
}

const WRITE_LIMIT_MS = 30_000;
/** Maximum difference between Kafka's clock and this machine's. */
const CLOCK_SLACK_MS = 60_000;
const MAX_DEAD_LETTERS = 10_000;

export const poisonedBatch: Drill = defineDrill<InvalidRecords>({
  name: "poisoned-batch",
  title: "A batch of invalid records",
  hypothesis: "Each becomes a dead letter with its reason; the valid events around them are stored, and nothing stops.",
  fault: "records of fourteen invalid kinds are written into the topic as one batch, past the producer",
  ...BUDGET.processor,
  recoversFrom: "effect",
  holdMs: 0,
  workloads: ["kafka", "processor"],
  runbook: "DeadLettersFilling",
  commands: [getPods("processor"), getLogs("processor")],
  prepare: async () => ({ startedAtMs: Date.now(), placed: [] }),
  async inject({ cluster, image, signal }, target) {
    const program = await bundled("poisoner");
    target.startedAtMs = Date.now();
    await withPod(
      cluster,
      {
        prefix: "drill-poison",
        image,
        labels: { "app.kubernetes.io/name": "setup", "app.kubernetes.io/instance": "setup" },
        command: ["sleep", "600"],
        environment: {
          TOPIC: EVENTS_TOPIC,
          KAFKA_BROKERS: `${HOSTS.kafka}:${KAFKA_CLIENT_PORT}`,
          RUN_ID: `drill-poison-${randomBytes(4).toString("hex")}`,
        },
        secrets: { "admin-tls": "/certs" },
      },
      signal,
      async (pod) => {
        const { stdout, stderr } = await cluster.exec(pod, ["bun", "run", "-"], {
          input: program,
          timeoutMs: WRITE_LIMIT_MS,
        });
        try {
          target.placed = (JSON.parse(stdout) as { placed: RecordLocation[] }).placed;
        } catch (error) {
          const reason = (stderr || stdout).trim().slice(0, 300);
          throw new OperatorError(`the invalid records could not be written: ${reason}`, { cause: error });
        }
      },
    );
  },
  async proveEffect(_context, { placed }) {
    const [first, last] = [placed[0], placed.at(-1)];
    if (!first || !last) return undefined;
    return {
      proof: `${placed.length} invalid records are in partition ${first.partition}, offsets ${first.offset} to ${last.offset}`,
    };
  },
  // Records in the log cannot be removed, and need not be.
  heal: async () => {},
  async verify({ probe }, { placed, startedAtMs }) {
    const range = { from_timestamp_ms: startedAtMs - CLOCK_SLACK_MS, max: MAX_DEAD_LETTERS };
    const { result } = await probe({ result: { kind: "dlq_read", ...KAFKA, topic: DLQ_TOPIC, ...range } });
    if (!result.ok) return [`the dead letters cannot be read: ${result.outcome} ${result.detail}`];
    const reasons = new Map(
      result.data.map(({ headers }) => [`${headers.source_partition} ${headers.source_offset}`, headers.reason]),
    );
    return placed
      .filter(({ partition, offset }) => !reasons.get(`${partition} ${offset}`))
      .map(
        ({ partition, offset, kind }) =>
          `no dead letter with a reason for ${kind} (partition ${partition}, offset ${offset})`,
      );
  },
});
