/** Goal: an ordered load repeats each batch until it is acknowledged, in order, and prints each step. */
import { expect, test } from "bun:test";
import { parseEvent, serializeEvent } from "../../../services/domain/event.ts";
import { parseStages } from "../../../services/domain/load-stages.ts";
import type { OrderedLoadLine } from "../../../services/protocol/load-generator.ts";
import type { Send } from "../../../services/tools/delivery.ts";
import { OrderedLoad } from "../../../services/tools/ordered-load.ts";

const CONVEYORS = ["drill-0", "drill-1"];
const encoder = new TextEncoder();
const identitiesOf = (body: string) =>
  body.split("\n").map((line) => {
    const { event } = parseEvent(encoder.encode(line));
    return [event!.conveyor, event!.seq] as const;
  });

function load(stages: string, send: Send, drainLimitMs?: number) {
  const lines: OrderedLoadLine[] = [];
  const ordered = new OrderedLoad({
    stages: parseStages(stages),
    run: "r",
    conveyors: CONVEYORS,
    seed: 1,
    serialize: serializeEvent,
    send,
    onLine: (line) => lines.push(line),
    drainLimitMs,
  });
  return { ordered, lines };
}

test.concurrent("every event of the schedule is sent once, in order, one batch per conveyor at a time", async () => {
  const sent = new Map<string, number[]>();
  const underWay = new Set<string>();
  const { ordered, lines } = load("1s@100", async (body) => {
    const identities = identitiesOf(body);
    const conveyor = identities[0]![0];
    expect(underWay.has(conveyor)).toBe(false);
    underWay.add(conveyor);
    sent.set(conveyor, [...(sent.get(conveyor) ?? []), ...identities.map(([, seq]) => seq)]);
    await Bun.sleep(20);
    underWay.delete(conveyor);
    return { kind: "acknowledged", refused: [] };
  });
  const counts = await ordered.run();
  expect(counts).toEqual({ offered: 100, acknowledged: 100, unknown: 0, again: 0 });
  for (const conveyor of CONVEYORS) expect(sent.get(conveyor)).toEqual(Array.from({ length: 50 }, (_, seq) => seq));
  expect(lines.at(-1)).toMatchObject({ done: counts });
});

test.concurrent("a batch is repeated unchanged until it is acknowledged, whatever the answer", async () => {
  const answers = [
    { kind: "unknown", afterMs: 60_000, why: "TimeoutError" },
    { kind: "rejected", why: "401" },
    { kind: "not_taken", afterMs: 60_000, why: "503" },
  ] as const;
  const bodies: string[] = [];
  const repeats: boolean[] = [];
  const { ordered, lines } = load("1s@2", async (body, _signal, isRepeat) => {
    if (!body.includes("drill-0")) return { kind: "acknowledged", refused: [] };
    bodies.push(body);
    repeats.push(isRepeat);
    return answers[bodies.length - 1] ?? { kind: "acknowledged", refused: [] };
  });
  expect(await ordered.run()).toEqual({ offered: 2, acknowledged: 2, unknown: 0, again: 3 });
  expect(new Set(bodies).size).toBe(1);
  expect(repeats).toEqual([false, true, true, true]);
  const own = lines.filter((line) => JSON.stringify(line).includes("drill-0"));
  expect(own.map((line) => Object.keys(line)[0])).toEqual(["attempt", "again", "again", "again", "outcome"]);
});

test.concurrent("stop sends what is due; the limit ends a batch without acknowledgement as unknown", async () => {
  const { ordered, lines } = load(
    "3600s@1000",
    async (body) =>
      body.includes("drill-0")
        ? { kind: "acknowledged", refused: [] }
        : { kind: "unknown", afterMs: 1, why: "TimeoutError" },
    300,
  );
  const running = ordered.run();
  await Bun.sleep(500);
  ordered.stop();
  const counts = await running;
  expect(counts.acknowledged).toBeGreaterThan(0);
  expect(counts.unknown).toBeGreaterThan(0);
  expect(counts.acknowledged + counts.unknown).toBe(counts.offered);
  expect(lines.filter((line) => "outcome" in line && line.outcome === "unknown")).toHaveLength(1);
});
