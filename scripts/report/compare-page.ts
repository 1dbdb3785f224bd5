/** Two load tests compared: metrics that became better or worse, and the curves of both in the same charts. */

import { eventsOf } from "../load/compare.ts";
import { METRICS, type MetricName } from "../load/thresholds.ts";
import { largest, type SeriesName, type Value, valuesWithin } from "../recording/recording.ts";
import type { Ledger, LoadTestResult } from "../recording/result.ts";
import { type ChartSeries, chartStack } from "./charts.ts";
import { CURVE_STYLES } from "./curves.ts";
import { documentOf } from "./document.ts";
import { formatClock, formatCount, formatMoment, formatNumber } from "./format.ts";
import { type Html, html } from "./html.ts";
import { turnsOf } from "./load-report.ts";

/** Smaller differences between two runs on one machine are noise, neither better nor worse. */
const NOISE_SHARE = 0.05;
/** Largest distance in time of two values that are compared. */
const NEAREST_MS = 1500;

type Better = "lower" | "higher" | "neither";

interface Measure {
  label: string;
  unit: string;
  better: Better;
  of(result: LoadTestResult): number | null;
}

function directionOf(name: MetricName): Better {
  if (name.includes("_replicas_")) return "neither";
  return name === "stored_events_per_second" ? "higher" : "lower";
}

const counted = (key: keyof Ledger, label: string, better: Better): Measure => ({
  label,
  unit: "",
  better,
  of: ({ ledger }) => ledger[key],
});

const MEASURES: readonly Measure[] = [
  counted("lost", "acknowledged events lost", "lower"),
  counted("duplicated", "events stored twice", "lower"),
  counted("failed", "events rejected", "lower"),
  counted("unknown", "events without a response", "lower"),
  counted("offered", "events offered", "neither"),
  counted("acknowledged", "events acknowledged", "neither"),
  counted("stored", "events stored", "neither"),
  ...(Object.keys(METRICS) as MetricName[])
    .filter((name) => name !== "lost" && name !== "duplicated")
    .map((name) => ({
      label: name,
      unit: "",
      better: directionOf(name),
      of: ({ measured }: LoadTestResult) => measured?.[name] ?? null,
    })),
  {
    label: "highest age of the newest stored event",
    unit: "s",
    better: "lower",
    of: (result) => largest(valuesWithin(result.recording, "freshness_seconds")),
  },
  {
    label: "highest CPU use of the processors",
    unit: "cores",
    better: "neither",
    of: (result) => largest(valuesWithin(result.recording, "processor_cpu_cores")),
  },
];

export type Change = "better" | "worse" | "alike" | "not comparable";

/** b compared with a. Differences within the noise of one machine are alike; a first lost event is never noise. */
export function changeOf(a: number | null, b: number | null, better: Better): Change {
  if (a === null || b === null || better === "neither") return a !== null && a === b ? "alike" : "not comparable";
  if (a === b) return "alike";
  const isNoise = a !== 0 && b !== 0 && Math.abs(b - a) / Math.abs(a) <= NOISE_SHARE;
  if (isNoise) return "alike";
  return b < a === (better === "lower") ? "better" : "worse";
}

const CHANGE_STYLES: Readonly<Record<Exclude<Change, "not comparable">, { className: string; sign: string }>> = {
  better: { className: "badge good", sign: "✔" },
  worse: { className: "badge bad", sign: "✖" },
  alike: { className: "soft", sign: "≈" },
};

function badgeOf(change: Change, a: number | null, b: number | null): Html {
  const share = a && b !== null ? ((b - a) / a) * 100 : undefined;
  const percent =
    share === undefined || share === 0
      ? ""
      : ` ${share > 0 ? "+" : "−"}${formatNumber(Math.abs(Number(share.toFixed(0))))} %`;
  if (change === "not comparable") return html`<span class="soft">${percent.trim()}</span>`;
  const { className, sign } = CHANGE_STYLES[change];
  return html`<span class="${className}">${sign} ${change}${percent}</span>`;
}

/** Values of a run at given times since its start. */
export function alignedTo(sinceMs: readonly number[], result: LoadTestResult, name: SeriesName): Value[] {
  const { timesMs, series, startedAtMs } = result.recording;
  const values = series[name] ?? [];
  let at = 0;
  return sinceMs.map((since) => {
    const wanted = startedAtMs + since;
    while (at + 1 < timesMs.length && Math.abs(timesMs[at + 1]! - wanted) <= Math.abs(timesMs[at]! - wanted)) at += 1;
    const nearest = timesMs[at];
    return nearest !== undefined && Math.abs(nearest - wanted) <= NEAREST_MS ? (values[at] ?? null) : null;
  });
}

const COMPARED: readonly { title: string; name: SeriesName }[] = [
  { title: "Offered", name: "offered_events_per_second" },
  { title: "Stored in InfluxDB", name: "stored_events_per_second" },
  { title: "Processors ready", name: "processor_replicas_ready" },
  { title: "Producers ready", name: "producer_replicas_ready" },
  { title: "Waiting in Kafka", name: "lag_events" },
  { title: "p99 from an event's time to its storage", name: "e2e_p99_ms" },
  { title: "Processor's CPU", name: "processor_cpu_cores" },
];

function overlaid(a: LoadTestResult, b: LoadTestResult): Html {
  const since = (result: LoadTestResult) =>
    result.recording.timesMs.map((timeMs) => timeMs - result.recording.startedAtMs);
  const [sinceA, sinceB] = [since(a), since(b)];
  // The longer one, so that neither is cut.
  const sinceMs = (sinceA.at(-1) ?? 0) >= (sinceB.at(-1) ?? 0) ? sinceA : sinceB;
  const startMs = a.recording.startedAtMs;
  const charts = COMPARED.flatMap(({ title, name }) => {
    const curve = (
      result: LoadTestResult,
      label: string,
      tone: ChartSeries["tone"],
      dash: ChartSeries["dash"],
    ): ChartSeries => ({
      name: `${name}-${label}`,
      label,
      values: alignedTo(sinceMs, result, name),
      tone,
      dash,
      step: CURVE_STYLES[name].step,
    });
    const series = [curve(a, "A", "blue", "dashed"), curve(b, "B", "orange", "solid")];
    if (series.every(({ values }) => values.every((value) => value === null))) return [];
    return [{ title, unit: CURVE_STYLES[name].unit, series }];
  });
  return chartStack({
    label: "Both runs over the time since their starts",
    timesMs: sinceMs.map((ms) => startMs + ms),
    originMs: startMs,
    origin: "the start of each (the time of day is that of A)",
    charts,
  });
}

const verdictOf = (result: LoadTestResult): Html =>
  result.facts.interrupted
    ? html`<span class="badge doubt">■ interrupted</span>`
    : result.passed && result.ledger.lost === 0
      ? html`<span class="badge good">✔ passed</span>`
      : html`<span class="badge bad">✖ failed</span>`;

/** The page of two load tests; B is compared with A. */
export function renderComparison(a: LoadTestResult, b: LoadTestResult): string {
  const rows = MEASURES.map((measure) => {
    const [left, right] = [measure.of(a), measure.of(b)];
    return { ...measure, left, right, change: changeOf(left, right, measure.better) };
  }).filter(({ left, right }) => left !== null || right !== null);
  const count = (change: Change) => rows.filter((row) => row.change === change).length;
  const [better, worse] = [count("better"), count("worse")];
  const verdict =
    better + worse === 0
      ? "B is equal to A"
      : worse === 0
        ? "B is better than A"
        : better === 0
          ? "B is worse than A"
          : "B is better in some metrics, worse in others";
  const status = worse === 0 ? "good" : better === 0 ? "bad" : "doubt";
  const value = (number: number | null, unit: string) =>
    number === null ? "not measured" : `${formatNumber(number)}${unit && ` ${unit}`}`;
  const isOtherLoad = JSON.stringify(a.stages) !== JSON.stringify(b.stages) || eventsOf(a) !== eventsOf(b);
  const side = (name: string, result: LoadTestResult) =>
    html`<section class="answer"><h2>${name}</h2><p class="big">${result.profile}${eventsOf(result) === "v2" && ", events v2"}</p><p><span class="mono">${result.facts.id}</span></p><p>${formatMoment(result.recording.startedAtMs)} to ${formatClock(result.recording.endedAtMs)}</p><p>${verdictOf(result)}</p><p>processor ${turnsOf(result.scaling, "processor").join(" → ") || "not scaled"}; producer ${turnsOf(result.scaling, "producer").join(" → ") || "not scaled"}</p></section>`;
  const body = html`<main><header class="verdict ${status}"><p class="what">Two load tests compared; B is compared with A</p><h1>${verdict}</h1><p>${formatCount(better)} better, ${formatCount(worse)} worse, ${formatCount(count("alike"))} alike; differences up to ${NOISE_SHARE * 100} % count as alike.${isOtherLoad && " Their stages or events differ: this compares two loads, not two pipelines."}</p></header>
<div class="answers" style="grid-template-columns:repeat(auto-fit,minmax(min(100%,260px),1fr))">${side("A", a)}${side("B", b)}</div>
<section aria-labelledby="numbers"><h2 id="numbers">Metrics</h2><div class="wide"><table><caption>Each metric of both runs</caption><thead><tr><th scope="col">metric</th><th scope="col" class="number">A</th><th scope="col" class="number">B</th><th scope="col">B compared with A</th></tr></thead><tbody>${rows.map(
    ({ label, unit, left, right, change }) =>
      html`<tr><th scope="row">${label}</th><td class="number">${value(left, unit)}</td><td class="number">${value(right, unit)}</td><td>${badgeOf(change, left, right)}</td></tr>`,
  )}</tbody></table></div></section>
<section aria-labelledby="curves"><h2 id="curves">Charts</h2><div class="panel">${overlaid(a, b)}</div></section>
<footer>Made only from the records of both runs. A gap in a chart means “not measured”.</footer></main>`;
  return documentOf({ title: `Load tests ${a.facts.id} and ${b.facts.id}`, body });
}
