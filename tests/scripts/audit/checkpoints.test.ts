/** Checkpoints restore a producer's ledger from log lines of any order and number, and a missing line is never taken for complete. */
import { describe, expect, test } from "bun:test";
import { isInRanges, producerLives } from "../../../scripts/audit/checkpoints.ts";
import { addRanges, mergeRanges, type RangesByRun } from "../../../services/domain/ledger-ranges.ts";
import { Ledger } from "../../../services/domain/sequence.ts";
import { LedgerCheckpoints } from "../../../services/producer/ledger-checkpoints.ts";
import { readCheckpoint } from "../../../services/protocol/ledger-checkpoint.ts";
import { Logger } from "../../../services/runtime/log.ts";

/** A ledger, its checkpoints, and the log lines that they write. */
function life(run = "life-1") {
  const lines: string[] = [];
  const ledger = new Ledger();
  const log = new Logger("producer", "info", {}, (line) => void lines.push(line));
  const checkpoints = new LedgerCheckpoints({ run, ledger, log });
  return { ledger, checkpoints, lines, read: () => producerLives(lines.map((line) => readCheckpoint(line)!)) };
}

const asRecord = (ledger: ReturnType<typeof producerLives>[number]["ledger"]) =>
  Object.fromEntries([...ledger].map(([run, conveyors]) => [run, Object.fromEntries(conveyors)]));

describe("checkpoints", () => {
  test("restore the ledger, with gaps, repeats and late numbers", () => {
    const { ledger, checkpoints, read } = life();
    for (let round = 0; round < 50; round++) {
      for (let seq = round * 10; seq < round * 10 + 10; seq++) {
        ledger.add("life-1", "belt-1", seq);
        if (seq % 7 !== 0) ledger.add("life-1", "belt-2", seq);
      }
      if (round === 20) ledger.add("http-run", "x", 3);
      if (round === 40) ledger.add("life-1", "belt-2", 14);
      checkpoints.write(false);
    }
    checkpoints.stop(0);
    const [found] = read();
    expect(found).toMatchObject({ run: "life-1", isComplete: true, repeated: 0 });
    expect(asRecord(found!.ledger)).toEqual(JSON.parse(JSON.stringify(ledger)));
  });

  test("restore runs and conveyors named like properties of every object", () => {
    const { ledger, checkpoints, read } = life();
    for (const name of ["constructor", "toString", "__proto__"]) {
      ledger.add(name, "belt-1", 1);
      ledger.add("life-1", name, 2);
    }
    checkpoints.stop(0);
    expect(JSON.stringify(asRecord(read()[0]!.ledger))).toBe(JSON.stringify(ledger));
  });

  test("are written only after a change, but the final one always", () => {
    const { ledger, checkpoints, lines } = life();
    ledger.add("r", "c", 0);
    checkpoints.write(false);
    checkpoints.write(false);
    ledger.add("r", "c", 0);
    checkpoints.write(false);
    expect(lines).toHaveLength(1);
    checkpoints.stop(3);
    expect(readCheckpoint(lines[1]!)).toMatchObject({ final: true, unsettled: 3, repeated: 1, ledger: {} });
  });

  test("are incomplete without the final one, or with a missing line", () => {
    const killed = life();
    killed.ledger.add("r", "c", 0);
    killed.checkpoints.write(false);
    expect(killed.read()[0]).toMatchObject({ isComplete: false, gap: "its final checkpoint is missing" });

    const ended = life();
    for (let seq = 0; seq < 3; seq++) {
      ended.ledger.add("r", "c", seq);
      ended.checkpoints.write(false);
    }
    ended.checkpoints.stop(0);
    const lines = ended.lines.map((line) => readCheckpoint(line)!);
    expect(producerLives(lines.toSpliced(1, 1))[0]).toMatchObject({
      isComplete: false,
      gap: "1 of its checkpoints are missing",
    });
    // Twice and in another order, as from the pod and from the log store.
    expect(producerLives([...lines, ...lines.toReversed()])[0]).toMatchObject({ isComplete: true });
    // Lines before the window are not required.
    expect(producerLives(lines.slice(1))[0]).toMatchObject({ isComplete: true });
  });

  test("split a large ledger into lines below 16 KiB and write the rest later", () => {
    const { ledger, checkpoints, lines, read } = life();
    for (let conveyor = 0; conveyor < 3000; conveyor++) {
      for (let seq = 0; seq < 10; seq += 2) ledger.add("r", `conveyor-${conveyor}`, seq);
    }
    for (let seq = 0; seq < 2000; seq += 2) ledger.add("r", "full-of-gaps", seq);
    checkpoints.write(false);
    const first = lines.length;
    expect(first).toBeGreaterThan(5);
    checkpoints.stop(0);
    expect(lines.length).toBeGreaterThan(first);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(16 * 1024);
    expect(asRecord(read()[0]!.ledger)).toEqual(JSON.parse(JSON.stringify(ledger)));
  });

  test("reach every conveyor in turn, when more change than one checkpoint lists", () => {
    const { ledger, checkpoints, lines } = life();
    const listed = new Set<string>();
    for (let round = 0; round < 3; round++) {
      for (let conveyor = 0; conveyor < 5000; conveyor++) ledger.add("r", `belt-${conveyor}`, round);
      checkpoints.write(false);
    }
    for (const line of lines) for (const belt of Object.keys(readCheckpoint(line)!.ledger.r!)) listed.add(belt);
    expect(listed.size).toBe(5000);
  });

  test("are read from a log store that keeps every value as text", () => {
    const { ledger, checkpoints, lines } = life();
    ledger.add("r", "belt.with.dots", 7);
    checkpoints.stop(2);
    const fields = Object.entries(JSON.parse(lines[0]!) as Record<string, unknown>).map(([name, value]) => [
      name,
      typeof value === "string" ? value : JSON.stringify(value),
    ]);
    expect(readCheckpoint(JSON.stringify(Object.fromEntries(fields)))).toEqual(readCheckpoint(lines[0]!)!);
    expect(readCheckpoint(lines[0]!)).toMatchObject({ number: 1, final: true, unsettled: 2 });
    expect(readCheckpoint(lines[0]!)!.ledger.r).toEqual({ "belt.with.dots": [[7, 7]] });
  });

  test("of producers that wrote the ledger as an object are read, as during an upgrade", () => {
    const line = { event: "ledger_checkpoint", run: "r", number: 1, final: true, ledger: { r: { c: [[0, 2]] } } };
    expect(readCheckpoint(JSON.stringify(line))).toMatchObject({ ledger: line.ledger });
  });

  test("ignore other log lines", () => {
    expect(readCheckpoint('{"event":"running","note":"ledger_checkpoint"}')).toBeUndefined();
    expect(readCheckpoint("ledger_checkpoint {")).toBeUndefined();
  });
});

test("addRanges merges ranges of any order with the ranges that they touch, and returns the growth", () => {
  const target: RangesByRun = new Map();
  const held = () => target.get("r")!.get("c")!;
  expect(addRanges(target, "r", "c", [[10, 12], [0, 2]])).toBe(2); // biome-ignore format: a table
  expect(addRanges(target, "r", "c", [[20, 20]])).toBe(1);
  expect(addRanges(target, "r", "c", [[5, 5]])).toBe(1);
  expect(held()).toEqual([[0, 2], [5, 5], [10, 12], [20, 20]]); // biome-ignore format: a table
  expect(addRanges(target, "r", "c", [[3, 9]])).toBe(-2);
  expect(addRanges(target, "r", "c", [[13, 25]])).toBe(-1);
  expect(held()).toEqual([[0, 25]]);
  expect(addRanges(target, "r", "c", [[4, 8]])).toBe(0);
});

test("mergeRanges joins overlapping and adjacent ranges; isInRanges finds a number in them", () => {
  const ranges = mergeRanges([
    [7, 9],
    [0, 2],
    [3, 3],
    [8, 12],
  ]);
  expect(ranges).toEqual([
    [0, 3],
    [7, 12],
  ]);
  for (const [seq, found] of [
    [0, true],
    [3, true],
    [4, false],
    [6, false],
    [7, true],
    [13, false],
  ] as const) {
    expect(isInRanges(ranges, seq)).toBe(found);
  }
  expect(isInRanges(undefined, 0)).toBe(false);
});
