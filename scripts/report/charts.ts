/**
 * Charts as HTML with their data as JSON: the page's script (browser/charts.ts) draws them with uPlot. Without a script
 * the page shows a table of the same values. A value that was not measured is a gap, never a zero.
 */

import { largest, type Mark, type MarkKind, smallest, type Value } from "../recording/recording.ts";
import { formatNumber, formatOffset, threeDigits } from "./format.ts";
import { type Html, html, jsonScript } from "./html.ts";

const CHART_HEIGHT_PX = 150;

/** Colours by meaning; the style sheet has one per theme. */
export type Tone = "blue" | "green" | "orange" | "purple" | "red" | "teal" | "grey";
export type Dash = "solid" | "dashed" | "dotted";

export interface ChartSeries {
  name: string;
  label: string;
  /** As many as there are times. */
  values: readonly Value[];
  tone?: Tone;
  dash?: Dash;
  /** Keeps its value until the next one, as a number of replicas does. */
  step?: boolean;
}

type BandTone = "plain" | "before" | "fault" | "healed" | "proven";

/** A shaded period: a stage of a load test, a phase of a drill. */
export interface Band {
  fromMs: number;
  toMs: number;
  label: string;
  tone: BandTone;
}

export interface Chart {
  title: string;
  /** "events/s", "ms", "replicas", … */
  unit: string;
  series: readonly ChartSeries[];
  /** A value that should not be exceeded. */
  limit?: { value: number; label: string };
  heightPx?: number;
}

export interface StackOptions {
  /** Accessible name of the group. */
  label: string;
  charts: readonly Chart[];
  timesMs: readonly number[];
  marks?: readonly Mark[];
  bands?: readonly Band[];
  /** What the axis shows; all times and bands when absent. */
  rangeMs?: { fromMs: number; toMs: number };
  /** Zero of the time axis; its begin when absent. */
  originMs?: number;
  /** What the time axis counts from: "time since the fault". */
  origin?: string;
  /** Rows reserved for labels of marks, so that the layout does not move; as many as needed when absent. */
  labelRows?: number;
  /** The table for readers without JavaScript. A live page needs none: it consists of its script. */
  table?: boolean;
}

/** A stack as the page's script reads it. Times are seconds since the origin. */
export interface StackData {
  /** Milliseconds since the epoch. */
  originMs: number;
  from: number;
  to: number;
  /** Compact columns, see columnText. */
  times: string;
  labelRows: number;
  marks: { at: number; kind: MarkKind; label?: string }[];
  bands: { from: number; to: number; label: string; tone: string }[];
  charts: {
    title: string;
    unit: string;
    heightPx: number;
    limit?: { value: number; label: string };
    series: { label: string; tone: Tone; dash: Dash; step?: true; values: string }[];
  }[];
}

const TONES: readonly Tone[] = ["blue", "orange", "green", "purple", "teal", "red", "grey"];
const DASHES: readonly Dash[] = ["solid", "dashed", "dotted"];

/** Signs beside the labels, so that colour is not the only difference. */
export const MARK_SIGNS: Readonly<Record<MarkKind, string>> = {
  stage: "▮",
  scale: "⇕",
  pod: "●",
  fault: "✖",
  effect: "◆",
  healed: "✚",
  recovered: "✔",
  alert: "⚠",
  note: "✎",
};
/** Marks with a label above the charts; the others have a line only, and a row in the table of events. */
const LABELLED: readonly MarkKind[] = ["scale", "fault", "effect", "healed", "recovered", "alert"];

/** Values as text: a repeat of the previous value is empty, a value that was not measured is "-". */
function columnText(values: readonly Value[]): string {
  const fields = values.map((value) => (value === null ? "-" : String(value)));
  return fields.map((field, index) => (index > 0 && field === fields[index - 1] ? "" : field)).join(",");
}

/** Lowest value, highest value, its time and the last value as texts; undefined where nothing was measured. */
function summaryOf({ values }: ChartSeries, timesMs: readonly number[], originMs: number): string[] | undefined {
  const measured = values.filter((value) => value !== null);
  if (measured.length === 0) return undefined;
  const high = largest(measured)!;
  const highAt = formatOffset(timesMs[values.indexOf(high)]! - originMs);
  return [formatNumber(smallest(measured)!), formatNumber(high), highAt, formatNumber(measured.at(-1)!)];
}

/** One sentence per curve, for screen readers. */
function altText({ title, unit, series }: Chart, timesMs: readonly number[], originMs: number): string {
  const sentences = series.map((one) => {
    const [low, high, highAt, last] = summaryOf(one, timesMs, originMs) ?? [];
    return low
      ? `${one.label}: ${low} to ${high} ${unit}, highest at ${highAt}, last ${last}`
      : `${one.label}: not measured`;
  });
  return `${title}. ${sentences.join("; ")}.`;
}

function fallbackTable({ label, charts, timesMs }: StackOptions, originMs: number, origin: string): Html {
  const rows = charts.flatMap(({ title, unit, series }) =>
    series.map((one) => {
      const cells = summaryOf(one, timesMs, originMs) ?? ["not measured", "", "", ""];
      return html`<tr><th scope="row">${title}: ${one.label}, ${unit}</th>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`;
    }),
  );
  return html`<noscript><div class="wide"><table class="numbers"><caption>${label}, as numbers: the charts need JavaScript. Times since ${origin}.</caption>
<thead><tr><th scope="col">measured</th><th scope="col">lowest</th><th scope="col">highest</th><th scope="col">highest at</th><th scope="col">last</th></tr></thead><tbody>${rows}</tbody></table></div></noscript>`;
}

/** "processor 3" for "from 2 to 3 replicas": the workload and its new number of replicas. */
function markLabel({ kind, text, subject }: Mark): string {
  if (kind !== "scale") return `${MARK_SIGNS[kind]} ${kind}`;
  const to = /(?:to|→|->)\s*(\d+)/.exec(text)?.[1];
  return `${MARK_SIGNS.scale} ${to ? `${subject} ${to}` : subject}`;
}

const seconds = (ms: number): number => Number((ms / 1000).toFixed(3));

function dataOf(options: StackOptions, fromMs: number, toMs: number, originMs: number): StackData {
  const { charts, timesMs, marks = [], bands = [], labelRows = 0 } = options;
  const since = (timeMs: number) => seconds(timeMs - originMs);
  return {
    originMs,
    from: since(fromMs),
    to: since(toMs),
    // Distances instead of times: a steady recording repeats them.
    times: columnText(timesMs.map((timeMs, index) => timeMs - (timesMs[index - 1] ?? originMs))),
    labelRows,
    marks: marks
      .filter(({ timeMs, kind }) => kind !== "stage" && timeMs >= fromMs && timeMs <= toMs)
      .map((mark) => ({
        at: since(mark.timeMs),
        kind: mark.kind,
        label: LABELLED.includes(mark.kind) ? markLabel(mark) : undefined,
      })),
    bands: bands.map((band, index) => ({
      from: since(band.fromMs),
      to: since(band.toMs),
      label: band.label,
      tone: band.tone === "plain" ? `plain-${index % 2}` : band.tone,
    })),
    charts: charts.map(({ title, unit, series, limit, heightPx = CHART_HEIGHT_PX }) => ({
      title,
      unit,
      heightPx,
      limit,
      series: series.map(({ label, values, tone, dash, step }, index) => ({
        label,
        tone: tone ?? TONES[index % TONES.length]!,
        dash: dash ?? DASHES[index % DASHES.length]!,
        step: step ? true : undefined,
        // No more digits than the other numbers of the page have.
        values: columnText(values.map((value) => (value === null ? null : threeDigits(value)))),
      })),
    })),
  };
}

/** Charts below each other over the same time: one row of labels above, one time axis below, one cursor in all. */
export function chartStack(options: StackOptions): Html {
  const { label, charts, timesMs, bands = [], rangeMs, origin = "the start", table = true } = options;
  const fromMs =
    rangeMs?.fromMs ?? Math.min(timesMs[0] ?? bands[0]?.fromMs ?? 0, bands[0]?.fromMs ?? Number.POSITIVE_INFINITY);
  const toMs = Math.max(rangeMs?.toMs ?? Math.max(timesMs.at(-1) ?? 0, bands.at(-1)?.toMs ?? 0), fromMs + 1000);
  const originMs = options.originMs ?? fromMs;
  const data = dataOf(options, fromMs, toMs, originMs);
  const figures = charts.map(
    (chart, index) => html`<figure class="chart">
<figcaption><span class="chart-title">${chart.title}</span> <span class="unit">${chart.unit}</span><span class="legend">${data.charts[
      index
    ]!.series.map(
      ({ label: name, tone, dash }) => html`<span class="key tone-${tone} ${dash}"> ${name}</span>`,
    )}</span></figcaption>
<div class="plot" role="img" aria-label="${altText(chart, timesMs, originMs)}"></div>
</figure>`,
  );
  return html`<div class="stack" role="group" aria-label="${label}"><div class="strip" aria-hidden="true"></div>${figures}<p class="axis-note">time since ${origin}; below it the time of day in UTC (${new Date(fromMs).toISOString().slice(0, 10)})</p>${
    table && fallbackTable(options, originMs, origin)
  }${jsonScript("stack-data", data)}</div>`;
}
