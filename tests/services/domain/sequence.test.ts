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
    const ledger = new Ledger({ maxEntries: 10 });
    for (let index = 0; index < 25; index++) ledger.add("run", `conveyor-${index}`, 0);
    expect(Object.keys(ledger.toJSON().run!)).toHaveLength(10);
    expect(ledger.dropped).toBe(15);
  });

  test("bounds the ranges of all conveyors together; each keeps its newest", () => {
    const ledger = new Ledger({ maxRanges: 100 });
    for (let seq = 0; seq < 1000; seq++) ledger.add("run", "even", seq * 2);
    for (let seq = 0; seq < 50; seq++) ledger.add("run", "whole", seq);
    for (let seq = 0; seq < 30; seq++) ledger.add("run", "odd", seq * 2 + 1);
    expect(ledger.rangeCount).toBeLessThanOrEqual(100);
    const { even, whole, odd } = ledger.toJSON().run!;
    expect(ledger.rangeCount).toBe(even!.length + whole!.length + odd!.length);
    expect(even!.at(-1)).toEqual([1998, 1998]);
    expect(whole).toEqual([[0, 49]]);
    expect(odd!.at(-1)).toEqual([59, 59]);
    // Every acknowledgement is listed, dropped or repeated.
    expect(ledger.count + ledger.dropped).toBe(1000 + 50 + 30);
    ledger.add("run", "even", 1998);
    expect(ledger.repeated).toBe(1);
  });

  test("lists 11,000 numbers with gaps of one conveyor", () => {
    const ledger = new Ledger();
    for (let seq = 0; seq < 11_000; seq++) ledger.add("run", "gaps", seq * 2);
    expect(ledger.count).toBe(11_000);
    expect(ledger.dropped).toBe(0);
  });

  test("the default bound holds for many conveyors with gaps", () => {
    const ledger = new Ledger();
    for (let seq = 0; seq < 1500; seq++) {
      for (let conveyor = 0; conveyor < 400; conveyor++) ledger.add("run", `belt-${conveyor}`, seq * 2);
    }
    expect(ledger.rangeCount).toBeLessThanOrEqual(500_000);
    expect(ledger.count + ledger.dropped).toBe(600_000);
  });

  test("changes are taken in turn, also while the first conveyors keep changing", () => {
    const ledger = new Ledger();
    const taken = new Map<string, number>();
    for (let round = 0; round < 6; round++) {
      for (let conveyor = 0; conveyor < 50; conveyor++) ledger.add("run", `belt-${conveyor}`, round);
      for (const { conveyor } of ledger.takeChanges(20)) taken.set(conveyor, (taken.get(conveyor) ?? 0) + 1);
    }
    expect(taken.size).toBe(50);
    expect(Math.max(...taken.values()) - Math.min(...taken.values())).toBeLessThanOrEqual(1);
  });

  test("accepts a run named like a member of Object.prototype", () => {
    const ledger = new Ledger();
    ledger.add("constructor", "toString", 1);
    expect(ledger.toJSON().constructor as unknown).toEqual({ toString: [[1, 1]] });
  });
});
