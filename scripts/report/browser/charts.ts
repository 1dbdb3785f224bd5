/**
 * Draws the charts of a page with uPlot, from the data beside them. Runs in the page: it is bundled into it by
 * page-script.ts and imports only what a browser can run.
 */
import uPlot from "uplot";
import type { StackData } from "../charts.ts";
import { formatClock, formatOffset, formatShort } from "../format.ts";
import { labelWidths, placeInRows } from "./labels.ts";

/** Room for the labels of the value axis; the same in all charts of a stack, so that their times are aligned. */
const AXIS_WIDTH_PX = 46;
const RIGHT_MARGIN_PX = 6;
const TIME_AXIS_HEIGHT_PX = 38;
const LABEL_ROW_PX = 17;
/** With border and padding on both sides, and a gap to the next label. */
const LABEL_PADDING_PX = 14;
const BAND_ROW_PX = 20;
/** More rows of labels take more room than the curves; such marks keep their line. */
const MAX_LABEL_ROWS = 5;
/** Distances between ticks. A time axis counts in seconds. */
const TIME_STEPS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400];
const COUNT_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
const COUNTED_UNITS: readonly string[] = ["replicas", "partitions"];
const TIME_TICK_ROOM_PX = 62;
const VALUE_TICK_ROOM_PX = 26;
const DASHES = { solid: [], dashed: [7, 4], dotted: [2, 4] } as const;

type Stroke = readonly [color: string, width: number, dash: number[]];
const PLAIN_MARK: Stroke = ["soft", 1, [1, 4]];
const MARK_STROKES: Readonly<Record<string, Stroke>> = {
  fault: ["red", 2, []],
  effect: ["orange", 2, [6, 3]],
  healed: ["blue", 2, [2, 3]],
  recovered: ["green", 2, []],
  alert: ["purple", 1, [4, 3]],
  scale: ["teal", 1, [3, 3]],
};

/** A colour of the style sheet, which has one per theme. */
const colorOf = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The reverse of columnText in ../charts.ts. */
function readColumn(text: string): (number | null)[] {
  if (text === "") return [];
  let last: number | null = null;
  return text.split(",").map((field) => {
    if (field !== "") last = field === "-" ? null : Number(field);
    return last;
  });
}

function readTimes(text: string): number[] {
  let at = 0;
  return readColumn(text).map((distance) => {
    at += distance ?? 0;
    return at / 1000;
  });
}

/** Indices of points between two gaps: a curve has no line there, so they are drawn as dots. */
function lonePoints(u: uPlot, series: number): number[] | null {
  const values = u.data[series]!;
  const lone: number[] = [];
  for (let at = 0; at < values.length; at++) {
    if (values[at] != null && values[at - 1] == null && values[at + 1] == null) lone.push(at);
  }
  return lone.length > 0 ? lone : null;
}

/** The charts of one stack, drawn; new data is put into them in place. */
class Stack {
  #data: StackData;
  #times: number[];
  readonly #plots: readonly HTMLElement[];
  readonly #charts: uPlot[] = [];
  readonly #readout = document.createElement("div");
  readonly #key: ReturnType<typeof uPlot.sync>;
  readonly #observer = new ResizeObserver(() => this.resize());

  constructor(
    readonly element: Element,
    data: StackData,
  ) {
    this.#data = data;
    this.#times = readTimes(data.times);
    this.#plots = [...element.querySelectorAll<HTMLElement>(".plot")];
    this.#key = uPlot.sync(`stack-${Stack.#count++}`);
    this.#readout.className = "readout";
    this.#readout.hidden = true;
    this.#readout.setAttribute("role", "status");
    element.append(this.#readout);
    this.#plots.forEach((plot, index) => {
      this.#charts.push(new uPlot(this.#options(index), this.#columns(index), plot));
      this.#readByKeyboard(plot, index);
    });
    this.#placeLabels();
    this.#observer.observe(element);
  }
  static #count = 0;

  /** Whether other data fits into the same charts and curves. */
  fits(data: StackData): boolean {
    const shape = ({ charts }: StackData) =>
      JSON.stringify(charts.map(({ title, heightPx, series }) => [title, heightPx, series.map(({ label }) => label)]));
    return shape(data) === shape(this.#data);
  }

  update(data: StackData): void {
    this.#data = data;
    this.#times = readTimes(data.times);
    for (const [index, chart] of this.#charts.entries()) chart.setData(this.#columns(index));
    this.#placeLabels();
  }

  destroy(): void {
    this.#observer.disconnect();
    for (const chart of this.#charts) chart.destroy();
  }

  resize(): void {
    const width = this.#width();
    for (const chart of this.#charts) {
      if (width > 0 && chart.width !== width) chart.setSize({ width, height: chart.height });
    }
    this.#placeLabels();
  }

  /** Draws with the current colours of the style sheet. */
  redraw(): void {
    for (const chart of this.#charts) chart.redraw(false);
  }

  #width(): number {
    return Math.floor(this.#plots[0]?.clientWidth ?? 0);
  }

  #columns(index: number): uPlot.AlignedData {
    return [this.#times, ...this.#data.charts[index]!.series.map(({ values }) => readColumn(values))];
  }

  #options(index: number): uPlot.Options {
    const { heightPx, series, unit, limit } = this.#data.charts[index]!;
    const isLast = index === this.#data.charts.length - 1;
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const axis: uPlot.Axis = {
      font,
      stroke: () => colorOf("soft"),
      grid: { stroke: () => colorOf("grid"), width: 1 },
      ticks: { show: false },
    };
    return {
      width: this.#width(),
      height: heightPx + (isLast ? TIME_AXIS_HEIGHT_PX : 0),
      padding: [6, RIGHT_MARGIN_PX, isLast ? 0 : 4, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: this.#key.key } },
      scales: {
        x: { time: false, range: () => [this.#data.from, this.#data.to] },
        y: {
          range: (_u, _min, max) => [0, uPlot.rangeNum(0, Math.max(max ?? 0, limit?.value ?? 0) || 1, 0.05, true)[1]!],
        },
      },
      series: [
        {},
        ...series.map(({ tone, dash, step }): uPlot.Series => {
          const stroke = () => colorOf(tone);
          return {
            stroke,
            width: 2,
            dash: [...DASHES[dash]],
            paths: step ? uPlot.paths.stepped!({ align: 1 }) : uPlot.paths.linear!(),
            points: { show: false, size: 4, fill: stroke, filter: lonePoints },
          };
        }),
      ],
      axes: [
        {
          ...axis,
          size: isLast ? TIME_AXIS_HEIGHT_PX : 0,
          gap: 4,
          space: TIME_TICK_ROOM_PX,
          incrs: TIME_STEPS,
          values: (_u, splits) => (isLast ? splits.map((at) => this.#timeTick(at)) : splits.map(() => null)),
        },
        {
          ...axis,
          size: AXIS_WIDTH_PX,
          gap: 4,
          space: VALUE_TICK_ROOM_PX,
          ...(COUNTED_UNITS.includes(unit) ? { incrs: COUNT_STEPS } : {}),
          values: (_u, splits) => splits.map(formatShort),
        },
      ],
      hooks: {
        drawClear: [(u) => this.#drawBands(u)],
        draw: [(u) => this.#drawMarks(u, index)],
        setCursor: [(u) => this.#showValues(u, index)],
      },
    };
  }

  #timeTick(at: number): string {
    const { from, to, originMs } = this.#data;
    const offset = at === 0 ? "0" : formatOffset(at * 1000, Math.max(-from, to) >= 120);
    return `${offset}\n${formatClock(originMs + at * 1000)}`;
  }

  #drawBands(u: uPlot): void {
    const { left, top, width, height } = u.bbox;
    for (const { from, to, tone } of this.#data.bands) {
      const [begin, end] = [from, to].map((at) => Math.min(left + width, Math.max(left, u.valToPos(at, "x", true))));
      u.ctx.fillStyle = colorOf(`shade-${tone}`);
      u.ctx.fillRect(begin!, top, end! - begin!, height);
    }
  }

  #drawMarks(u: uPlot, index: number): void {
    const { ctx, bbox } = u;
    const scale = devicePixelRatio;
    const line = ([color, width, dash]: Stroke, x1: number, y1: number, x2: number, y2: number) => {
      ctx.strokeStyle = colorOf(color);
      ctx.lineWidth = width * scale;
      ctx.setLineDash(dash.map((part) => part * scale));
      ctx.stroke(new Path2D(`M${x1} ${y1}L${x2} ${y2}`));
    };
    const text = (content: string, x: number, y: number, align: CanvasTextAlign, color: string) => {
      ctx.font = `600 ${12 * scale}px ${getComputedStyle(document.body).fontFamily}`;
      ctx.textAlign = align;
      ctx.textBaseline = "alphabetic";
      ctx.lineWidth = 4 * scale;
      ctx.setLineDash([]);
      ctx.strokeStyle = colorOf("surface");
      ctx.strokeText(content, x, y);
      ctx.fillStyle = colorOf(color);
      ctx.fillText(content, x, y);
    };
    ctx.save();
    for (const { at, kind } of this.#data.marks) {
      const x = u.valToPos(at, "x", true);
      line(MARK_STROKES[kind] ?? PLAIN_MARK, x, bbox.top, x, bbox.top + bbox.height);
    }
    const { limit, series } = this.#data.charts[index]!;
    const right = bbox.left + bbox.width;
    if (limit) {
      const y = u.valToPos(limit.value, "y", true);
      line(["red", 1.5, [8, 4]], bbox.left, y, right, y);
      text(limit.label, right - 4 * scale, y - bbox.top < 16 * scale ? y + 14 * scale : y - 5 * scale, "right", "bad");
    }
    if (series.every((_, at) => Array.from(u.data[at + 1]!).every((value) => value == null))) {
      text("not measured", bbox.left + bbox.width / 2, bbox.top + bbox.height / 2, "center", "soft");
    }
    ctx.restore();
  }

  /** Names of bands and marks above the first chart, at their times, in rows in which they do not touch. */
  #placeLabels(): void {
    const strip = this.element.querySelector<HTMLElement>(".strip");
    const plotPx = this.#width() - AXIS_WIDTH_PX - RIGHT_MARGIN_PX;
    if (!strip || plotPx <= 0) return;
    const { from, to, bands, labelRows } = this.#data;
    const px = (at: number) => ((Math.min(to, Math.max(from, at)) - from) / (to - from)) * plotPx;
    const width = labelWidths(strip);
    const percent = (size: number) => `${((size / plotPx) * 100).toFixed(2)}%`;
    const element = (className: string, text: string, style: Partial<CSSStyleDeclaration>) => {
      const label = document.createElement("span");
      label.className = className;
      label.textContent = text;
      Object.assign(label.style, style);
      return label;
    };
    const names = bands.map((band) => {
      const [left, right] = [px(band.from), px(band.to)];
      const text = width(band.label) + 6 <= right - left ? band.label : "";
      return element(`band-name band-${band.tone}`, text, { left: percent(left), width: percent(right - left) });
    });
    const bandsPx = bands.length > 0 ? BAND_ROW_PX : 0;
    const placed = this.#placeMarks(px, width, plotPx);
    const rows = Math.max(labelRows, ...placed.map(({ row }) => row + 1), 0);
    strip.style.height = `${bandsPx + rows * LABEL_ROW_PX}px`;
    strip.replaceChildren(
      ...names,
      ...placed.map(({ x, isLeft, row, kind, text }) =>
        element(`mark-name mark-${kind}${isLeft ? " is-left" : ""}`, text, {
          top: `${bandsPx + row * LABEL_ROW_PX}px`,
          ...(isLeft ? { right: percent(plotPx - x) } : { left: percent(x) }),
        }),
      ),
    );
  }

  /** Labels of marks with their rows: complete labels if all of them have room, else only their signs. */
  #placeMarks(px: (at: number) => number, width: (text: string) => number, plotPx: number) {
    const labelled = this.#data.marks.filter(({ label }) => label !== undefined);
    const place = (textOf: (label: string) => string) =>
      placeInRows(
        labelled.map(({ at, kind, label }) => {
          const [x, text] = [px(at), textOf(label!)];
          const size = width(text) + LABEL_PADDING_PX;
          // At the right of its line; at the left of it where the chart ends.
          const isLeft = x + size > plotPx;
          return { x, isLeft, kind, text, from: isLeft ? x - size : x, to: isLeft ? x : x + size };
        }),
        MAX_LABEL_ROWS,
      );
    const complete = place((label) => label);
    return complete.length === labelled.length ? complete : place((label) => label.split(" ")[0]!);
  }

  /** Values of one chart at the cursor; the line of the cursor is in all of them. */
  #showValues(u: uPlot, index: number): void {
    // Charts that follow another one's cursor have no own event.
    if (!u.cursor.event && document.activeElement !== this.#plots[index]) return;
    const at = u.cursor.idx;
    if (at == null || (u.cursor.left ?? -1) < 0) {
      this.#readout.hidden = true;
      return;
    }
    const seconds = this.#times[at]!;
    const { series, unit } = this.#data.charts[index]!;
    const since = `${seconds < 0 ? "−" : "+"}${Math.abs(seconds).toFixed(1)} s`;
    const rows = [
      `${since}, ${formatClock(this.#data.originMs + seconds * 1000)} UTC`,
      ...series.map(({ label }, curve) => {
        const value = u.data[curve + 1]![at];
        return `${label}: ${value == null ? "not measured" : `${value.toLocaleString("en-US")} ${unit}`}`;
      }),
    ];
    this.#readout.textContent = rows.join("\n");
    this.#readout.hidden = false;
    const plot = u.over.getBoundingClientRect();
    const place = (wanted: number, room: number, size: number) => `${Math.max(8, Math.min(wanted, room - size - 8))}px`;
    this.#readout.style.left = place(plot.left + u.cursor.left! + 14, innerWidth, this.#readout.offsetWidth);
    this.#readout.style.top = place(plot.top + 8, innerHeight, this.#readout.offsetHeight);
  }

  #readByKeyboard(plot: HTMLElement, index: number): void {
    const chart = this.#charts[index]!;
    let at = -1;
    plot.tabIndex = 0;
    plot.addEventListener("blur", () => chart.setCursor({ left: -10, top: -10 }));
    plot.addEventListener("keydown", (event) => {
      const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      if (step === 0 || this.#times.length === 0) return;
      event.preventDefault();
      at = Math.max(0, Math.min(this.#times.length - 1, at + step * (event.shiftKey ? 10 : 1)));
      chart.setCursor({ left: chart.valToPos(this.#times[at]!, "x"), top: 10 });
    });
  }
}

const drawn = new WeakMap<Element, Stack>();

const dataIn = (element: Element): StackData =>
  JSON.parse(element.querySelector("script.stack-data")!.textContent!) as StackData;

/** Draws the charts below an element that are visible and not drawn yet. */
export function drawCharts(within: ParentNode): void {
  for (const element of within.querySelectorAll(".stack")) {
    if (!drawn.has(element) && element.checkVisibility()) drawn.set(element, new Stack(element, dataIn(element)));
  }
}

/** Replaces the content of an element; charts that stay the same get the new data and are kept. */
export function replaceContent(element: Element, text: string): void {
  const template = document.createElement("template");
  template.innerHTML = text;
  const [before, after] = [element.querySelector(".stack"), template.content.querySelector(".stack")];
  const stack = before ? drawn.get(before) : undefined;
  if (stack && after && element.children.length === 1 && stack.fits(dataIn(after))) {
    stack.update(dataIn(after));
    const note = before!.querySelector(".axis-note");
    note?.replaceWith(after.querySelector(".axis-note")!);
    return;
  }
  stack?.destroy();
  element.replaceChildren(template.content);
  drawCharts(element);
}

/** Draws again in other colours: another theme, or paper. */
export function followTheme(): void {
  const redraw = () => {
    for (const element of document.querySelectorAll(".stack")) drawn.get(element)?.redraw();
  };
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", redraw);
}
