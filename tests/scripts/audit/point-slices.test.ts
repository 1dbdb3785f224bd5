/** Slices of the database cover every point once, none with too many points. */
import { expect, test } from "bun:test";
import { type CountInWindows, planSlices, slicesOf, windowMsOf } from "../../../scripts/audit/point-slices.ts";

const windowMs = 60_000;

test("slicesOf joins adjacent sparse windows, splits dense ones and skips empty ones", () => {
  const counts = [
    { startMs: 0, points: 40 },
    { startMs: windowMs, points: 50 },
    { startMs: 2 * windowMs, points: 20 },
    { startMs: 3 * windowMs, points: 250 },
    { startMs: 100 * windowMs, points: 1 },
  ];
  expect(slicesOf(counts, { startMs: 500, endMs: 100 * windowMs + 7, windowMs }, 100)).toEqual([
    [500, 120_000],
    [120_000, 180_000],
    [180_000, 200_000],
    [200_000, 220_000],
    [220_000, 240_000],
    [6_000_000, 6_000_007],
  ]);
});

test("slicesOf covers every millisecond of windows with points exactly once", () => {
  const counts = Array.from({ length: 50 }, (_, index) => ({
    startMs: index * windowMs,
    points: (index * 7919) % 400,
  }));
  const slices = slicesOf(counts, { startMs: 0, endMs: 50 * windowMs, windowMs }, 100);
  for (const [index, [from, to]] of slices.entries()) {
    expect(to).toBeGreaterThan(from);
    if (index > 0) expect(from).toBeGreaterThanOrEqual(slices[index - 1]![1]);
  }
  const covered = slices.reduce((sum, [from, to]) => sum + to - from, 0);
  expect(covered).toBe(counts.filter(({ points }) => points > 0).length * windowMs);
});

test("slicesOf returns no slice without points; windowMsOf lengthens windows for long ranges", () => {
  expect(slicesOf([], { startMs: 0, endMs: 1000, windowMs })).toEqual([]);
  expect(windowMsOf(0, 600_000)).toBe(60_000);
  expect(windowMsOf(0, 10_000 * 3_600_000)).toBe(3_600_000);
});

/** A database with points at these times. */
const databaseOf =
  (times: readonly number[]): CountInWindows =>
  async ({ startMs, endMs, windowMs }) => {
    const counts = new Map<number, number>();
    for (const time of times) {
      if (time < startMs || time >= endMs) continue;
      const window = Math.floor(time / windowMs) * windowMs;
      counts.set(window, (counts.get(window) ?? 0) + 1);
    }
    return [...counts].map(([startMs, points]) => ({ startMs, points }));
  };

const NOW_MS = 1_764_000_000_000;

test.each([
  [
    "although one old event makes windows long",
    [1_500_000_000_000, ...Array.from({ length: 5000 }, (_, index) => NOW_MS - 300_000 + index * 60)],
  ],
  [
    "although all points of a minute lie within a second",
    Array.from({ length: 5000 }, (_, index) => NOW_MS - 300_000 + Math.floor(index / 10)),
  ],
])("planSlices keeps slices small %s", async (_, times) => {
  const slices = await planSlices(databaseOf(times), times[0]!, NOW_MS + 1, 500);
  const held = slices.map(([from, to]) => times.filter((time) => time >= from && time < to).length);
  expect(held.reduce((sum, points) => sum + points, 0)).toBe(times.length);
  expect(Math.max(...held)).toBeLessThanOrEqual(501);
});

test("planSlices ends at a millisecond with too many points", async () => {
  const times = [...Array.from({ length: 900 }, () => NOW_MS), NOW_MS + 1];
  expect(await planSlices(databaseOf(times), NOW_MS - 10, NOW_MS + 2, 500)).toEqual([
    [NOW_MS, NOW_MS + 1],
    [NOW_MS + 1, NOW_MS + 2],
  ]);
});
