/** Goal: an open load keeps its schedule, and every event has one outcome. */
import { expect, test } from "bun:test";
import { parseEvent, serializeEvent } from "../../../services/domain/event.ts";
import { parseStages } from "../../../services/domain/load-stages.ts";
import type { Range } from "../../../services/domain/sequence.ts";
import type { SecondReport } from "../../../services/protocol/load-generator.ts";
import type { SendOutcome } from "../../../services/tools/intake-client.ts";
import { classifyAnswer } from "../../../services/tools/intake-client.ts";
import { OpenLoad, type OpenLoadOptions } from "../../../services/tools/open-load.ts";

const CONVEYORS = ["load-t-1", "load-t-2", "load-t-3"];
const TAKEN: SendOutcome = { kind: "acknowledged", refused: [] };
/** Below every wait of the load, with time for a busy machine. */
const AT_ONCE_MS = 10_000;
const encoder = new TextEncoder();

function load(stages: string, send: OpenLoadOptions["send"], more: Partial<OpenLoadOptions> = {}) {
  const options = { stages: parseStages(stages), run: "r", conveyors: CONVEYORS, seed: 1 };
  return new OpenLoad({ ...options, serialize: serializeEvent, send, ...more });
}

const size = (ranges: readonly Range[]) => ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);

test.concurrent("every event has its own identity, without gaps, and the time at which it was due", async () => {
  const seen = new Map<string, number[]>();
  const times: number[] = [];
  const generator = load("1s@400", async (body) => {
    for (const line of body.split("\n")) {
      const { event } = parseEvent(encoder.encode(line));
      seen.set(event!.conveyor, [...(seen.get(event!.conveyor) ?? []), event!.seq]);
      times.push(event!.ts);
    }
    return TAKEN;
  });
  const summary = await generator.run();
  expect(summary).toMatchObject({ offered: 400, acknowledged: 400, failed: 0, unknown: 0, shed: 0, retries: 0 });
  for (const seqs of seen.values()) expect(seqs).toEqual(seqs.map((_, index) => index));
  expect([...seen.values()].flat()).toHaveLength(400);
  expect(times.at(-1)! - times[0]!).toBeWithin(990, 1001);
  expect(generator.ledger().map(({ acknowledged }) => acknowledged.length)).toEqual([1, 1, 1]);
});

test.concurrent("slow answers do not change the offered rate", async () => {
  const summary = await load("1s@1000", async () => {
    await Bun.sleep(700);
    return TAKEN;
  }).run();
  expect(summary).toMatchObject({ offered: 1000, acknowledged: 1000, shed: 0 });
  expect(summary.latency_p50_ms!).toBeGreaterThan(690);
});

test.concurrent("outstanding requests are bounded; events beyond the bound count as failed", async () => {
  let [outstanding, most] = [0, 0];
  const summary = await load(
    "1s@10000",
    async (_, signal) => {
      outstanding += 1;
      most = Math.max(most, outstanding);
      await Promise.race([Bun.sleep(1500), new Promise((resolve) => signal.addEventListener("abort", resolve))]);
      outstanding -= 1;
      return TAKEN;
    },
    { maxOutstandingRequests: 3 },
  ).run();
  expect(most).toBe(3);
  expect(summary.offered).toBe(10_000);
  // A request holds 500 events at most, also on a busy machine.
  expect(summary.shed).toBeGreaterThan(5000);
  expect(summary.failed).toBe(summary.shed);
  expect(summary.acknowledged + summary.failed + summary.unknown).toBe(10_000);
});

test.concurrent("a request without an answer is sent again unchanged, and counts once", async () => {
  const bodies: string[] = [];
  const summary = await load("1s@200", async (body) => {
    const isFirst = !bodies.includes(body);
    bodies.push(body);
    return isFirst ? { kind: "unknown", afterMs: 1, why: "reset" } : TAKEN;
  }).run();
  expect(summary).toMatchObject({ offered: 200, acknowledged: 200, failed: 0, unknown: 0 });
  expect(summary.retries).toBe(summary.requests / 2);
  expect(summary.resent).toBe(200);
  expect(bodies.length).toBe(2 * new Set(bodies).size);
});

test.concurrent("events that were certainly not accepted have failed; the others are unknown", async () => {
  const bodies: string[] = [];
  const generator = load(
    // More than one request can hold, however late the machine is.
    "1s@1000",
    async (body) => {
      if (!bodies.includes(body)) bodies.push(body);
      return bodies.indexOf(body) % 2 === 0
        ? { kind: "not_taken", afterMs: 10, why: "503 full" }
        : { kind: "unknown", afterMs: 10, why: "timeout" };
    },
    { giveUpMs: 300 },
  );
  const summary = await generator.run();
  expect(summary.acknowledged).toBe(0);
  expect(summary.failed).toBeGreaterThan(0);
  expect(summary.unknown).toBeGreaterThan(0);
  expect(summary.failed + summary.unknown).toBe(1000);
  const ledger = generator.ledger();
  expect(ledger.reduce((sum, { failed }) => sum + size(failed), 0)).toBe(summary.failed);
  expect(ledger.reduce((sum, { unknown }) => sum + size(unknown), 0)).toBe(summary.unknown);
});

test.concurrent("stop ends the load at once with a complete ledger", async () => {
  const seconds: SecondReport[] = [];
  const generator = load(
    "3600s@1000",
    (_, signal) =>
      new Promise((resolve) =>
        signal.addEventListener("abort", () => resolve({ kind: "unknown", afterMs: 200, why: "AbortError" })),
      ),
    { onSecond: (report) => seconds.push(report) },
  );
  const running = generator.run();
  await Bun.sleep(300);
  const stoppedAt = performance.now();
  generator.stop();
  const summary = await running;
  // An hour of its schedule is left, and half a minute until it gives up a request.
  expect(performance.now() - stoppedAt).toBeLessThan(AT_ONCE_MS);
  expect(summary.interrupted).toBe(true);
  expect(summary.unknown).toBe(summary.offered);
  expect(seconds.reduce((sum, { offered }) => sum + offered, 0)).toBe(summary.offered);
});

test.concurrent("refused events of an accepted request have failed, by their position", async () => {
  const generator = load("1s@20", async () => ({ kind: "acknowledged", refused: [0] }));
  const summary = await generator.run();
  expect(summary.failed).toBe(summary.requests);
  expect(summary.acknowledged).toBe(20 - summary.requests);
});

test.each([
  [200, '{"acknowledged":2}', null, { kind: "acknowledged", refused: [] }],
  [207, '{"refused_count":1,"refused":[{"index":3}]}', null, { kind: "acknowledged", refused: [3] }],
  [207, '{"refused_count":2,"refused":[{"index":3}],"refused_indexes":[3,7]}', null, { refused: [3, 7] }],
  [503, '{"code":"buffer_full","error":"the buffer is full"}', "1", { kind: "not_taken", afterMs: 1000 }],
  [503, '{"error":"Kafka has not acknowledged every event in time"}', "1", { kind: "unknown", afterMs: 1000 }],
  [500, "<html>", null, { kind: "unknown" }],
  [401, '{"error":"a bearer token is required"}', null, { kind: "rejected" }],
  // The list of refused events is incomplete: which ones were accepted is unknown.
  [207, '{"refused_count":2,"refused":[{"index":3}]}', null, { kind: "unknown" }],
] as const)("classifyAnswer: %p %s", (status, text, retryAfter, outcome) => {
  expect(classifyAnswer(status, text, retryAfter)).toMatchObject(outcome as object);
});
