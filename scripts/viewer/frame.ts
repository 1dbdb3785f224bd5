/** What a panel shows, as the server sends it and the page draws it. */

export type Value = number | null;

/** Curves over the same times. */
export interface SeriesFrame {
  kind: "series";
  timesMs: number[];
  series: { label: string; values: Value[] }[];
  /** Curves beyond the bound of a panel. */
  notShown?: number;
}

export interface TableFrame {
  kind: "table";
  columns: string[];
  rows: (string | Value)[][];
  /** Rows beyond the bound of a panel. */
  notShown?: number;
}

export interface LogFrame {
  kind: "logs";
  /** Newest first. */
  lines: { timeMs: number; level: string; service: string; pod: string; text: string; fields: [string, string][] }[];
  /** There are older ones. */
  isCut: boolean;
}

export type Frame = SeriesFrame | TableFrame | LogFrame;

/** Period of a page, in milliseconds since the epoch. */
export interface Period {
  fromMs: number;
  toMs: number;
}
