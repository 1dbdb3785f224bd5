/**
 * Replay of dead letters: records like the processor's for refused events, produced into the real topic with Kafka's own
 * tool; then the command, twice; then the points in InfluxDB.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { TelemetryStore } from "../../scripts/clients/influxdb.ts";
import type { Cluster } from "../../scripts/cluster/cluster.ts";
import { createDeadLetter } from "../../services/domain/dead-letter.ts";
import { serializeEvent } from "../../services/domain/event.ts";
import { DLQ_TOPIC, EVENTS_TOPIC } from "../../services/domain/kafka-layout.ts";
import { cluster, describeOnCluster, newRun, scriptDocument, testEvent } from "./harness.ts";
import { kafkaTool, LIST_LEFT } from "./kafka-tool.ts";

const LIMIT_MS = 180_000;
const EVENTS = 3;
/** Beyond the offsets of a test cluster: an audit must not take another event for the refused one. */
const UNUSED_OFFSET = 1_000_000_000_000;

/** A line is headers, a tab, and the body. */
const PRODUCE = kafkaTool("ConsoleProducer", 9091, [
  ...["--topic", DLQ_TOPIC],
  ...["--reader-property", "parse.headers=true", "--reader-property", "headers.separator='##'"],
]);

let target: Cluster;
const run = newRun("letters");
const startMs = Date.now();

interface Replay {
  valid: number;
  already_stored: number;
  still_refused: number;
  sent: number;
  stored: number;
  would_send?: number;
}

async function replay(...flags: string[]): Promise<Replay> {
  const args = ["scripts/dead-letters.ts", "replay", "--local", "--since", "10m", "--run", run, ...flags];
  return await scriptDocument<Replay>(args, { limitMs: LIMIT_MS });
}

describeOnCluster("dead letters", () => {
  let store: TelemetryStore;
  beforeAll(async () => {
    target = await cluster();
    store = await TelemetryStore.open(target);
    const bodies = Array.from({ length: EVENTS }, (_, seq) =>
      serializeEvent(testEvent(run, "test-letters", seq, startMs + seq)),
    );
    // One that stays invalid: it is counted and never sent.
    bodies.push(bodies[0]!.replace('"state":"running"', '"state":"dancing"'));
    const lines = bodies.map((body, index) => {
      const { headers } = createDeadLetter(
        { reason: "refused_by_database", detail: "load_kg is of another type in this shard" },
        { source: "kafka", topic: EVENTS_TOPIC, partition: 0, offset: String(UNUSED_OFFSET + index) },
        { key: "test-letters", value: new TextEncoder().encode(body) },
        "processor",
      );
      return `${Object.entries(headers)
        .map(([name, value]) => `${name}:${value}`)
        .join("##")}\t${body}`;
    });
    const left = async () => (await target.exec("kafka-0", ["bash", "-c", LIST_LEFT], { container: "kafka" })).stdout;
    const before = await left();
    const { exitCode, stdout, stderr } = await target.exec("kafka-0", ["bash", "-ec", PRODUCE], {
      container: "kafka",
      input: `${lines.join("\n")}\n`,
      timeoutMs: 60_000,
    });
    expect(`${exitCode} ${exitCode === 0 ? "" : stdout + stderr}`).toBe("0 ");
    expect(await left()).toBe(before);
  }, LIMIT_MS);
  afterAll(() => store?.close());

  const points = async () => await store.run(run, startMs, startMs + EVENTS);

  test(
    "replay --dry-run sends nothing, replay stores each valid event once, a second replay sends nothing",
    async () => {
      expect(await replay("--dry-run")).toMatchObject({
        valid: EVENTS,
        already_stored: 0,
        still_refused: 1,
        would_send: EVENTS,
      });
      expect((await points()).points).toBe(0);
      expect(await replay()).toMatchObject({ valid: EVENTS, sent: EVENTS, stored: EVENTS, still_refused: 1 });
      expect(await points()).toMatchObject({ points: EVENTS, duplicates: 0 });
      expect(await replay()).toMatchObject({ valid: EVENTS, already_stored: EVENTS, sent: 0 });
    },
    LIMIT_MS,
  );
});
