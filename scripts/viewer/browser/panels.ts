/** Draws a frame as a chart, a number, a table or lines. All text is set as text, never as HTML: logs are untrusted. */
import uPlot from "uplot";
import type { Frame, LogFrame, Period, SeriesFrame, TableFrame, Value } from "../frame.ts";
import { axisUnit, formatValue } from "../units.ts";
import type { PanelView } from "../viewer-page.ts";

const TONES = ["blue", "orange", "green", "purple", "teal", "red", "grey"] as const;
/** A second round of tones is dashed, a third dotted. */
const DASHES = [[], [7, 4], [2, 4]];
/** Colours of thresholds in the dashboards. */
const THRESHOLD_TONES: Readonly<Record<string, string>> = {
  green: "good",
  yellow: "doubt",
  orange: "orange",
  red: "bad",
};
const CURSOR = uPlot.sync("dashboard");
const AXIS_WIDTH_PX = 62;
/** Distances of ticks of bytes: powers of two. */
const BYTE_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power);
const MIN_CHART_HEIGHT_PX = 110;

const colorOf = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const toneOf = (index: number) => TONES[index % TONES.length]!;

function element<K extends keyof HTMLElementTagNameMap>(tag: K, text = "", className = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** The tone of the highest threshold that the value has reached. */
function thresholdTone({ thresholds }: PanelView, value: Value): string {
  const reached = thresholds.filter((step) => step.value === null || (value !== null && value >= step.value));
  return THRESHOLD_TONES[reached.at(-1)?.color ?? "green"] ?? "ink";
}

const lastOf = (values: readonly Value[]): Value => values.findLast((value) => value !== null) ?? null;
const maxOf = (values: readonly Value[]): Value =>
  values.reduce<Value>((most, value) => (value !== null && (most === null || value > most) ? value : most), null);

// ── charts ───────────────────────────────────────────────────────────────────────────────────────────────────────

interface Drawn {
  chart: uPlot;
  hidden: Set<string>;
  observer: ResizeObserver;
}
const charts = new WeakMap<HTMLElement, Drawn>();
const live = new Set<uPlot>();

/** Draws with the current colours of the style sheet. */
export function redrawAll(): void {
  for (const chart of live) chart.redraw(false);
}

/** Values with short gaps closed, as the panel asks for; a longer gap stays one. */
function spanned(values: readonly Value[], timesMs: readonly number[], spanMs: number): Value[] {
  let last = -1;
  return values.map((value, index) => {
    if (value !== null) {
      last = index;
      return value;
    }
    const next = values.findIndex((other, at) => at > index && other !== null);
    const isShort = last >= 0 && next > 0 && timesMs[next]! - timesMs[last]! <= spanMs;
    if (!isShort) return null;
    const share = (timesMs[index]! - timesMs[last]!) / (timesMs[next]! - timesMs[last]!);
    return values[last]! + share * (values[next]! - values[last]!);
  });
}

/** Each curve above the one before it. */
function stacked(columns: readonly Value[][]): Value[][] {
  const sums: number[] = [];
  return columns.map((values) =>
    values.map((value, index) => {
      sums[index] = (sums[index] ?? 0) + (value ?? 0);
      return value === null ? null : sums[index]!;
    }),
  );
}

function drawChart(
  body: HTMLElement,
  panel: PanelView,
  frame: SeriesFrame,
  period: Period,
  choosePeriod: (fromMs: number, toMs: number) => void,
): void {
  const before = charts.get(body);
  const hidden = before?.hidden ?? new Set<string>();
  before?.observer.disconnect();
  before?.chart.destroy();
  if (before) live.delete(before.chart);
  const plot = element("div", "", "plot");
  const legend = element("div", "", "legend-scroll");
  const readout = element("div", "", "readout");
  readout.hidden = true;
  body.replaceChildren(plot, legend, readout);
  const shown = frame.series.filter(({ label }) => !hidden.has(label));
  const columns = shown.map(({ values }) => spanned(values, frame.timesMs, panel.spanMs));
  const heights = panel.isStacked ? stacked(columns) : columns;
  const axis: uPlot.Axis = {
    font: `12px ${getComputedStyle(document.body).fontFamily}`,
    stroke: () => colorOf("soft"),
    grid: { stroke: () => colorOf("grid"), width: 1 },
    ticks: { show: false },
  };
  const unit = axisUnit(panel.unit);
  const tickUnit = unit ? "short" : panel.unit;
  if (unit) body.prepend(element("div", unit, "unit"));
  const highest = Math.max(0, ...heights.map((values) => maxOf(values) ?? 0));
  const fill = panel.isStacked ? Math.max(panel.fillOpacity, 25) : panel.fillOpacity;
  const height = () => Math.max(MIN_CHART_HEIGHT_PX, body.clientHeight - legend.offsetHeight - (unit ? 20 : 0) - 4);
  const chart = new uPlot(
    {
      width: Math.max(1, body.clientWidth),
      height: MIN_CHART_HEIGHT_PX,
      legend: { show: false },
      cursor: { y: false, sync: { key: CURSOR.key }, drag: { x: true, y: false, setScale: false } },
      scales: {
        x: { time: true, range: () => [period.fromMs / 1000, period.toMs / 1000] },
        y: {
          range: (_u, min, max) => {
            const low = panel.min ?? Math.min(min ?? 0, 0);
            const top = Math.max(
              max ?? 0,
              panel.hasLines ? Math.max(...panel.thresholds.map(({ value }) => value ?? 0)) : 0,
            );
            return panel.max === undefined
              ? [low, uPlot.rangeNum(low, top === low ? low + 1 : top, 0.06, true)[1]!]
              : [low, Math.max(panel.max, highest)];
          },
        },
      },
      series: [
        {},
        ...shown.map((series): uPlot.Series => {
          const index = frame.series.indexOf(series);
          const stroke = () => colorOf(toneOf(index));
          return {
            label: series.label,
            stroke,
            width: 1.5,
            dash: DASHES[Math.floor(index / TONES.length) % DASHES.length]!,
            ...(fill > 0 && { fill: () => `color-mix(in srgb, ${colorOf(toneOf(index))} ${fill}%, transparent)` }),
            points: { show: frame.timesMs.length < 3 },
          };
        }),
      ],
      axes: [
        { ...axis, size: 24, gap: 2, values: (_u, ticks) => ticks.map((tick) => timeTick(tick, period)) },
        {
          ...axis,
          size: AXIS_WIDTH_PX,
          gap: 4,
          ...(panel.unit === "bytes" || panel.unit === "Bps" ? { incrs: BYTE_STEPS } : {}),
          values: (_u, ticks) => ticks.map((tick) => formatValue(tick, tickUnit)),
        },
      ],
      hooks: {
        draw: [(u) => panel.hasLines && drawThresholds(u, panel)],
        setCursor: [(u) => showValues(u, readout, shown, columns, panel)],
        setSelect: [
          (u) => {
            if (u.select.width < 8) return;
            const [from, to] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            choosePeriod(from * 1000, Math.max(to, from + 60) * 1000);
          },
        ],
      },
    },
    [frame.timesMs.map((timeMs) => timeMs / 1000), ...heights],
    plot,
  );
  legend.append(
    legendTable(frame, panel, hidden, (label) => {
      if (hidden.has(label)) hidden.delete(label);
      else hidden.add(label);
      drawChart(body, panel, frame, period, choosePeriod);
    }),
    ...cutNote(frame.series.length, frame.notShown, "curves"),
  );
  const resize = () => chart.setSize({ width: Math.max(1, body.clientWidth), height: height() });
  resize();
  const observer = new ResizeObserver(resize);
  observer.observe(body);
  charts.set(body, { chart, hidden, observer });
  live.add(chart);
}

/** Time of day, and the date at midnight of a period of days. */
function timeTick(seconds: number, { fromMs, toMs }: Period): string {
  const time = new Date(seconds * 1000);
  const isLong = toMs - fromMs > 36 * 3_600_000;
  if (isLong && time.getHours() === 0) return `${time.getMonth() + 1}/${time.getDate()}`;
  return time.toTimeString().slice(0, 5);
}

function drawThresholds(u: uPlot, { thresholds }: PanelView): void {
  for (const { value, color } of thresholds) {
    if (value === null) continue;
    const y = Math.round(u.valToPos(value, "y", true));
    if (y < u.bbox.top || y > u.bbox.top + u.bbox.height) continue;
    u.ctx.save();
    u.ctx.strokeStyle = colorOf(THRESHOLD_TONES[color] ?? "grey");
    u.ctx.setLineDash([6, 4]);
    u.ctx.beginPath();
    u.ctx.moveTo(u.bbox.left, y);
    u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
    u.ctx.stroke();
    u.ctx.restore();
  }
}

/** The values at the cursor, largest first; in the chart under the pointer only, the others show the line. */
function showValues(
  u: uPlot,
  readout: HTMLElement,
  shown: SeriesFrame["series"],
  columns: readonly Value[][],
  panel: PanelView,
): void {
  const { idx, left = -1, top = -1 } = u.cursor;
  readout.hidden = idx == null || left < 0 || !u.over.matches(":hover");
  if (readout.hidden) return;
  const rows = shown
    .map(({ label }, index) => ({ label, value: columns[index]![idx!] ?? null }))
    .filter(({ value }) => value !== null)
    .sort((a, b) => b.value! - a.value!)
    .slice(0, 20);
  const time = new Date(u.data[0][idx!]! * 1000).toLocaleTimeString();
  readout.textContent = [time, ...rows.map(({ label, value }) => `${label}  ${formatValue(value, panel.unit)}`)].join(
    "\n",
  );
  const box = u.over.getBoundingClientRect();
  const isRight = box.left + left + readout.offsetWidth + 24 > innerWidth;
  readout.style.left = `${isRight ? box.left + left - readout.offsetWidth - 12 : box.left + left + 14}px`;
  readout.style.top = `${Math.min(box.top + top + 14, innerHeight - readout.offsetHeight - 8)}px`;
}

/** Curves with their last and highest value; a click hides one. */
function legendTable(
  { series }: SeriesFrame,
  panel: PanelView,
  hidden: ReadonlySet<string>,
  toggle: (label: string) => void,
): HTMLTableElement {
  const table = element("table", "", "legend-table");
  const head = table.createTHead().insertRow();
  head.append(element("th"), element("th", "last", "number"), element("th", "highest", "number"));
  const rows = table.createTBody();
  series.forEach(({ label, values }, index) => {
    const row = rows.insertRow();
    row.className = hidden.has(label) ? "off" : "";
    const button = element("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(!hidden.has(label)));
    button.append(element("span", "", `swatch tone-${toneOf(index)}`), label);
    button.addEventListener("click", () => toggle(label));
    row.insertCell().append(button);
    row.append(
      element("td", formatValue(lastOf(values), panel.unit, panel.decimals), "number"),
      element("td", formatValue(maxOf(values), panel.unit, panel.decimals), "number"),
    );
  });
  return table;
}

// ── the others ───────────────────────────────────────────────────────────────────────────────────────────────────

const SVG = "http://www.w3.org/2000/svg";

/** The last value, coloured by its thresholds, over its curve. */
function drawStat(body: HTMLElement, panel: PanelView, { timesMs, series }: SeriesFrame): void {
  const values = series[0]?.values ?? [];
  const last = lastOf(values);
  const [number = "", ...unit] = formatValue(last, panel.unit, panel.decimals).split(" ");
  const big = element("div", number, "big");
  big.append(element("small", unit.length > 0 ? ` ${unit.join(" ")}` : ""));
  const tone = thresholdTone(panel, last);
  big.style.color = `var(--${tone})`;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const [low, high] = [Math.min(0, ...values.map((value) => value ?? 0)), maxOf(values) ?? 0];
  const [first, span] = [timesMs[0] ?? 0, (timesMs.at(-1) ?? 1) - (timesMs[0] ?? 0) || 1];
  const points = values.flatMap((value, index) =>
    value === null
      ? []
      : [`${((timesMs[index]! - first) / span) * 100},${29 - ((value - low) / (high - low || 1)) * 28}`],
  );
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.join(" "));
  line.setAttribute("fill", "none");
  line.setAttribute("vector-effect", "non-scaling-stroke");
  line.style.stroke = `var(--${tone})`;
  svg.append(line);
  body.replaceChildren(big, svg);
}

function drawTable(body: HTMLElement, panel: PanelView, { columns, rows, notShown }: TableFrame): void {
  const table = element("table", "", "data");
  const head = table.createTHead().insertRow();
  for (const name of columns) head.append(element("th", name));
  const own = table.createTBody();
  for (const cells of rows) {
    const row = own.insertRow();
    for (const cell of cells) {
      const isNumber = typeof cell === "number" || cell === null;
      row.append(
        element("td", isNumber ? formatValue(cell, panel.unit, panel.decimals) : cell, isNumber ? "number" : ""),
      );
    }
  }
  body.replaceChildren(table, ...cutNote(rows.length, notShown, "rows"));
}

function drawLogs(body: HTMLElement, { lines, isCut }: LogFrame): void {
  const open = new Set([...body.querySelectorAll<HTMLElement>(".log[open]")].map(({ dataset }) => dataset.key));
  const drawn = lines.map(({ timeMs, level, pod, text, fields }) => {
    const line = element("details", "", "log");
    line.dataset.key = `${timeMs} ${pod} ${text}`;
    line.open = open.has(line.dataset.key);
    const summary = element("summary");
    const clock = new Date(timeMs).toISOString().slice(11, 23);
    summary.append(
      element("span", clock, "when"),
      element("span", level, `level-${level}`),
      element("span", pod, "pod"),
      element("span", text, "text"),
    );
    const list = element("dl");
    for (const [name, value] of fields) list.append(element("dt", name), element("dd", value));
    line.append(summary, list);
    return line;
  });
  const note = element("p", isCut ? `Only the newest ${lines.length} lines.` : "", "soft small");
  body.replaceChildren(...drawn, note);
}

const isEmpty = (frame: Frame): boolean =>
  frame.kind === "series"
    ? frame.series.every(({ values }) => values.every((value) => value === null))
    : frame.kind === "table"
      ? frame.rows.length === 0
      : frame.lines.length === 0;

/** Says that a panel has more than it shows; nothing otherwise. */
const cutNote = (shown: number, notShown: number | undefined, what: string): HTMLElement[] =>
  notShown ? [element("p", `Only ${shown} of ${shown + notShown} ${what}.`, "soft small")] : [];

/** Draws what a panel shows of a period. */
export function drawPanel(
  body: HTMLElement,
  panel: PanelView,
  frame: Frame,
  period: Period,
  choosePeriod: (fromMs: number, toMs: number) => void,
): void {
  if (isEmpty(frame)) {
    body.replaceChildren(element("p", "No data in this period.", "empty"));
  } else if (frame.kind === "logs") drawLogs(body, frame);
  else if (frame.kind === "table") drawTable(body, panel, frame);
  else if (panel.type === "stat") drawStat(body, panel, frame);
  else drawChart(body, panel, frame, period, choosePeriod);
}
