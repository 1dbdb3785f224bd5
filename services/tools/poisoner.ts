/**
 * Writes invalid records into the events' topic, past the producer, which would refuse them. Prints where they are:
 * {"placed":[{"partition":0,"offset":123,"kind":"malformed_json"}]}
 */
import { readFileSync } from "node:fs";
import { Kafka, logLevel } from "kafkajs";
import { exampleEvent } from "../domain/event.ts";

const SEND_LIMIT_MS = 15_000;
const topic = process.env.TOPIC ?? "";
const run = process.env.RUN_ID ?? "";

const good = exampleEvent({ conveyor: "drill-poison", run, seq: 0, ts: Date.now() });

const POISON: readonly [kind: string, value: Buffer | string | null][] = [
  ["malformed_json", '{"v":1,"conveyor":"drill-poison",'],
  ["not_an_object", "[1,2,3]"],
  ["empty", ""],
  ["no value", null],
  ["not_utf8", Buffer.from([0x7b, 0xff, 0xfe, 0x7d])],
  ["binary", Buffer.from(Array.from({ length: 512 }, (_, index) => (index * 37) % 256))],
  ["wrong_version", JSON.stringify({ ...good, v: 99 })],
  ["missing_field", JSON.stringify({ ...good, state: undefined })],
  ["unknown_field", JSON.stringify({ ...good, surprise: true })],
  ["wrong_type", JSON.stringify({ ...good, load_kg: "heavy" })],
  ["out_of_range", JSON.stringify({ ...good, speed_mps: 1e9 })],
  ["bad_timestamp", JSON.stringify({ ...good, ts: 1 })],
  ["line break in a name", JSON.stringify({ ...good, conveyor: "a\nb" })],
  ["too_large", JSON.stringify({ ...good, padding: "x".repeat(20_000) })],
];

const kafka = new Kafka({
  clientId: "drill-poisoner",
  brokers: (process.env.KAFKA_BROKERS ?? "").split(","),
  logLevel: logLevel.NOTHING,
  ssl: {
    ca: [readFileSync("/certs/ca.crt", "utf8")],
    cert: readFileSync("/certs/tls.crt", "utf8"),
    key: readFileSync("/certs/tls.key", "utf8"),
  },
});
const producer = kafka.producer({ allowAutoTopicCreation: false });
await producer.connect();
// One partition and one batch: a processor gets a poisoned batch, not single records.
const [metadata] = await producer.send({
  topic,
  timeout: SEND_LIMIT_MS,
  messages: POISON.map(([, value]) => ({ key: "drill-poison", value, partition: 0 })),
});
const { partition, baseOffset } = metadata!;
const placed = POISON.map(([kind], index) => ({ partition, offset: Number(baseOffset) + index, kind }));
await producer.disconnect();
process.stdout.write(`${JSON.stringify({ placed })}\n`);
process.exit(0);
