/** Labels above charts: how wide they are and in which row each has room. */

/** Width of a text in the font of an element, in pixels. */
export function labelWidths(element: Element): (text: string) => number {
  const context = document.createElement("canvas").getContext("2d")!;
  const { fontWeight, fontSize, fontFamily } = getComputedStyle(element);
  context.font = `${fontWeight} ${fontSize} ${fontFamily}`;
  return (text) => context.measureText(text).width;
}

/** The first row in which each interval touches no other; intervals that need more rows than the limit are dropped. */
export function placeInRows<T extends { from: number; to: number }>(
  intervals: readonly T[],
  maxRows: number,
): (T & { row: number })[] {
  const rows: T[][] = Array.from({ length: maxRows }, () => []);
  return intervals.flatMap((interval) => {
    const row = rows.findIndex((others) => others.every(({ from, to }) => interval.to <= from || interval.from >= to));
    rows[row]?.push(interval);
    return row < 0 ? [] : [{ ...interval, row }];
  });
}
