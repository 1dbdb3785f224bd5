/**
 * Charts as HTML and SVG that need no library and no script: curves are stretched to the width that is there, text is
 * not, so that one chart reads well on a desk and on a phone. A value that was not measured is a gap, never a zero.
 * Curves differ in colour and in dash; every chart says in words what is on it.
 */

import type { Mark, MarkKind, Value } from "../recording/recording.ts";
import { formatClock, formatMoment, formatNumber, formatOffset, formatShort, threeDigits } from "./format.ts";
import { type Html, html, jsonScript, raw } from "./html.ts";
import { placeInRows, timeTicks, valueTicks } from "./scales.ts";

/** Curves are written in whole numbers of half a pixel: finer is not seen, and costs a report of many drills megabytes. */
const UNITS_PER_PX = 2;
/** Width of a curve's own coordinates: about the pixels of a wide screen, so that a step there is not seen. */
const PLOT_UNITS = 1000 * UNITS_PER_PX;
/** Width of what stands behind curves, to a tenth of a pixel; its height is 1, stretched to that of each chart. */
const BACKDROP_UNITS = 1000;
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

/** Words of a mark on a chart; those without one have a line only, and their sentence in the table below. */
export const MARK_LABELS: Readonly<Record<MarkKind, string>> = {
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
  const percent = (timeMs: number) => round(Math.min(100, Math.max(0, ((timeMs - fromMs) / (toMs - fromMs)) * 100)), 2);
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

/** Steps of a path, as short as SVG lets one write them: relative, one letter for many steps, no blank before a minus. */
class PathWriter {
  #text = "";
  #letter = "";
  /** Of level steps only the end of the last is written: most curves are level most of the time. */
  #levelUnits = 0;
  /** Nothing is drawn since the last move. */
  #isBare = false;

  moveTo(x: number, y: number): void {
    this.#endRun();
    this.#isBare = true;
    this.#put("M", x, y);
    // What follows a move without a letter would be a line.
    this.#letter = "";
  }

  step(dx: number, dy: number): void {
    if (dx !== 0 || dy !== 0) this.#isBare = false;
    if (dy === 0) this.#levelUnits += dx;
    else {
      this.#endLevel();
      if (dx === 0) this.#put("v", dy);
      else this.#put("l", dx, dy);
    }
  }

  text(): string {
    this.#endRun();
    return this.#text;
  }

  #endRun(): void {
    this.#endLevel();
    // A point between two gaps is a dot: the ends of strokes are round.
    if (this.#isBare) this.#put("h", 0.01);
    this.#isBare = false;
  }

  #endLevel(): void {
    if (this.#levelUnits !== 0) this.#put("h", this.#levelUnits);
    this.#levelUnits = 0;
  }

  #put(letter: string, ...numbers: readonly number[]): void {
    const isNew = letter !== this.#letter;
    const words = numbers.map((number, index) => (number < 0 || (isNew && index === 0) ? `${number}` : ` ${number}`));
    this.#text += (isNew ? letter : "") + words.join("");
    this.#letter = letter;
  }
}

/** Path of a curve; where a value is not known, it is broken. */
function pathOf(series: ChartSeries, timesMs: readonly number[], frame: Frame, y: (value: number) => number): string {
  const path = new PathWriter();
  let previous: { x: number; y: number } | undefined;
  for (const { timeMs, value } of thinned(timesMs, series.values)) {
    if (value === null) {
      previous = undefined;
      continue;
    }
    const point = {
      x: Math.round((frame.percent(timeMs) / 100) * PLOT_UNITS),
      y: Math.round(y(value) * UNITS_PER_PX),
    };
    if (!previous) path.moveTo(point.x, point.y);
    else if (series.step) {
      // A step lasts to the end of its tick, then jumps.
      path.step(point.x - previous.x, 0);
      path.step(0, point.y - previous.y);
    } else path.step(point.x - previous.x, point.y - previous.y);
    previous = point;
  }
  return path.text();
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

const lookOf = (series: ChartSeries, index: number): { tone: Tone; dash: Dash } => ({
  tone: series.tone ?? TONES[index % TONES.length]!,
  dash: series.dash ?? DASHES[index % DASHES.length]!,
});

const lookClasses = (series: ChartSeries, index: number): string => {
  const { tone, dash } = lookOf(series, index);
  return `tone-${tone}${dash === "solid" ? "" : ` ${dash}`}`;
};

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
        const text = mark.kind === "scale" ? scaleLabel(mark) : MARK_LABELS[mark.kind];
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

const shadeOf = ({ tone }: Band, index: number): string => (tone === "plain" ? `plain-${index % 2}` : tone);

/** What stands behind curves. */
interface Backdrop {
  bands: Html;
  lines: Html;
}

/** Whether a chart draws its backdrop, or shows what another one of the page has drawn: charts of a stack share one. */
type BackdropUse = "draws" | "shows";

/** Shaded stretches, and lines of ticks and marks: one path of each kind, one unit high. */
function backdropOf(
  frame: Frame,
  stages: readonly Band[],
  ticks: readonly { timeMs: number }[],
  marks: readonly Mark[],
): Record<BackdropUse, Backdrop> {
  const x = (timeMs: number) => round((frame.percent(timeMs) / 100) * BACKDROP_UNITS, 1);
  const lines = (times: readonly { timeMs: number }[]) => times.map(({ timeMs }) => `M${x(timeMs)} 0v1`).join("");
  const bands = stages.map((band, index) => {
    const [from, to] = [x(band.fromMs), x(band.toMs)];
    return html`<path class="band-${shadeOf(band, index)}" d="M${from} 0H${to}v1H${from}z"/>`;
  });
  const kinds = Map.groupBy(
    marks.filter(({ kind }) => kind !== "stage"),
    ({ kind }) => kind,
  );
  const grid = ticks.length > 0 && html`<path class="grid" d="${lines(ticks)}"/>`;
  const marked = [...kinds].map(([kind, some]) => html`<path class="mark mark-${kind}" d="${lines(some)}"/>`);
  const layers = { bands: html`${bands}`, lines: html`${grid}${marked}` };
  const draw = (layer: Html, id: string) =>
    layer.text === ""
      ? layer
      : html`<svg id="${id}" viewBox="0 0 ${BACKDROP_UNITS} 1" preserveAspectRatio="none">${layer}</svg>`;
  const show = (layer: Html, id: string) => (layer.text === "" ? layer : html`<use href="#${id}"/>`);
  // Named by what they are: two of a name on one page are the same.
  const idOf = (layer: Html) => `behind-${Bun.hash(layer.text).toString(36)}`;
  const both = (way: (layer: Html, id: string) => Html): Backdrop => ({
    bands: way(layers.bands, idOf(layers.bands)),
    lines: way(layers.lines, idOf(layers.lines)),
  });
  return { draws: both(draw), shows: both(show) };
}

/**
 * One chart: a figure with caption, legend, curves, shaded stretches and marks.
 * The text is HTML; it needs the style sheet of style.ts around it.
 */
export function chart(options: ChartOptions): string {
  return chartHtml(options).text;
}

/** As `chart`, for use within other HTML. */
export function chartHtml(options: ChartOptions, backdropUse: BackdropUse = "draws"): Html {
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

  const backdrop = backdropOf(frame, stages, times, inside);
  const { bands, lines } = backdrop[backdropUse];

  const bandWords = stages.map((band, index) => {
    const [from, to] = [frame.percent(band.fromMs), frame.percent(band.toMs)];
    const roomPx = ((to - from) / 100) * NARROW_PLOT_PX;
    const needed = band.label.length * LABEL_CHARACTER_PX + 4;
    return html`<text class="band-word band-word-${shadeOf(band, index)}${roomPx < needed ? " if-wide" : ""}" x="${round((from + to) / 2)}%" y="14"${raw(
      // Where even a wide screen has no room, the word would lie over its neighbours.
      roomPx * 3.4 < needed ? ' display="none"' : "",
    )}>${band.label}</text>`;
  });
  const bandsPx = stages.length > 0 ? 20 : 0;
  const strip =
    options.labels && (stages.length > 0 || labelRows > 0)
      ? html`<div class="plot strip"><span class="y-room"></span><svg class="x" height="${bandsPx + labelRows * LABEL_ROW_PX}" aria-hidden="true">${
          stages.length > 0 && html`<svg height="${bandsPx}">${backdrop.shows.bands}</svg>${bandWords}`
        }${labels.map(({ text, percent, row, isLeft, kind, ifWide }) => {
          const at = bandsPx + row * LABEL_ROW_PX;
          return html`<line class="mark mark-${kind}" x1="${percent}%" x2="${percent}%" y1="${at}" y2="100%"/><text class="mark-word mark-word-${kind}" x="${percent}%" dx="${isLeft ? -4 : 4}" y="${at + 13}"${isLeft && raw(' text-anchor="end"')}>${MARK_SIGNS[kind]}<tspan${ifWide && raw(' class="if-wide"')}> ${text}</tspan></text>`;
        })}</svg></div>`
      : null;

  // The style sheet places them: words to the left of the plot, rules over its whole width and a pixel high.
  const yAxis = html`<svg class="y" height="${height}">${ticks.map(
    (tick) => html`<text y="${Math.min(height - 1, Math.max(9, round(y(tick) + 4, 1)))}">${formatShort(tick)}</text>`,
  )}</svg>`;
  const rules = ticks.map((tick) => html`<rect${tick === 0 && raw(' class="zero"')} y="${round(y(tick) - 0.5, 1)}"/>`);
  const limitPx = limit ? round(y(limit.value), 1) : 0;
  const plot = html`<svg class="x" height="${height}">${bands}<g class="rules">${rules}</g>${lines}<svg class="curves" viewBox="0 0 ${PLOT_UNITS} ${height * UNITS_PER_PX}" preserveAspectRatio="none">${series.map(
    (one, index) => html`<path class="curve ${lookClasses(one, index)}" d="${pathOf(one, timesMs, frame, y)}"/>`,
  )}</svg>${
    limit &&
    html`<line class="limit" x1="0" x2="100%" y1="${limitPx}" y2="${limitPx}"/><text class="limit-word" x="100%" dx="-4" y="${limitPx < 14 ? limitPx + 13 : limitPx - 4}" text-anchor="end">${limit.label}</text>`
  }${
    measured.length === 0 &&
    html`<text class="nothing" x="50%" y="${height / 2}" text-anchor="middle">not measured</text>`
  }</svg>`;

  const xAxis = options.axis !== false && timeAxis(frame, times, options.origin);
  return html`<figure class="chart">
<figcaption><span class="chart-title">${title}</span> <span class="unit">${unit}</span><span class="legend">${series.map(
    (one, index) => html`<span class="key ${lookClasses(one, index)}"> ${one.label}</span>`,
  )}</span></figcaption>
${strip}<div class="plot" role="img" aria-label="${inWords(options, originMs)}">${yAxis}${plot}</div>
${xAxis}</figure>`;
}

function timeAxis(frame: Frame, ticks: readonly { timeMs: number; label: string }[], origin?: string): Html {
  // In the middle under their place; at the edges they would stick out.
  const anchor = (percent: number) => raw(percent < 4 ? ' class="at-start"' : percent > 96 ? ' class="at-end"' : "");
  return html`<div class="plot axis" aria-hidden="true"><span class="y-room"></span><svg class="x" height="34">${ticks.map(
    ({ timeMs, label }, index) => {
      const percent = frame.percent(timeMs);
      // Side by side on a phone there is room for five.
      const isWide = index % 2 === 1;
      const group = (classes: string, body: Html) => (classes ? html`<g class="${classes}">${body}</g>` : body);
      const at = html`${anchor(percent)} x="${percent}%"`;
      return html`${group(isWide && ticks.length > MAX_NARROW_TICKS ? "if-wide" : "", html`<text${at} y="13">${label}</text>`)}${group(isWide ? "utc if-wide" : "utc", html`<text${at} y="28">${formatClock(timeMs)}</text>`)}`;
    },
  )}</svg></div><p class="axis-note">time since ${origin ?? "the start"}, below it the time of day in UTC (${formatMoment(frame.fromMs).slice(0, 10)})</p>`;
}

/** Values as the page's script reads them: a repeat of the value before is empty, and one that was not measured is "-". */
function columnText(values: readonly Value[]): string {
  const words = values.map((value) => (value === null ? "-" : String(threeDigits(value))));
  return words.map((word, index) => (index > 0 && word === words[index - 1] ? "" : word)).join(",");
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
  return html`<div class="stack" role="group" aria-label="${label}">${charts.map((one, index) =>
    chartHtml(
      { ...shared, ...one, labels: index === 0, axis: index === charts.length - 1 },
      index === 0 ? "draws" : "shows",
    ),
  )}${
    values &&
    jsonScript("stack-values", {
      from: frame.fromMs,
      to: frame.toMs,
      origin: originMs,
      times: options.timesMs.map((timeMs) => timeMs - frame.fromMs),
      // Labels and units stand in the captions; numbers need no more digits than the page's other numbers have.
      charts: charts.map(({ series }) => series.map(({ values }) => columnText(values))),
    })
  }</div>`;
}
