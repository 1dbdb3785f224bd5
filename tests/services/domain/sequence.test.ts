import { describe, expect, test } from "bun:test";
import { Ledger, SequenceRanges } from "../../../services/domain/sequence.ts";

describe("SequenceRanges", () => {
  test("consecutive numbers are one range", () => {
    const ranges = new SequenceRanges();
    for (let seq = 0; seq < 1000; seq++) ranges.add(seq);
    expect(ranges.toJSON()).toEqual([[0, 999]]);
    expect(ranges.count).toBe(1000);
  });

  test("a filled gap joins its neighbours", () => {
    const ranges = new SequenceRanges();
    for (const seq of [0, 1, 3, 4, 2]) ranges.add(seq);
    expect(ranges.toJSON()).toEqual([[0, 4]]);
  });

  test("equals a set for thousands of shuffled and repeated numbers", () => {
    const ranges = new SequenceRanges();
    const set = new Set<number>();
    for (let round = 0; round < 20_000; round++) {
      const seq = Math.floor(Math.random() * 3000);
      expect(ranges.add(seq)).toBe(!set.has(seq));
      set.add(seq);
    }
    expect(ranges.count).toBe(set.size);
    const listed = ranges
      .toJSON()
      .flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i));
    expect(listed).toEqual([...set].sort((a, b) => a - b));
    const bounds = ranges.toJSON();
    for (let index = 1; index < bounds.length; index++) {
      expect(bounds[index]![0]).toBeGreaterThan(bounds[index - 1]![1] + 1);
    }
  });
});

describe("Ledger", () => {
  test("separates runs and conveyors and counts repetitions", () => {
    const ledger = new Ledger();
    for (const [run, conveyor, seq] of ["a x 0", "a x 1", "a y 0", "b x 0", "b x 0"].map((text) => text.split(" "))) {
      ledger.add(run!, conveyor!, Number(seq));
    }
    expect(JSON.parse(JSON.stringify(ledger))).toEqual({ a: { x: [[0, 1]], y: [[0, 0]] }, b: { x: [[0, 0]] } });
    expect(ledger.repeated).toBe(1);
    expect(ledger.count).toBe(4);
  });

  test("is bounded and counts dropped numbers", () => {
    const ledger = new Ledger(10);
    for (let index = 0; index < 25; index++) ledger.add("run", `conveyor-${index}`, 0);
    expect(Object.keys(ledger.toJSON().run!)).toHaveLength(10);
    expect(ledger.dropped).toBe(15);
  });

  test("accepts a run named like a member of Object.prototype", () => {
    const ledger = new Ledger();
    ledger.add("constructor", "toString", 1);
    expect(ledger.toJSON().constructor as unknown).toEqual({ toString: [[1, 1]] });
  });
});
