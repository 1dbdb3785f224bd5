/**
 * Charts as HTML and SVG that need no library and no script: curves are stretched to the width that is there, text is
 * not, so that one chart reads well on a desk and on a phone. A value that was not measured is a gap, never a zero.
 * Curves differ in colour and in dash; every chart says in words what is on it.
 */
import { type Html, html, jsonScript, raw } from "./html.ts";
import type { Mark, MarkKind, Value } from "./recording.ts";
import { placeInRows, timeTicks, valueTicks } from "./scales.ts";
import { formatClock, formatMoment, formatNumber, formatOffset, formatShort } from "./words.ts";

/** Width of a curve's own coordinates: about the pixels of a wide screen, so that a step there is not seen. */
const PLOT_UNITS = 1000;
const PLOT_HEIGHT_PX = 150;
/** Labels of an axis do not touch below that. */
const TICK_ROOM_PX = 20;
/** Curves do not touch the upper edge. */
const HEADROOM_PX = 6;
/** Two points (lowest, highest) per column: more cannot be seen, and a day at one point a second stays a small file. */
const MAX_COLUMNS = 500;
/** Narrowest plot there is, on a phone: labels are placed so that they do not touch even there. */
const NARROW_PLOT_PX = 270;
/** A plot from which on words of `if-wide` are shown: the style sheet's 720 pixels without its margins. */
const WIDE_PLOT_PX = 600;
const LABEL_CHARACTER_PX = 6.6;
const LABEL_PADDING_PX = 14;
const LABEL_ROW_PX = 17;
/** Beyond it, labels would take more room than the curves: such marks keep their line and their row in the table. */
const MAX_LABEL_ROWS = 5;
const MAX_NARROW_ROWS = 4;
const MAX_NARROW_TICKS = 5;

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
  /** Stays at a value until the next one, as numbers of replicas do. */
  step?: boolean;
}

export type BandTone = "plain" | "before" | "fault" | "healed" | "proven";

/** A stretch of time that is shaded: a stage of a load, a beat of a drill. */
export interface Band {
  fromMs: number;
  toMs: number;
  label: string;
  tone: BandTone;
}

export interface ChartOptions {
  title: string;
  /** "events/s", "ms", "replicas", … */
  unit: string;
  series: readonly ChartSeries[];
  timesMs: readonly number[];
  marks?: readonly Mark[];
  stages?: readonly Band[];
  /** What the axis shows; from the first time or stage to the last when absent. */
  rangeMs?: { fromMs: number; toMs: number };
  /** Where the axis has its zero; the first tick when absent. */
  originMs?: number;
  /** What the axis counts from, as it reads behind "seconds since": "the fault". */
  origin?: string;
  /** A value that should not be passed. */
  limit?: { value: number; label: string };
  heightPx?: number;
  /** So many rows for labels are there even when there are none; as many as are needed when absent. */
  labelRows?: number;
  /** Labels of marks and bands above the curves; only on the first of a stack. */
  labels?: boolean;
  /** Times below the curves. */
  axis?: boolean;
}

const TONES: readonly Tone[] = ["blue", "orange", "green", "purple", "teal", "red", "grey"];
const DASHES: readonly Dash[] = ["solid", "dashed", "dotted"];
const DASH_ARRAY: Readonly<Record<Dash, string>> = { solid: "none", dashed: "7 4", dotted: "2 4" };

/** Words of a mark on a chart; those without one have a line only, and their sentence in the table below. */
export const MARK_WORDS: Readonly<Record<MarkKind, string>> = {
  stage: "stage",
  scale: "scale",
  pod: "pod",
  fault: "fault",
  effect: "effect",
  healed: "healed",
  recovered: "recovered",
  alert: "alert",
  note: "note",
};
/** Signs beside the words, so that colour is not all that tells them apart. */
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
const LABELLED: readonly MarkKind[] = ["scale", "fault", "effect", "healed", "recovered", "alert"];

const round = (value: number, digits = 2): number => Number(value.toFixed(digits));

interface Frame {
  fromMs: number;
  toMs: number;
  percent(timeMs: number): number;
}

function frameOf({ timesMs, stages = [], rangeMs }: Pick<ChartOptions, "timesMs" | "stages" | "rangeMs">): Frame {
  const first = timesMs[0] ?? stages[0]?.fromMs ?? 0;
  const fromMs = rangeMs?.fromMs ?? Math.min(first, stages[0]?.fromMs ?? first);
  const toMs = Math.max(rangeMs?.toMs ?? Math.max(timesMs.at(-1) ?? 0, stages.at(-1)?.toMs ?? 0), fromMs + 1000);
  const percent = (timeMs: number) => round(Math.min(100, Math.max(0, ((timeMs - fromMs) / (toMs - fromMs)) * 100)), 3);
  return { fromMs, toMs, percent };
}

const known = (values: readonly Value[]): number[] => values.filter((value): value is number => value !== null);
// Not Math.max(...): a long recording has more values than a call may have arguments.
const highest = (values: readonly number[]): number => values.reduce((most, value) => Math.max(most, value), 0);

/** Of many points per column the lowest and the highest, in their order; gaps stay. */
function thinned(timesMs: readonly number[], values: readonly Value[]): { timeMs: number; value: Value }[] {
  const size = Math.ceil(timesMs.length / MAX_COLUMNS);
  const points = timesMs.map((timeMs, index) => ({ timeMs, value: values[index] ?? null }));
  if (size <= 2) return points;
  const kept: { timeMs: number; value: Value }[] = [];
  for (let at = 0; at < points.length; at += size) {
    const column = points.slice(at, at + size);
    const measured = column.filter((point) => point.value !== null);
    if (measured.length > 0) {
      const low = measured.reduce((a, b) => (b.value! < a.value! ? b : a));
      const high = measured.reduce((a, b) => (b.value! > a.value! ? b : a));
      kept.push(...(low === high ? [low] : low.timeMs < high.timeMs ? [low, high] : [high, low]));
    }
    // A gap of a column's length or more must be seen; a shorter one is between two points of the same pixel.
    const gap = column.find((point) => point.value === null);
    if (gap && measured.length === 0) kept.push(gap);
  }
  return kept;
}

/** Path of a curve; a point between two gaps is a dot. */
function pathOf(series: ChartSeries, timesMs: readonly number[], frame: Frame, y: (value: number) => number): string {
  const parts: string[] = [];
  let previous: { x: number; y: number } | undefined;
  let isAlone = false;
  for (const { timeMs, value } of thinned(timesMs, series.values)) {
    if (value === null) {
      if (isAlone && previous) parts.push("h0.01");
      previous = undefined;
      continue;
    }
    const point = { x: round((frame.percent(timeMs) / 100) * PLOT_UNITS, 1), y: round(y(value), 1) };
    if (!previous) {
      parts.push(`M${point.x} ${point.y}`);
      isAlone = true;
    } else {
      // A step lasts to the end of its tick, then jumps.
      parts.push(series.step ? `H${point.x}V${point.y}` : `L${point.x} ${point.y}`);
      isAlone = false;
    }
    previous = point;
  }
  if (isAlone && previous) parts.push("h0.01");
  return parts.join("");
}

/** One sentence per curve, for those who do not see it. */
function inWords(options: ChartOptions, originMs: number): string {
  const sentences = options.series.map(({ label, values }) => {
    const measured = known(values);
    if (measured.length === 0) return `${label}: not measured`;
    const high = highest(measured);
    const at = options.timesMs[values.indexOf(high)] ?? originMs;
    const last = measured.at(-1)!;
    const low = measured.reduce((least, value) => Math.min(least, value), high);
    return `${label}: ${formatNumber(low)} to ${formatNumber(high)} ${options.unit}, highest at ${formatOffset(at - originMs)}, last ${formatNumber(last)}`;
  });
  return `${options.title}. ${sentences.join("; ")}.`;
}

const swatch = (tone: Tone, dash: Dash) =>
  html`<svg class="swatch" width="26" height="10" aria-hidden="true"><line x1="1" x2="25" y1="5" y2="5" class="tone-${tone}" stroke-dasharray="${DASH_ARRAY[dash]}"/></svg>`;

const lookOf = (series: ChartSeries, index: number): { tone: Tone; dash: Dash } => ({
  tone: series.tone ?? TONES[index % TONES.length]!,
  dash: series.dash ?? DASHES[index % DASHES.length]!,
});

interface PlacedLabel {
  text: string;
  percent: number;
  row: number;
  isLeft: boolean;
  kind: MarkKind;
  /** Its words are for wide screens only. */
  ifWide: boolean;
}

/**
 * Labels of marks, in rows in which they do not touch: on a phone, where that needs few rows; else on a wide screen,
 * and a phone shows the signs alone.
 */
function labelsOf(marks: readonly Mark[], frame: Frame): PlacedLabel[] {
  const placed = (plotPx: number) => {
    const labels = marks
      .filter(({ kind }) => LABELLED.includes(kind))
      .map((mark) => {
        const text = mark.kind === "scale" ? scaleLabel(mark) : MARK_WORDS[mark.kind];
        const percent = frame.percent(mark.timeMs);
        const width = ((text.length * LABEL_CHARACTER_PX + LABEL_PADDING_PX + 10) / plotPx) * 100;
        const isLeft = percent + width > 100;
        const [from, to] = isLeft ? [percent - width, percent] : [percent, percent + width];
        return { text, percent, isLeft, kind: mark.kind, ifWide: plotPx > NARROW_PLOT_PX, from, to };
      });
    const rows = placeInRows(labels);
    return labels.map((label, index) => ({ ...label, row: rows[index]! }));
  };
  const narrow = placed(NARROW_PLOT_PX);
  const labels = narrow.every(({ row }) => row < MAX_NARROW_ROWS) ? narrow : placed(WIDE_PLOT_PX);
  return labels.filter(({ row }) => row < MAX_LABEL_ROWS);
}

/** "processor 3" of "processor from 2 to 3 replicas": the number that it ended with. */
function scaleLabel(mark: Mark): string {
  const to = /(?:to|→|->)\s*(\d+)/.exec(mark.text)?.[1];
  return to ? `${mark.subject} ${to}` : mark.subject;
}

/**
 * One chart: a figure with caption, legend, curves, shaded stretches and marks.
 * The text is HTML; it needs the style sheet of style.ts around it.
 */
export function chart(options: ChartOptions): string {
  return chartHtml(options).text;
}

/** As `chart`, for use within other HTML. */
export function chartHtml(options: ChartOptions): Html {
  const { title, unit, series, timesMs, marks = [], stages = [], limit } = options;
  const height = options.heightPx ?? PLOT_HEIGHT_PX;
  const frame = frameOf(options);
  const originMs = options.originMs ?? frame.fromMs;
  const measured = series.flatMap(({ values }) => known(values));
  const isWhole = unit === "replicas" || unit === "partitions";
  const maxTicks = Math.max(1, Math.floor(height / TICK_ROOM_PX));
  const ticks = valueTicks(Math.max(highest(measured), limit?.value ?? 0), isWhole, Math.min(5, maxTicks));
  const top = ticks.at(-1)!;
  const y = (value: number) => height - (Math.min(Math.max(value, 0), top) / top) * (height - HEADROOM_PX);
  const times = timeTicks(frame.fromMs, frame.toMs, originMs);
  const inside = marks.filter(({ timeMs }) => timeMs >= frame.fromMs && timeMs <= frame.toMs);
  const labels = options.labels ? labelsOf(inside, frame) : [];
  const labelRows = labels.reduce((most, { row }) => Math.max(most, row + 1), options.labelRows ?? 0);

  const bandsOf = (bandHeight: number, withWords: boolean) =>
    stages.map((band, index) => {
      const [from, to] = [frame.percent(band.fromMs), frame.percent(band.toMs)];
      const shade = band.tone === "plain" ? `plain-${index % 2}` : band.tone;
      const roomPx = ((to - from) / 100) * NARROW_PLOT_PX;
      const needed = band.label.length * LABEL_CHARACTER_PX + 4;
      return html`<rect class="band band-${shade}" x="${from}%" width="${round(to - from, 3)}%" y="0" height="${bandHeight}"/>${
        withWords &&
        html`<text class="band-word band-word-${shade}${roomPx < needed ? " if-wide" : ""}" x="${round((from + to) / 2, 3)}%" y="14" text-anchor="middle"${raw(
          // Where even a wide screen has no room, the word would lie over its neighbours.
          roomPx * 3.4 < needed ? ' display="none"' : "",
        )}>${band.label}</text>`
      }`;
    });
  const markLines = (lineHeight: number) =>
    inside
      .filter(({ kind }) => kind !== "stage")
      .map(
        ({ timeMs, kind }) =>
          html`<line class="mark mark-${kind}" x1="${frame.percent(timeMs)}%" x2="${frame.percent(timeMs)}%" y1="0" y2="${lineHeight}"/>`,
      );

  const strip =
    options.labels && (stages.length > 0 || labelRows > 0)
      ? html`<div class="plot strip"><span class="y-room"></span><svg class="x" width="100%" height="${(stages.length > 0 ? 20 : 0) + labelRows * LABEL_ROW_PX}" aria-hidden="true">${
          stages.length > 0 && bandsOf(20, true)
        }${labels.map(({ text, percent, row, isLeft, kind, ifWide }) => {
          const at = (stages.length > 0 ? 20 : 0) + row * LABEL_ROW_PX;
          return html`<line class="mark mark-${kind}" x1="${percent}%" x2="${percent}%" y1="${at}" y2="${(stages.length > 0 ? 20 : 0) + labelRows * LABEL_ROW_PX}"/><text class="mark-word mark-word-${kind}" x="${percent}%" dx="${isLeft ? -4 : 4}" y="${at + 13}" text-anchor="${isLeft ? "end" : "start"}">${MARK_SIGNS[kind]}<tspan${ifWide && raw(' class="if-wide"')}> ${text}</tspan></text>`;
        })}</svg></div>`
      : null;

  const yAxis = html`<svg class="y" width="46" height="${height}" aria-hidden="true">${ticks.map(
    (tick) =>
      html`<text x="40" y="${Math.min(height - 1, Math.max(9, round(y(tick)) + 4))}" text-anchor="end">${formatShort(tick)}</text>`,
  )}</svg>`;

  const plot = html`<svg class="x" width="100%" height="${height}" aria-hidden="true">${bandsOf(height, false)}${ticks.map(
    (tick) =>
      html`<line class="grid${tick === 0 ? " zero" : ""}" x1="0" x2="100%" y1="${round(y(tick))}" y2="${round(y(tick))}"/>`,
  )}${times.map(
    ({ timeMs }) =>
      html`<line class="grid" x1="${frame.percent(timeMs)}%" x2="${frame.percent(timeMs)}%" y1="0" y2="${height}"/>`,
  )}${markLines(height)}<svg class="curves" width="100%" height="${height}" viewBox="0 0 ${PLOT_UNITS} ${height}" preserveAspectRatio="none">${series.map(
    (one, index) => {
      const { tone, dash } = lookOf(one, index);
      return html`<path class="curve tone-${tone}" data-series="${one.name}" stroke-dasharray="${DASH_ARRAY[dash]}" d="${pathOf(one, timesMs, frame, y)}"/>`;
    },
  )}</svg>${
    limit &&
    html`<line class="limit" x1="0" x2="100%" y1="${round(y(limit.value))}" y2="${round(y(limit.value))}"/><text class="limit-word" x="100%" dx="-4" y="${round(y(limit.value)) - 4 < 10 ? round(y(limit.value)) + 13 : round(y(limit.value)) - 4}" text-anchor="end">${limit.label}</text>`
  }${
    measured.length === 0 &&
    html`<text class="nothing" x="50%" y="${height / 2}" text-anchor="middle">not measured</text>`
  }<line class="cursor" x1="0" x2="0" y1="0" y2="${height}" visibility="hidden"/></svg>`;

  const xAxis = options.axis !== false && timeAxis(frame, times, options.origin);
  return html`<figure class="chart" data-unit="${unit}">
<figcaption><span class="chart-title">${title}</span> <span class="unit">${unit}</span><span class="legend">${series.map(
    (one, index) => {
      const { tone, dash } = lookOf(one, index);
      return html`<span class="key">${swatch(tone, dash)} ${one.label}</span>`;
    },
  )}</span></figcaption>
${strip}<div class="plot" role="img" aria-label="${inWords(options, originMs)}">${yAxis}${plot}</div>
${xAxis}</figure>`;
}

function timeAxis(frame: Frame, ticks: readonly { timeMs: number; label: string }[], origin?: string): Html {
  const anchor = (percent: number) => (percent < 4 ? "start" : percent > 96 ? "end" : "middle");
  return html`<div class="plot axis" aria-hidden="true"><span class="y-room"></span><svg class="x" width="100%" height="34">${ticks.map(
    ({ timeMs, label }, index) => {
      const percent = frame.percent(timeMs);
      // Side by side on a phone there is room for five.
      const ifWide = index % 2 === 1 && ticks.length > MAX_NARROW_TICKS ? " if-wide" : "";
      return html`<text class="tick${ifWide}" x="${percent}%" y="13" text-anchor="${anchor(percent)}">${label}</text><text class="tick utc${index % 2 === 1 ? " if-wide" : ""}" x="${percent}%" y="28" text-anchor="${anchor(percent)}">${formatClock(timeMs)}</text>`;
    },
  )}</svg></div><p class="axis-note">time since ${origin ?? "the start"}, below it the time of day in UTC (${formatMoment(frame.fromMs).slice(0, 10)})</p>`;
}

export interface StackOptions {
  /** For those who do not see the charts, and as their common heading. */
  label: string;
  timesMs: readonly number[];
  rangeMs?: { fromMs: number; toMs: number };
  marks: readonly Mark[];
  labelRows?: number;
  stages: readonly Band[];
  originMs?: number;
  origin?: string;
  charts: readonly Pick<ChartOptions, "title" | "unit" | "series" | "limit" | "heightPx">[];
  /** Values under the pointer need the numbers a second time; a live page that is drawn anew each second goes without. */
  values?: boolean;
}

/** Charts one below the other over the same time: one strip of labels above, one time axis below, one cursor in all. */
export function chartStack(options: StackOptions): Html {
  const { charts, values = true, label, ...shared } = options;
  const frame = frameOf(options);
  const originMs = options.originMs ?? frame.fromMs;
  const rounded = (value: Value) => (value === null ? null : Number(value.toPrecision(4)));
  return html`<div class="stack" role="group" aria-label="${label}">${charts.map((one, index) =>
    chartHtml({ ...shared, ...one, labels: index === 0, axis: index === charts.length - 1 }),
  )}${
    values &&
    jsonScript("stack-values", {
      from: frame.fromMs,
      to: frame.toMs,
      origin: originMs,
      times: options.timesMs.map((timeMs) => timeMs - frame.fromMs),
      charts: charts.map(({ unit, series }) => ({
        unit,
        series: series.map((one) => ({ label: one.label, values: one.values.map(rounded) })),
      })),
    })
  }</div>`;
}
