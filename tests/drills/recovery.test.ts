/** Goal: a recovery is neither seen too early nor too late. Method: rows written by hand. */
import { describe, expect, test } from "bun:test";
import {
  baselineOf,
  oldestFreshness,
  recoveredAt,
  type Sample,
  STABLE_MS,
  worseThan,
} from "../../scripts/drills/recovery.ts";

const row = (timeMs: number, change: Partial<Sample> = {}): Sample => ({
  timeMs,
  freshnessSeconds: 0.4,
  lagEvents: 10,
  acknowledgedPerSecond: 300,
  underReplicated: 0,
  unansweredMs: 50,
  ...change,
});
const rows = (fromMs: number, toMs: number, change: Partial<Sample> = {}): Sample[] => {
  const made: Sample[] = [];
  for (let timeMs = fromMs; timeMs < toMs; timeMs += 500) made.push(row(timeMs, change));
  return made;
};
const baseline = { freshnessSeconds: 0.5, lagEvents: 20 };

describe("recoveredAt", () => {
  test("is the first calm row behind the trouble, once calm has lasted", () => {
    const seen = [...rows(0, 1000), ...rows(1000, 6000, { freshnessSeconds: 5 }), ...rows(6000, 12_000)];
    expect(recoveredAt(seen, 0, baseline)).toBe(6000);
  });

  test("is not there while calm has not lasted", () => {
    const seen = [...rows(0, 4000, { freshnessSeconds: null }), ...rows(4000, 4000 + STABLE_MS)];
    expect(recoveredAt(seen, 0, baseline)).toBeUndefined();
  });

  test("is not the silence right behind a fault, before it shows", () => {
    const seen = [...rows(0, 2000), ...rows(2000, 8000, { freshnessSeconds: 4 }), ...rows(8000, 12_000)];
    expect(recoveredAt(seen, 0, baseline)).toBe(8000);
  });

  test("is not the calm while a pod that was told to end still works", () => {
    const seen = [...rows(0, 5000), ...rows(5000, 7000, { freshnessSeconds: 4 }), ...rows(7000, 12_000)];
    expect(recoveredAt(seen.slice(0, 10), 0, baseline, 4800)).toBeUndefined();
    expect(recoveredAt(seen, 0, baseline, 4800)).toBe(7000);
  });

  test("starts again when trouble comes back", () => {
    const seen = [
      ...rows(0, 2000, { lagEvents: 900 }),
      ...rows(2000, 4000),
      ...rows(4000, 5000, { lagEvents: 900 }),
      ...rows(5000, 9000),
    ];
    expect(recoveredAt(seen, 0, baseline)).toBe(5000);
  });

  test("is the fault's own moment when nothing ever got worse", () => {
    expect(recoveredAt(rows(0, 9000), 1200, baseline)).toBe(1200);
  });

  test("looks at freshness, at lag, and at the drill's own unanswered batch", () => {
    const trouble: Partial<Sample>[] = [
      { freshnessSeconds: null },
      { freshnessSeconds: 1.6 },
      { lagEvents: null },
      { lagEvents: 301 },
      { unansweredMs: 2000 },
    ];
    for (const change of trouble) {
      expect(worseThan(baseline, row(0, change))).toBeString();
      expect(recoveredAt(rows(0, 20_000, change), 0, baseline)).toBeUndefined();
    }
    expect(worseThan(baseline, row(0))).toBeUndefined();
  });
});

describe("baselineOf", () => {
  test("is the worst that was seen before", () => {
    expect(baselineOf([row(0), row(500, { freshnessSeconds: 0.9, lagEvents: 40 })])).toEqual({
      freshnessSeconds: 0.9,
      lagEvents: 40,
    });
  });

  test("refuses rows that could not be read", () => {
    expect(() => baselineOf([row(0, { lagEvents: null })])).toThrow("lag could not be read");
    expect(() => baselineOf([row(0, { freshnessSeconds: null })])).toThrow("freshness could not be read");
  });
});

test("the newest point ages on while it cannot be read", () => {
  const seen = [...rows(0, 2000), ...rows(2000, 9000, { freshnessSeconds: null }), ...rows(9000, 12_000)];
  expect(oldestFreshness(seen, 0, 12_000)).toBeCloseTo(0.4 + 7);
  expect(oldestFreshness(seen, 0, 4000)).toBeCloseTo(0.4 + 2.5);
  expect(oldestFreshness(seen, 9000, 12_000)).toBeCloseTo(0.4);
});
