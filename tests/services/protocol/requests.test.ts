/**
 * Requests to programs in pods: unknown and missing fields are rejected with name, rule and value. The probe runs as a
 * program; requests of the commands are taken from the commands.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { CHECKS } from "../../../scripts/checks/index.ts";
import { KAFKA_CHECKS } from "../../../scripts/checks/kafka.ts";
import type { ProbeSession } from "../../../scripts/clients/probe-session.ts";
import type { DeadLetterSession } from "../../../scripts/dead-letters/session.ts";
import { stepOver } from "../../../scripts/dead-letters/step-over.ts";
import { eachDeadLetter } from "../../../scripts/dead-letters/topic.ts";
import { parseLogRequest } from "../../../services/protocol/log-reader.ts";
import { type ProbeSpec, parseProbes } from "../../../services/protocol/probe.ts";

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
])("parseProbes accepts %j", (fields) => {
  expect(parseProbes(probe(fields))).toMatchObject([fields]);
});

test.each([
  [{ kind: "self", host: "10.0.0.1" }, 'probes[0].host: is not a field (id, kind, timeout_ms); got "10.0.0.1"'],
  [
    { kind: "plaintext_kafka", host: "a", port: 1, servername: "b" },
    'probes[0].servername: is not a field (id, kind, timeout_ms, host, port); got "b"',
  ],
  [{ kind: "tcp", host: "a" }, "probes[0].port: is required; got undefined"],
  [{ kind: "kafka", ...kafka, op: "delete" }, /^probes\[0\]\.op: must be one of metadata, .*; got "delete"$/],
  [{ kind: "toString" }, /^probes\[0\]\.kind: must be one of tcp, .*; got "toString"$/],
])("parseProbes rejects %j", (fields, message) => {
  expect(() => parseProbes(probe(fields))).toThrow(message);
});

test.each([
  ["{", 'probes: must be JSON; got "{"'],
  ["{}", "probes: must be a list; got {}"],
  ["[7]", /^probes\[0\]\.kind: must be one of .*; got undefined$/],
])("parseProbes rejects %s", (request, message) => {
  expect(() => parseProbes(request)).toThrow(message);
});

test("the probe program runs no probe of an invalid request: exit 2 and the reason", async () => {
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

test("parseLogRequest names the unknown field", () => {
  const request = { ...kafka, topic: "t", runs: ["r1"], fleets: true, to: [{ partition: 0, offset: 0 }] };
  expect(parseLogRequest(JSON.stringify(request))).toEqual(request);
  expect(() => parseLogRequest(JSON.stringify({ ...request, run: "r1" }))).toThrow(
    /^run: is not a field \(.*; got "r1"$/,
  );
  expect(() => parseLogRequest("[]")).toThrow("brokers: is required; got undefined");
});

/** Replaces the session: parses every request as the probe program does; every result is a timeout. */
function fakeSession(): { context: ProbeSession; kinds: Set<string> } {
  const kinds = new Set<string>();
  const run = async (_: string, probes: Record<string, ProbeSpec>) => {
    const request = Object.entries(probes).map(([id, probe]) => ({ ...probe, id }));
    for (const { kind } of parseProbes(JSON.stringify(request))) kinds.add(kind);
    const result = { ok: false, outcome: "timeout", detail: "", duration_ms: 0 };
    return Object.fromEntries(request.map(({ id }) => [id, { ...result, id }]));
  };
  return { context: { probeIn: run, probeFrom: run, stores: async () => ({}) } as unknown as ProbeSession, kinds };
}

test("requests of the checks of Kafka and InfluxDB and of dead-letters are valid", async () => {
  const { context, kinds } = fakeSession();
  const { signal } = new AbortController();
  const plainHttp = CHECKS.find(({ id }) => id === "influxdb-plain-http")!;
  for (const check of [...KAFKA_CHECKS, plainHttp]) await check.run(context, signal);
  const filter = { sinceMs: 1000, reasons: [] };
  await expect(eachDeadLetter(context, filter, signal, () => {})).rejects.toThrow("cannot be read: timeout");
  const session = { probes: context, signal, isDryRun: true, place: { partition: 3, offset: 120 } };
  await expect(stepOver(session as unknown as DeadLetterSession)).rejects.toThrow(
    "at offset 120 cannot be read: timeout",
  );
  expect([...kinds].sort()).toEqual([
    "http",
    "kafka",
    "kafka_offsets",
    "letter_read",
    "plaintext_kafka",
    "step_over",
    "tls",
    "unreadable_batches",
  ]);
});
