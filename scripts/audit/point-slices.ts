/** Splits a time range into slices by number of points, so that the database never sorts more than fits its memory. Pure. */

/** Points per query: the database joins their seven fields in memory. */
const MAX_POINTS_PER_SLICE = 60_000;
/** Points are counted in windows of this length… */
const WINDOW_MS = 60_000;
/** …or longer ones, if a range has more windows than this. */
const MAX_WINDOWS = 10_000;

/** Points of the window that begins at `startMs`; windows are aligned to their length. */
export interface PointCount {
  startMs: number;
  points: number;
}

/** Length of the windows in which the points of a time range are counted. */
export const windowMsOf = (startMs: number, endMs: number): number =>
  Math.max(WINDOW_MS, Math.ceil((endMs - startMs) / MAX_WINDOWS));

/** Time ranges [start, end) with all counted points, each with about `most` of them at most. */
export function slicesOf(
  counts: readonly PointCount[],
  range: { startMs: number; endMs: number; windowMs: number },
  most = MAX_POINTS_PER_SLICE,
): [startMs: number, endMs: number][] {
  const slices: [number, number][] = [];
  let points = 0;
  for (const count of [...counts].sort((a, b) => a.startMs - b.startMs)) {
    const startMs = Math.max(range.startMs, count.startMs);
    const endMs = Math.min(range.endMs, count.startMs + range.windowMs);
    if (count.points === 0 || endMs <= startMs) continue;
    const last = slices.at(-1);
    if (last && last[1] === startMs && points + count.points <= most) {
      last[1] = endMs;
      points += count.points;
      continue;
    }
    points = count.points;
    const parts = Math.min(Math.ceil(count.points / most), endMs - startMs);
    for (let part = 0; part < parts; part++) {
      const at = (index: number) => startMs + Math.floor(((endMs - startMs) * index) / parts);
      slices.push([at(part), at(part + 1)]);
    }
  }
  return slices;
}

export type CountInWindows = (range: { startMs: number; endMs: number; windowMs: number }) => Promise<PointCount[]>;

/** A dense window is counted again in this many parts: its points may lie within a second of it. */
const PARTS_OF_DENSE = 60;

/** Time ranges with all points of a longer one. Dense windows are counted again in shorter ones, down to a millisecond. */
export async function planSlices(
  count: CountInWindows,
  startMs: number,
  endMs: number,
  most = MAX_POINTS_PER_SLICE,
  windowMs = windowMsOf(startMs, endMs),
): Promise<[startMs: number, endMs: number][]> {
  const range = { startMs, endMs, windowMs };
  const counts = await count(range);
  const isDense = ({ points }: PointCount) => points > most && windowMs > 1;
  const slices = slicesOf(
    counts.filter((window) => !isDense(window)),
    range,
    most,
  );
  for (const dense of counts.filter(isDense)) {
    const [from, to] = [Math.max(startMs, dense.startMs), Math.min(endMs, dense.startMs + windowMs)];
    slices.push(...(await planSlices(count, from, to, most, Math.ceil(windowMs / PARTS_OF_DENSE))));
  }
  return slices.sort((a, b) => a[0] - b[0]);
}
