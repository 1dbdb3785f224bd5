/** Errors that a real InfluxDB does not return on demand, from a TLS server on loopback. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  classifyResponse,
  InfluxWriter,
  MAX_BODY_LINES,
  retryAfterMs,
  retryPauseMs,
  type WriteRequestOutcome,
} from "../../../services/processor/influx-writer.ts";
import { Logger } from "../../../services/runtime/log.ts";
import { eventually } from "../../eventually.ts";
import { newTestCertificate, testCertificate } from "../certificate.ts";

const log = new Logger("test", "error", {}, () => {});
type Answer = (lines: string[], call: number) => Response | Promise<Response>;

let server: ReturnType<typeof Bun.serve>;
let ca: string;
let answer: Answer;
let bodies: string[][];
let stored: Set<string>;
let headers: Headers | undefined;
let url: string | undefined;

beforeAll(async () => {
  const certificate = await testCertificate();
  ca = certificate.ca;
  server = Bun.serve({
    port: 0,
    tls: { cert: certificate.cert, key: certificate.key },
    async fetch(request) {
      const lines = (await request.text()).split("\n");
      headers = request.headers;
      url = request.url;
      const call = bodies.push(lines) - 1;
      return await answer(lines, call);
    },
  });
});
afterAll(async () => await server.stop(true));
beforeEach(() => {
  bodies = [];
  stored = new Set();
  answer = (lines) => store(lines);
});

function store(lines: string[]): Response {
  for (const line of lines) stored.add(line);
  return new Response(null, { status: 204 });
}

const error = (status: number, message: string, extra: Record<string, string> = {}) =>
  Response.json({ code: "invalid", message }, { status, headers: extra });

interface Options {
  url?: string;
  ca?: string;
  timeoutMs?: number;
  operatorRetryMs?: number;
  onRequest?: () => void;
}

function make({ onRequest, timeoutMs, operatorRetryMs, ...config }: Options = {}) {
  const outcomes: WriteRequestOutcome[] = [];
  const blocked: boolean[] = [];
  const writer = new InfluxWriter(
    { url: `https://localhost:${server.port}`, ca, org: "conveyor", bucket: "telemetry", token: "secret", ...config },
    log,
    {
      onRequest: (outcome) => {
        outcomes.push(outcome);
        onRequest?.();
      },
      onBlocked: (value) => blocked.push(value),
    },
    timeoutMs,
    operatorRetryMs,
  );
  return { writer, outcomes, blocked };
}
const linesOf = (count: number, from = 0) => Array.from({ length: count }, (_, index) => `m f=${from + index}i 1`);

describe("InfluxWriter", () => {
  test("writes lines with token, organization, bucket and precision, and resolves on 204", async () => {
    const { writer, outcomes } = make();
    expect(await writer.write(linesOf(3)).done).toEqual([]);
    expect(bodies).toEqual([linesOf(3)]);
    expect(headers?.get("authorization")).toBe("Token secret");
    expect(new URL(url!).search).toBe("?org=conveyor&bucket=telemetry&precision=ns");
    expect(outcomes).toEqual(["written"]);
  });

  test("concurrent submissions share requests of at most 5,000 lines", async () => {
    const { writer } = make();
    const writes = Array.from({ length: 6 }, (_, index) => writer.write(linesOf(1000, index * 1000)).done);
    await Promise.all(writes);
    expect(bodies.map((lines) => lines.length)).toEqual([5000, 1000]);
    expect(stored.size).toBe(6000);
    expect(() => writer.write(linesOf(MAX_BODY_LINES + 1))).toThrow("at most 5000");
  });

  test("an empty submission resolves without a request", async () => {
    const { writer } = make();
    expect(await writer.write([]).done).toEqual([]);
    expect(bodies).toEqual([]);
  });

  test("retries after 503 (with its Retry-After), 500 and 429 until the lines are written", async () => {
    const { writer, outcomes } = make();
    const at: number[] = [];
    answer = (lines, call) => {
      at.push(performance.now());
      if (call === 0) return error(503, "busy", { "retry-after": "1" });
      if (call === 1) return error(429, "slow down");
      if (call === 2) return error(500, "oops");
      return store(lines);
    };
    expect(await writer.write(linesOf(10)).done).toEqual([]);
    expect(at[1]! - at[0]!).toBeGreaterThanOrEqual(990);
    expect(outcomes).toEqual(["throttled", "throttled", "failed", "written"]);
    expect(stored.size).toBe(10);
  });

  test("retries a request that exceeds its timeout", async () => {
    const { writer, outcomes } = make({ timeoutMs: 100 });
    answer = async (lines, call) => {
      if (call === 0) await Bun.sleep(300);
      return store(lines);
    };
    expect(await writer.write(linesOf(2)).done).toEqual([]);
    // On a busy machine the second answer may be too late as well.
    expect(outcomes[0]).toBe("unreachable");
    expect(new Set(outcomes.slice(0, -1))).toEqual(new Set(["unreachable"]));
    expect(outcomes.at(-1)).toBe("written");
  });

  test("retries with pauses while the server is unreachable", async () => {
    const at: number[] = [];
    const url = "https://localhost:1";
    const { writer, outcomes } = make({ url, onRequest: () => at.push(performance.now()) });
    const pending = writer.write(linesOf(1));
    await eventually("three attempts", () => outcomes.length >= 3);
    pending.cancel();
    expect(new Set(outcomes)).toEqual(new Set(["unreachable"]));
    // 100 ms after the first, 200 ms after the second; a timer may be a hair early.
    expect(at[1]! - at[0]!).toBeGreaterThanOrEqual(95);
    expect(at[2]! - at[1]!).toBeGreaterThanOrEqual(190);
  });

  test("pendingSeconds is the age of the oldest unconfirmed lines, and 0 without any", async () => {
    const { writer } = make();
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    answer = async (lines, call) => {
      if (call === 0) return error(503, "busy", { "retry-after": "0" });
      await gate;
      return store(lines);
    };
    expect(writer.pendingSeconds).toBe(0);
    const startedAt = performance.now();
    const first = writer.write(linesOf(1)).done;
    await Bun.sleep(120);
    const second = writer.write(linesOf(1, 1));
    const waited = writer.pendingSeconds;
    expect(waited).toBeGreaterThanOrEqual(0.11);
    expect(waited).toBeLessThanOrEqual((performance.now() - startedAt) / 1000 + 0.01);
    // Cancelled lines do not count; the first ones still wait.
    second.cancel();
    expect(writer.pendingSeconds).toBeGreaterThanOrEqual(waited);
    open();
    await first;
    expect(writer.pendingSeconds).toBe(0);
  });

  test("pendingSeconds ignores cancelled submissions", async () => {
    const { writer } = make();
    answer = async () => await new Promise<Response>((resolve) => setTimeout(() => resolve(error(500, "late")), 50));
    const write = writer.write(linesOf(1));
    await Bun.sleep(20);
    expect(writer.pendingSeconds).toBeGreaterThan(0);
    write.cancel();
    expect(writer.pendingSeconds).toBe(0);
  });

  test("400 for one invalid line of 5,000 refuses that line alone, with InfluxDB's message", async () => {
    const { writer } = make();
    const lines = linesOf(5000);
    lines[1234] = "garbage";
    answer = (body) =>
      body.includes("garbage") ? error(400, "unable to parse 'garbage': missing fields") : store(body);
    const refused = await writer.write(lines).done;
    expect(refused).toEqual([
      { index: 1234, detail: "InfluxDB answered 400: unable to parse 'garbage': missing fields" },
    ]);
    expect(stored.size).toBe(4999);
    // About 2·log2(5000).
    expect(bodies.length).toBeLessThan(30);
  });

  test("refused lines are reported to their own submission", async () => {
    const { writer } = make();
    const [first, second] = [linesOf(20), linesOf(20, 100)];
    first[3] = "bad first";
    second[19] = "bad second";
    answer = (body) => (body.some((line) => line.startsWith("bad")) ? error(400, "unable to parse") : store(body));
    const [one, two] = await Promise.all([writer.write(first).done, writer.write(second).done]);
    expect(one.map(({ index }) => index)).toEqual([3]);
    expect(two.map(({ index }) => index)).toEqual([19]);
    expect(stored.size).toBe(38);
  });

  test("422 refuses exactly the dropped lines", async () => {
    const { writer, outcomes } = make();
    const lines = linesOf(100);
    lines[50] = "conflict f=1 1";
    answer = (body) => {
      // Partial: the good ones are stored all the same.
      for (const line of body) if (!line.startsWith("conflict")) stored.add(line);
      return body.some((line) => line.startsWith("conflict"))
        ? error(422, "partial write: field type conflict: dropped=1")
        : new Response(null, { status: 204 });
    };
    const refused = await writer.write(lines).done;
    expect(refused.map(({ index }) => index)).toEqual([50]);
    expect(stored.size).toBe(99);
    expect(outcomes[0]).toBe("partly_refused");
  });

  test("422 with all lines dropped refuses them without further requests", async () => {
    const { writer } = make();
    // The message of InfluxDB 2.9.1.
    const of = "for database: 91040e1bf6671dfd for retention policy: autogen";
    answer = (body) => error(422, `partial write: points beyond retention policy dropped=${body.length} ${of}`);
    expect(await writer.write(linesOf(3000)).done).toHaveLength(3000);
    expect(bodies).toHaveLength(1);
  });

  test("text of a sender in the message is not taken for the number of dropped lines", async () => {
    const { writer } = make();
    const faulty = "m,a=quote dropped=2 1";
    answer = (body) => (body.includes(faulty) ? error(400, `unable to parse '${faulty}': invalid point`) : store(body));
    // A power of two, so that halving comes to a pair with the faulty line.
    const lines = linesOf(128);
    lines[50] = faulty;
    expect((await writer.write(lines).done).map(({ index }) => index)).toEqual([50]);
    expect(stored.size).toBe(127);
  });

  test("413 halves the body until it fits", async () => {
    const { writer } = make();
    answer = (body) => (body.length > 700 ? new Response("too large", { status: 413 }) : store(body));
    expect(await writer.write(linesOf(5000)).done).toEqual([]);
    expect(stored.size).toBe(5000);
  });

  for (const [status, message] of [
    [401, "unauthorized access"],
    [403, "insufficient permissions"],
    [404, "bucket not found"],
    [400, "org is required"],
  ] as const) {
    test(`${status} ("${message}") refuses no line, retries, and reports the writer as blocked`, async () => {
      const { writer, blocked } = make({ operatorRetryMs: 20 });
      answer = (body, call) => (call < 3 ? error(status, message) : store(body));
      expect(await writer.write(linesOf(5)).done).toEqual([]);
      expect(bodies).toHaveLength(4);
      expect(blocked).toEqual([true, false]);
    });
  }

  test("a writer whose refused lines are all cancelled is not blocked: it has nothing to write", async () => {
    const { writer, blocked } = make({ operatorRetryMs: 60_000 });
    answer = () => error(401, "unauthorized access");
    const write = writer.write(linesOf(5));
    await eventually("a refused write", () => blocked.length === 1);
    write.cancel();
    expect(blocked).toEqual([true, false]);
  });

  test("the answer to cancelled lines does not block the writer", async () => {
    const { writer, blocked, outcomes } = make({ operatorRetryMs: 60_000 });
    const { promise, resolve } = Promise.withResolvers<void>();
    answer = () => promise.then(() => error(401, "unauthorized access"));
    const write = writer.write(linesOf(5));
    await eventually("a request", () => bodies.length === 1);
    write.cancel();
    resolve();
    await eventually("its answer", () => outcomes.length === 1);
    await Bun.sleep(0);
    expect(blocked).toEqual([]);
  });

  test("does not follow a redirect", async () => {
    const { writer, outcomes } = make();
    answer = (body, call) => (call === 0 ? Response.redirect("https://localhost:1/elsewhere", 307) : store(body));
    expect(await writer.write(linesOf(1)).done).toEqual([]);
    expect(outcomes.at(-1)).toBe("written");
    expect(outcomes).toHaveLength(2);
  });

  test("sends no lines to an untrusted server", async () => {
    const stranger = await newTestCertificate();
    const { writer, outcomes } = make({ ca: stranger.ca });
    const pending = writer.write(linesOf(1));
    await eventually("an attempt", () => outcomes.length > 0);
    pending.cancel();
    expect(bodies).toEqual([]);
    expect(outcomes[0]).toBe("unreachable");
  });

  test("cancelled lines are not retried, other lines are", async () => {
    let open = false;
    const { writer } = make({
      // In the pause behind an attempt: none is on its way then that would still have all lines.
      onRequest: () => {
        unwanted.cancel();
        open = true;
      },
    });
    answer = (body) => (open ? store(body) : error(503, "away"));
    const unwanted = writer.write(linesOf(5));
    const wanted = writer.write(linesOf(5, 100));
    await wanted.done;
    expect([...stored].sort()).toEqual(linesOf(5, 100).sort());
  });
});

describe("classifyResponse", () => {
  test("reads the number of dropped points", () => {
    const result = classifyResponse(422, '{"message":"partial write: dropped=7"}', null);
    expect(result).toMatchObject({ kind: "line_fault", dropped: 7 });
    // A name of a sender, and the number at the end of a message that is longer than what is logged of it.
    const named = `partial write: input field "dropped=5000" on measurement "${"m".repeat(2000)}" dropped=1`;
    expect(classifyResponse(422, JSON.stringify({ message: named }), null)).toMatchObject({ dropped: 1 });
  });
  test("uses an error body that is not JSON as the message", () => {
    expect(classifyResponse(502, "<html>bad gateway</html>", null)).toMatchObject({ kind: "retry", outcome: "failed" });
  });
});

describe("retryAfterMs", () => {
  test("accepts seconds and dates, bounded below and above", () => {
    const now = Date.UTC(2026, 0, 1);
    expect(retryAfterMs(null, now)).toBeUndefined();
    expect(retryAfterMs("2", now)).toBe(2000);
    expect(retryAfterMs(new Date(now + 5000).toUTCString(), now)).toBe(5000);
    expect(retryAfterMs(new Date(now - 5000).toUTCString(), now)).toBe(0);
    expect(retryAfterMs("86400", now)).toBe(60_000);
    expect(retryAfterMs("soon", now)).toBeUndefined();
  });
});

test("retryPauseMs grows to 5 s, for an unreachable server to 1 s", () => {
  expect([0, 1, 2, 3].map((attempt) => retryPauseMs("failed", attempt))).toEqual([100, 200, 400, 800]);
  expect(retryPauseMs("failed", 50)).toBe(5000);
  expect([0, 1, 3, 4, 50].map((attempt) => retryPauseMs("unreachable", attempt))).toEqual([100, 200, 800, 1000, 1000]);
});
