/**
 * Goal: what a program in a pod is asked is understood to the last field, or refused by name. Method: the parsers on
 * requests that are right but for one thing; the probe as a program; and what the callers really send, taken from them.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { CHECKS } from "../../../scripts/checks/index.ts";
import { KAFKA_CHECKS } from "../../../scripts/checks/kafka.ts";
import type { Probe, ProbeResult, ProbeSession } from "../../../scripts/clients/probe-session.ts";
import { eachDeadLetter } from "../../../scripts/dead-letters/topic.ts";
import { parseProbes } from "../../../services/protocol/probe-request.ts";
import { parseLogRequest } from "../../../services/tools/log-reader.ts";

const kafka = { brokers: ["kafka:9092"], tls: { ca: "/certs/ca.crt", cert: "/certs/tls.crt", key: "/certs/tls.key" } };
const probe = (fields: object) => JSON.stringify([{ id: "a", ...fields }]);

test.each([
  { kind: "tcp", host: "10.0.0.1", port: 9092, timeout_ms: 500 },
  { kind: "tls", host: "10.0.0.1", port: 9092, servername: "kafka", ca: "/certs/ca.crt", cert: "PEM", key: "PEM" },
  { kind: "http", url: "https://influxdb:8086/health", headers: { accept: "text/plain" }, method: "POST", body: "" },
  { kind: "self" },
  { kind: "kafka", ...kafka, op: "describe_topics", topics: ["conveyor.events"] },
  { kind: "kafka_offsets", ...kafka, topic: "conveyor.events", group: "processor" },
  { kind: "letter_read", ...kafka, from: [{ partition: 0, offset: 7 }], to: [{ partition: 0, offset: 9 }] },
  { kind: "dlq_read", ...kafka, from_timestamp_ms: 1000.5, run: "r1", max: 10 },
])("%j is a probe", (fields) => {
  expect(parseProbes(probe(fields))).toMatchObject([fields]);
});

test.each([
  [{ kind: "self", host: "10.0.0.1" }, 'probes[0].host: is not a field (id, kind, timeout_ms); got "10.0.0.1"'],
  [
    { kind: "plaintext_kafka", host: "a", port: 1, servername: "b" },
    'probes[0].servername: is not a field (id, kind, timeout_ms, host, port); got "b"',
  ],
  [
    { kind: "kafka_offsets", brokers: ["a:1"], tls: { passphrase: 7 }, topic: "t" },
    "probes[0].tls.passphrase: is not a field (ca, cert, key); got 7",
  ],
  [
    { kind: "letter_read", ...kafka, to: [{ partition: 0, offset: 1, group: "g" }] },
    'probes[0].to[0].group: is not a field (partition, offset); got "g"',
  ],
  [{ kind: "tcp", host: "a" }, "probes[0].port: must be a whole number from 1 to 65535; got undefined"],
  [{ kind: "tcp", host: "", port: 1 }, 'probes[0].host: must be a text that is not empty; got ""'],
  [{ kind: "http", url: "influxdb" }, 'probes[0].url: must be an http:// or https:// address; got "influxdb"'],
  [{ kind: "dlq_read", ...kafka, run: "a b" }, /^probes\[0\]\.run: must be 1 to 64 of .*; got "a b"$/],
  [{ kind: "kafka", ...kafka, op: "delete" }, /^probes\[0\]\.op: must be one of metadata, .*; got "delete"$/],
  [{ kind: "toString" }, /^probes\[0\]\.kind: must be one of tcp, .*; got "toString"$/],
])("%j is refused", (fields, message) => {
  expect(() => parseProbes(probe(fields))).toThrow(message);
});

test.each([
  ["{", 'probes: must be JSON; got "{"'],
  ["{}", "probes: must be a list; got {}"],
  ["[7]", "probes[0]: must be an object; got 7"],
])("%s is no request", (request, message) => {
  expect(() => parseProbes(request)).toThrow(message);
});

test("the probe program ends with exit 2 and the reason, and tries nothing", async () => {
  const program = join(import.meta.dir, "../../../services/tools/probe.ts");
  const request = JSON.stringify([
    { id: "a", kind: "self" },
    { id: "b", kind: "self", hots: "10.0.0.1" },
  ]);
  const child = Bun.spawn([process.execPath, program, request], { stdout: "pipe", stderr: "pipe" });
  const [out, error] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  expect({ out, error, exitCode: await child.exited }).toEqual({
    out: "",
    error: 'probe: probes[1].hots: is not a field (id, kind, timeout_ms); got "10.0.0.1"\n',
    exitCode: 2,
  });
});

test("a log request says what of it is not understood", () => {
  const request = { ...kafka, topic: "t", runs: ["r1"], fleets: true, to: [{ partition: 0, offset: 0 }] };
  expect(parseLogRequest(JSON.stringify(request))).toEqual(request);
  expect(() => parseLogRequest(JSON.stringify({ ...request, run: "r1" }))).toThrow(
    /^run: is not a field \(.*; got "r1"$/,
  );
  expect(() => parseLogRequest("[]")).toThrow("request: must be an object; got []");
});

/** Stands where the pod stands: takes every request as the probe program would, and answers nothing of use. */
function listener(): { context: ProbeSession; heard: { kind: string }[] } {
  const heard: { kind: string }[] = [];
  const answer = async (_: string, probes: readonly Probe[]): Promise<Map<string, ProbeResult>> => {
    heard.push(...parseProbes(JSON.stringify(probes)));
    const result = { ok: false, outcome: "timeout", detail: "", duration_ms: 0 };
    return new Map(probes.map(({ id }) => [id, { id, ...result }]));
  };
  return { context: { probeIn: answer, probeFrom: answer } as unknown as ProbeSession, heard };
}

test("what the checks of Kafka and InfluxDB and the dead letters' command send is understood", async () => {
  const { context, heard } = listener();
  const { signal } = new AbortController();
  const plainHttp = CHECKS.find(({ id }) => id === "influxdb-plain-http")!;
  for (const check of [...KAFKA_CHECKS, plainHttp]) await check.run(context, signal);
  const filter = { sinceMs: 1000, reasons: [] };
  await expect(eachDeadLetter(context, filter, signal, () => {})).rejects.toThrow("cannot be read: timeout");
  const kinds = new Set(heard.map(({ kind }) => kind));
  expect([...kinds].sort()).toEqual(["http", "kafka", "letter_read", "plaintext_kafka", "tls"]);
});
