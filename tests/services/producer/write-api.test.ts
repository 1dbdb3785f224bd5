/** The write API of InfluxDB 2 at the intake, and the limits of senders at both paths. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect as tlsConnect } from "node:tls";
import { deflateSync, gzipSync } from "node:zlib";
import { serializeEvent } from "../../../services/domain/event.ts";
import { BUCKET_RETENTION_MS } from "../../../services/domain/event-window.ts";
import { Fleet } from "../../../services/domain/fleet.ts";
import type { EventProducer } from "../../../services/kafka/event-producer.ts";
import type { EventPublisher } from "../../../services/producer/event-publisher.ts";
import { type Intake, startIntake } from "../../../services/producer/intake.ts";
import type { Sender } from "../../../services/producer/intake-senders.ts";
import { MAX_BODY_BYTES } from "../../../services/producer/request-body.ts";
import { SenderUsage } from "../../../services/producer/sender-usage.ts";
import { eventually } from "../../eventually.ts";
import { testCertificate } from "../certificate.ts";
import { DLQ, FakeCluster, producerOn, publisherOn, TOPIC } from "../fake-cluster.ts";

const BOUNDS = { mostSources: 10, mostSeries: 10 };
const SENDERS: Record<string, Sender> = {
  shared: { name: "token" },
  "of-plant-a": { name: "plant-a", sources: ["plant-a-*"], limits: BOUNDS },
  "of-slow": { name: "slow", sources: ["*"], limits: { ...BOUNDS, requestsPerSecond: 1 } },
  "of-thin": { name: "thin", sources: ["*"], limits: { ...BOUNDS, bytesPerSecond: 1024 } },
  "of-narrow": { name: "narrow", sources: ["*"], limits: { mostSources: 2, mostSeries: 2 } },
};

let cluster: FakeCluster;
let producer: EventProducer;
let publisher: EventPublisher;
let intake: Intake;
let ca: string;
let answers: [status: number, sender: string | undefined][];

async function open(options: { maxBufferedEvents?: number; ackLimitMs?: number } = {}) {
  const certificate = await testCertificate();
  ca = certificate.ca;
  cluster = new FakeCluster(6, 3);
  producer = producerOn(cluster, { maxBufferedEvents: options.maxBufferedEvents ?? 20_000 });
  publisher = publisherOn(producer);
  answers = [];
  intake = startIntake({
    port: 0,
    tls: certificate,
    senders: { find: (token) => SENDERS[token] },
    usage: new SenderUsage(() => 0),
    publisher,
    producer,
    org: "conveyor",
    bucket: "telemetry",
    ackLimitMs: options.ackLimitMs,
    onAnswer: (status, sender) => void answers.push([status, sender]),
  });
}

/** Not started: Kafka is unreachable. */
async function reopen(options: Parameters<typeof open>[0]) {
  await intake.stop();
  await producer.stop();
  await open(options);
}

beforeEach(async () => {
  await open();
  producer.start();
});
afterEach(async () => {
  await intake.stop();
  await producer.stop();
});

interface Sent {
  token?: string;
  query?: string;
  headers?: Record<string, string>;
  path?: string;
}

const QUERY = "?org=conveyor&bucket=telemetry";

async function send(
  body: string | Uint8Array | ReadableStream,
  { token = "shared", query = QUERY, headers = {}, path }: Sent = {},
) {
  const response = await fetch(`https://localhost:${intake.port}${path ?? `/api/v2/write${query}`}`, {
    method: "POST",
    headers: { authorization: `${path ? "Bearer" : "Token"} ${token}`, ...headers },
    body: body as BodyInit,
    tls: { ca },
  });
  const text = await response.text();
  const json = text === "" ? undefined : (JSON.parse(text) as Record<string, string>);
  return { status: response.status, json, retryAfter: response.headers.get("retry-after"), headers: response.headers };
}

const NOW_MS = Date.now();
const lines = (count: number, precision: "ns" | "ms" = "ns") =>
  Array.from(
    { length: count },
    (_, index) =>
      `cpu,host=h${index % 3} usage=${index}.5,n=${index}i ${NOW_MS + index}${precision === "ns" ? "000000" : ""}`,
  );
const values = (topic = TOPIC) => cluster.records(topic).map(({ value }) => value);

describe("POST /api/v2/write", () => {
  test("204 after Kafka's acknowledgement; the key is the series, the value the line", async () => {
    cluster.delayMs = 60;
    const startedAt = performance.now();
    const { status, json } = await send(lines(5).join("\n"));
    expect([status, json]).toEqual([204, undefined]);
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(60);
    const expected = lines(5).map((line) => line.replace(/usage=(\S+),n=(\S+)/, "n=$2,usage=$1"));
    expect(values().sort()).toEqual(expected.sort());
    for (const { key, value } of cluster.records(TOPIC)) expect(key).toBe(value.split(" ")[0]!);
    expect(answers).toEqual([[204, "token"]]);
  });

  test("the identity is that of the producer; its source is the name of the sender", async () => {
    await send(lines(3).join("\n"), { token: "of-plant-a" });
    await send(lines(2).join("\n"), { token: "of-plant-a" });
    expect(JSON.parse(JSON.stringify(publisher.report()))).toMatchObject({
      attempted: 5,
      acknowledged: 5,
      runs: { "pod-run-assigned-1": { "plant-a": [[0, 4]] } },
    });
    const assigned = cluster.records(TOPIC).map(({ headers }) => headers?.assigned);
    expect(assigned.sort()).toEqual([0, 1, 2, 3, 4].map((seq) => `pod-run-assigned-1 plant-a ${seq}`));
  });

  test.each([
    ["ns", "000000"],
    ["us", "000"],
    ["ms", ""],
  ])("precision %s", async (precision, zeros) => {
    expect((await send(`a b=1 ${NOW_MS}${zeros}`, { query: `${QUERY}&precision=${precision}` })).status).toBe(204);
    expect(values()).toEqual([`a b=1 ${NOW_MS}000000`]);
  });

  test("precision s, and a line without time gets the present one", async () => {
    const seconds = Math.floor(NOW_MS / 1000);
    expect((await send(`a b=1 ${seconds}\nc d=1`, { query: `${QUERY}&precision=s` })).status).toBe(204);
    const [without, withTime] = values().sort().reverse();
    expect(withTime).toBe(`a b=1 ${seconds}000000000`);
    expect(Number(without!.split(" ")[2]!.slice(0, -6))).toBeWithin(NOW_MS, Date.now() + 1);
  });

  test("takes both schemes, gzip, CRLF and comments", async () => {
    const body = `# a comment\r\na t="x y" ${NOW_MS}000000\r\n\r\n`;
    expect((await send(gzipSync(body), { headers: { "content-encoding": "gzip" } })).status).toBe(204);
    expect((await send("a b=1", { headers: { authorization: "bearer shared" } })).status).toBe(204);
    expect(values()).toContain(`a t="x y" ${NOW_MS}000000`);
  });

  test("the text of a string becomes no point, whatever line breaks it holds", async () => {
    const { status, json } = await send('log text="failed:\ncpu usage=1\n",n=1i\nok b=1');
    expect([status, json!.message]).toEqual([
      400,
      expect.stringContaining("line 1: fields.text: must not contain line"),
    ]);
    expect(values().map((value) => value.split(" ")[0])).toEqual(["ok"]);
    expect(cluster.records(DLQ)).toHaveLength(1);
  });

  test("400 names the first invalid line; the others are in Kafka, and the invalid ones in the dead letters", async () => {
    const [first, second] = lines(2);
    const old = `cpu b=1 ${NOW_MS - BUCKET_RETENTION_MS - 1000}000000`;
    const { status, json } = await send([first, "cpu,host=", old, "conveyor_telemetry b=1", second].join("\n"));
    expect({ status, json }).toMatchObject({ status: 400, json: { code: "invalid" } });
    expect(json!.message).toStartWith("line 2: ");
    expect(json!.message).toEndWith("3 of 5 lines were not taken; the others are written");
    expect(values()).toHaveLength(2);
    const letters = cluster.records(DLQ);
    expect(letters.map(({ headers }) => headers!.source_line).sort()).toEqual(["2", "3", "4"]);
    expect(letters.map(({ value }) => value).sort()).toEqual(["conveyor_telemetry b=1", "cpu,host=", old].sort());
    expect(letters[0]!.headers).toMatchObject({ source: "http", service: "producer", run: "pod-run" });
    expect((await send("bad")).json!.message).toEndWith("; no line was taken");
  });

  test("a line that is not UTF-8 is invalid alone, and is kept as it is", async () => {
    const body = Buffer.concat([
      Buffer.from("a b=1\nc t="),
      Buffer.from([0x22, 0xff, 0x22, 0x0a]),
      Buffer.from('d é="ü"'),
    ]);
    const { status, json } = await send(body);
    expect([status, json!.message]).toEqual([400, expect.stringContaining("line 2: an event must be UTF-8")]);
    expect(
      values()
        .map((value) => value.split(" ").slice(0, 2).join(" "))
        .sort(),
    ).toEqual(["a b=1", 'd é="ü"']);
    expect(publisher.refusedByReason).toEqual({ not_utf8: 1 });
  });

  test("400 without a point, an organization or a bucket, or with another precision; nothing is taken", async () => {
    const cases: [string, string, string][] = [
      ["", QUERY, "holds no point"],
      ["\n# only a comment\n", QUERY, "holds no point"],
      ["a b=1", "?bucket=telemetry", "org is required"],
      ["a b=1", "?org=conveyor", "bucket is required"],
      ["a b=1", "", "org is required"],
      ["a b=1", `${QUERY}&precision=h`, 'precision must be one of ns, us, ms, s; got "h"'],
    ];
    for (const [body, query, message] of cases) {
      expect(await send(body, { query })).toMatchObject({
        status: 400,
        json: { code: "invalid", message: expect.stringContaining(message) },
      });
    }
    expect(publisher.counts.attempted).toBe(0);
  });

  test("404 for another organization or bucket; orgID counts as its name", async () => {
    for (const query of ["?org=other&bucket=telemetry", "?org=conveyor&bucket=other", "?orgID=0123&bucket=telemetry"]) {
      expect(await send("a b=1", { query })).toMatchObject({ status: 404, json: { code: "not found" } });
    }
    const { json } = await send("a b=1", { query: "?org=conveyor&bucket=other" });
    expect(json!.message).toBe('bucket "other" not found; here it is "telemetry"');
  });

  test("401 without a token or with a wrong one; nothing of the request is examined", async () => {
    for (const authorization of ["", "Token", "Token wrong", "Basic shared", "shared"]) {
      const answer = await send("a b=1", { query: "", headers: { authorization } });
      expect(answer).toMatchObject({ status: 401, json: { code: "unauthorized" } });
    }
    expect(answers).toEqual(Array(5).fill([401, undefined]));
  });

  test("403 for another's source; nothing is taken, and no dead letter that a replay would write", async () => {
    const token = "of-plant-a";
    expect((await send("a,source=plant-a-7 b=1\na,host=x b=1", { token })).status).toBe(204);
    const valid = "a,source=plant-b-1 b=1";
    for (const foreign of [valid, `${valid}=`, `  \t${valid}=`, "a,c=d\\ e,source=plant-b-1 b=1 1"]) {
      const { status, json } = await send(`a,source=plant-a-7 b=1\n${foreign}`, { token });
      expect({ status, json }).toMatchObject({ status: 403, json: { code: "forbidden" } });
      expect(json!.message).toBe('line 2: sender plant-a must not write the source "plant-b-1"; nothing was taken');
    }
    expect(publisher.counts.attempted).toBe(2);
    expect(cluster.records(DLQ)).toHaveLength(0);
  });

  test("413 above the limits, also after decompression; nothing is taken", async () => {
    const tooLarge = Buffer.alloc(MAX_BODY_BYTES + 1, "#");
    const gzip = { headers: { "content-encoding": "gzip" } };
    for (const [body, options] of [
      [tooLarge, {}],
      [gzipSync(tooLarge), gzip],
      [gzipSync(Buffer.alloc(50 * MAX_BODY_BYTES)), gzip],
      ["a b=1\n".repeat(10_001), {}],
    ] as const) {
      expect(await send(body, options)).toMatchObject({ status: 413, json: { code: "request too large" } });
    }
    expect(publisher.counts.attempted).toBe(0);
    expect((await send(`${"# comment\n".repeat(20_000)}a b=1`)).status).toBe(204);
  });

  test("415 for another encoding, 400 for what is no gzip", async () => {
    const deflate = await send(deflateSync("a b=1"), { headers: { "content-encoding": "deflate" } });
    expect(deflate).toMatchObject({ status: 415, json: { code: "unsupported media type" } });
    expect(await send("a b=1", { headers: { "content-encoding": "gzip" } })).toMatchObject({ status: 400 });
  });

  test("405 for another method", async () => {
    const response = await fetch(`https://localhost:${intake.port}/api/v2/write${QUERY}`, { tls: { ca } });
    expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"]);
  });

  test("503 with Retry-After when the buffer is full; nothing is taken", async () => {
    await reopen({ maxBufferedEvents: 10 });
    const { status, json, retryAfter } = await send(lines(11).join("\n"));
    expect([status, json!.code, retryAfter]).toEqual([503, "unavailable", "1"]);
    expect(producer.bufferedEvents).toBe(0);
  });

  test("503 while Kafka does not acknowledge; a retry of the client leaves the same points", async () => {
    await reopen({ ackLimitMs: 50 });
    const { status, retryAfter } = await send(lines(3).join("\n"));
    expect([status, retryAfter]).toEqual([503, "1"]);
    producer.start();
    await eventually("the retry to be taken", async () => (await send(lines(3).join("\n"))).status === 204);
    await producer.flush();
    expect(cluster.records(TOPIC).length).toBeGreaterThanOrEqual(6);
    expect(new Set(values())).toHaveLength(3);
  });
});

describe("GET /ping and /health", () => {
  const get = (path: string, method = "GET") =>
    fetch(`https://localhost:${intake.port}${path}`, { method, tls: { ca } });

  test("answer without a token", async () => {
    for (const method of ["GET", "HEAD"]) {
      const ping = await get("/ping", method);
      expect([ping.status, ping.headers.get("x-influxdb-version")]).toEqual([204, expect.any(String)]);
    }
    await eventually("Kafka to be connected", async () => (await get("/health")).status === 200);
    expect(await (await get("/health")).json()).toMatchObject({ status: "pass", checks: [] });
    expect((await get("/ping", "POST")).status).toBe(405);
  });

  test("health fails while there is no Kafka", async () => {
    await reopen({});
    const health = await get("/health");
    expect([health.status, await health.json()]).toEqual([503, expect.objectContaining({ status: "fail" })]);
  });
});

describe("limits of a sender", () => {
  const event = (index: number) => {
    const fleet = new Fleet({ ordinal: index, count: 1, run: "r", seed: 1 });
    return serializeEvent(fleet.next(Date.now()));
  };
  /** Both paths, with a body that each takes. */
  const paths = [
    ["/api/v2/write", () => "a b=1", undefined],
    ["/events", () => event(1), "/events"],
  ] as const;

  test.each(paths)(
    "%s: 429 with Retry-After above the rate of requests; others are not slowed",
    async (_, body, path) => {
      const accepted = path ? 200 : 204;
      const slow: number[] = [];
      const others: number[] = [];
      const latenciesMs: number[] = [];
      const flood = async () => {
        for (let round = 0; round < 20; round++) {
          const { status, retryAfter } = await send(body(), { token: "of-slow", path });
          slow.push(status);
          expect(retryAfter).toBe(status === 429 ? "1" : null);
        }
      };
      const other = async () => {
        for (let round = 0; round < 20; round++) {
          const startedAt = performance.now();
          others.push((await send(body(), { token: path ? "shared" : "of-plant-a", path })).status);
          latenciesMs.push(performance.now() - startedAt);
        }
      };
      await Promise.all([flood(), flood(), flood(), flood(), other()]);
      // Ten seconds of the rate; the clock of the limits stands still.
      expect(slow.sort()).toEqual([...Array(10).fill(accepted), ...Array(70).fill(429)]);
      expect(others).toEqual(Array(20).fill(accepted));
      // Some milliseconds each, unless the machine itself is overloaded.
      expect(Math.max(...latenciesMs)).toBeLessThan(10_000);
      expect(answers.filter(([status, sender]) => status === 429 && sender !== "slow")).toEqual([]);
    },
  );

  test.each(paths)("%s: 429 above the rate of bytes, before the body is read", async (_, body, path) => {
    const padded = () => `${body()}\n`.padEnd(40_000, path ? " " : "\n");
    expect((await send(padded(), { token: "of-thin", path })).status).toBeLessThan(300);
    const { status, json, retryAfter } = await send(padded(), { token: "of-thin", path });
    expect(status).toBe(429);
    expect(json!.code).toBe(path ? "rate_limited" : "too many requests");
    // A debt of 30,000 bytes, and room for ten seconds' worth.
    expect(retryAfter).toBe("40");
    expect(publisher.counts.attempted).toBe(1);
    const { promise: answered, resolve } = Promise.withResolvers<string>();
    const socket = tlsConnect({ host: "127.0.0.1", servername: "localhost", port: intake.port, ca });
    socket.on("data", (chunk) => resolve(String(chunk)));
    const target = `POST ${path ?? `/api/v2/write${QUERY}`} HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n`;
    socket.write(`${target}Authorization: Bearer of-thin\r\n\r\n`);
    expect(await answered).toStartWith("HTTP/1.1 429");
    socket.destroy();
  });

  test("what gzip saves counts too", async () => {
    const body = gzipSync(`a b=1\n`.padEnd(60_000, "\n"));
    expect(body.length).toBeLessThan(1000);
    const options = { token: "of-thin", headers: { "content-encoding": "gzip" } };
    expect((await send(body, options)).status).toBe(204);
    expect((await send(body, options)).status).toBe(429);
  });

  const tooLarge = Buffer.alloc(MAX_BODY_BYTES + 1, "\n");
  const PNG = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");
  test.each([
    ["too long", tooLarge, 413, {}],
    ["too long after decompression", gzipSync(tooLarge), 413, { "content-encoding": "gzip" }],
    ["a picture", gzipSync(Buffer.concat([PNG, Buffer.alloc(60_000)])), undefined, { "content-encoding": "gzip" }],
    ["no gzip", Buffer.alloc(60_000, "\n"), undefined, { "content-encoding": "gzip" }],
  ])("a body of unknown length that is refused, since it is %s, counts too", async (_, body, status, headers) => {
    for (const [path, unreadable] of [
      [undefined, 400],
      ["/events", 415],
    ] as const) {
      await reopen({});
      producer.start();
      const options = { token: "of-thin", headers, path };
      const stream = () =>
        new ReadableStream({
          async start(controller) {
            // Sent in chunks, without Content-Length.
            for (let at = 0; at < body.length; at += 65_536) {
              controller.enqueue(new Uint8Array(body.subarray(at, at + 65_536)));
              await Bun.sleep(0);
            }
            controller.close();
          },
        });
      expect((await send(stream(), options)).status).toBe(status ?? unreadable);
      expect((await send(stream(), options)).status).toBe(429);
    }
  });

  test("write: a new series beyond the bound is 422, and the others are written", async () => {
    const token = "of-narrow";
    const { status, json } = await send("a,h=1 b=1\na,h=2 b=1\na,h=3 b=1\na,h=1 c=2\na,h=4 b=1", { token });
    expect({ status, code: json!.code }).toEqual({ status: 422, code: "unprocessable entity" });
    expect(json!.message).toBe(
      'line 3: "a,h=3" is new, and sender narrow has its most series (2) in use; 2 of 5 lines were not taken; the others are written',
    );
    expect(values()).toHaveLength(3);
    expect((await send("a,h=2 b=2", { token })).status).toBe(204);
    expect(await send("a,h=5 b=2", { token })).toMatchObject({ status: 422 });
    // No dead letter: the lines are valid.
    expect(cluster.records(DLQ)).toHaveLength(0);
    expect((await send("a,h=5 b=2", { token: "of-plant-a" })).status).toBe(204);
    // With an invalid line both reasons are named: only that line is a dead letter.
    const both = await send("a,h=6 b=2\nbad", { token });
    expect([both.status, both.json!.message]).toEqual([
      400,
      expect.stringMatching(/^line 2: .*; line 1: "a,h=6" is new, and .*; no line was taken$/),
    ]);
    expect(cluster.records(DLQ)).toHaveLength(1);
  });

  test("events: a new source beyond the bound is 403, and nothing of the request is taken", async () => {
    const path = "/events";
    const token = "of-narrow";
    expect((await send(`${event(1)}\n${event(2)}`, { token, path })).status).toBe(200);
    const { status, json } = await send(`${event(1)}\n${event(3)}`, { token, path });
    expect({ status, json }).toMatchObject({ status: 403, json: { code: "too_many_sources" } });
    expect(json!.error).toBe(
      'event 1: "belt-3-1" is new, and sender narrow has its most sources (2) in use; nothing was taken',
    );
    expect((await send(event(2), { token, path })).status).toBe(200);
    expect(publisher.counts.attempted).toBe(3);
  });

  test("events: version 2 and lines count by measurement and tags", async () => {
    const path = "/events";
    const token = "of-narrow";
    const v2 = (measurement: string, source: string) =>
      JSON.stringify({ v: 2, measurement, source, time: NOW_MS, fields: { a: 1 } });
    expect((await send(`${v2("pump", "p1")}\n${v2("pump", "p2")}`, { token, path })).status).toBe(200);
    const cases = [
      [v2("fan", "p1"), "too_many_series", "fan,source=p1"],
      [`fan,source=p1 a=1 ${NOW_MS}000000`, "too_many_series", "fan,source=p1"],
      [v2("pump", "p3"), "too_many_sources", "p3"],
    ] as const;
    for (const [body, code, name] of cases) {
      const { status, json } = await send(`${v2("pump", "p1")}\n${body}`, { token, path });
      expect({ status, code: json!.code }).toEqual({ status: 403, code });
      expect(json!.error).toStartWith(`event 1: "${name}" is new, and sender narrow has its most`);
    }
    expect((await send(`pump,source=p1 a=2 ${NOW_MS}000000`, { token, path })).status).toBe(200);
    expect(publisher.counts.attempted).toBe(3);
  });

  test("events: a refused request does not use the bound", async () => {
    const path = "/events";
    const token = "of-narrow";
    const three = [1, 2, 3].map(event).join("\n");
    for (let round = 0; round < 3; round++) expect((await send(three, { token, path })).status).toBe(403);
    expect((await send(`${event(8)}\n${event(9)}`, { token, path })).status).toBe(200);
  });
});
