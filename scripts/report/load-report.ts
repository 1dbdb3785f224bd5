/** The report of a load test: did the pipeline scale with the load, how long did it take, was anything lost. */

import { METRICS, type MetricName } from "../load/thresholds.ts";
import { largest, median, type SeriesName, valuesWithin } from "../recording/recording.ts";
import type { LoadTestResult, ScaledWorkload, ScalingEvent, Threshold } from "../recording/result.ts";
import { type Band, chartStack } from "./charts.ts";
import { CURVE_STYLES, chartsOf, LOAD_CHARTS } from "./curves.ts";
import { documentOf } from "./document.ts";
import { formatClock, formatCount, formatMs, formatNumber, formatOffset, listed, plural } from "./format.ts";
import { type Html, html } from "./html.ts";
import {
  type Answer,
  factsSection,
  firstScreen,
  footer,
  ledgerTable,
  lossAnswer,
  markTable,
  type Status,
} from "./parts.ts";

/** The stages as bands; they begin at the first mark of a stage where there is one. */
export function stageBands(result: LoadTestResult): Band[] {
  const { recording, stages } = result;
  const marks = recording.marks.filter(({ kind }) => kind === "stage").toSorted((a, b) => a.timeMs - b.timeMs);
  const hasMarks = marks.length >= stages.length;
  const bands: Band[] = [];
  let at = marks[0]?.timeMs ?? recording.startedAtMs;
  for (const [index, stage] of stages.entries()) {
    const fromMs = hasMarks ? marks[index]!.timeMs : at;
    const endMs = (hasMarks ? marks[index + 1]?.timeMs : undefined) ?? fromMs + stage.seconds * 1000;
    at = endMs;
    // An interrupted run has stages that never began.
    if (fromMs >= recording.endedAtMs) break;
    const label = stage.events_per_second === 0 ? "quiet" : `${formatCount(stage.events_per_second)}/s`;
    bands.push({ fromMs, toMs: Math.min(endMs, recording.endedAtMs), label, tone: "plain" });
  }
  return bands;
}

/** The turning points of the number of replicas: [1, 4, 1]. */
export function turnsOf(scaling: readonly ScalingEvent[], workload: ScaledWorkload): number[] {
  const events = scaling.filter((event) => event.workload === workload).toSorted((a, b) => a.timeMs - b.timeMs);
  const counts = events.length === 0 ? [] : [events[0]!.from, ...events.map(({ to }) => to)];
  return counts.filter((count, index) => {
    const [before, after] = [counts[index - 1], counts[index + 1]];
    return before === undefined || after === undefined || count > before !== after > count;
  });
}

function scalingAnswer(result: LoadTestResult): Answer {
  const question = "Did it scale with the load?";
  const turns = (["processor", "producer"] as const).map((workload) => ({
    workload,
    turns: turnsOf(result.scaling, workload),
  }));
  const moved = turns.filter((one) => one.turns.length > 0);
  if (moved.length === 0) return { question, answer: "It did not scale", detail: "No replica was added or removed." };
  const [first] = moved;
  const firstUp = result.scaling.find(({ from, to, ready_after_ms }) => to > from && ready_after_ms !== undefined);
  const others = moved.slice(1).map((one) => `${one.workload} ${one.turns.join(" → ")}`);
  const ready =
    firstUp &&
    `first extra ${firstUp.workload} ready ${formatMs(firstUp.ready_after_ms!)} after the autoscaler's decision`;
  const details = [...others, ready].filter((part) => part !== undefined && part !== "");
  return {
    question,
    answer: `${first!.workload} ${first!.turns.join(" → ")}`,
    detail: details.length > 0 ? `${details.join("; ")}.` : "",
  };
}

const missOf = (threshold: Threshold): string =>
  threshold.ok ? "" : (threshold.by ?? (threshold.value === null ? "not measured" : "missed"));

function verdictOf(result: LoadTestResult): { status: Status; verdict: string; because: string } {
  const { thresholds, ledger, facts } = result;
  const missed = thresholds.filter(({ ok }) => !ok);
  const kept = thresholds.length - missed.length;
  if (facts.interrupted) {
    return {
      status: "doubt",
      verdict: "Interrupted: no verdict",
      because: "The run was stopped before its end. The page shows what was measured until then.",
    };
  }
  if (missed.length > 0 || ledger.lost > 0 || !result.passed) {
    const lost = ledger.lost > 0 ? [`${plural(ledger.lost, "acknowledged event")} lost`] : [];
    const reasons = [
      ...lost,
      ...missed.map((threshold) => `${threshold.text} missed${missOf(threshold) && ` (${missOf(threshold)})`}`),
    ];
    return {
      status: "bad",
      verdict: missed.length > 0 ? `Failed: ${plural(missed.length, "threshold")} missed` : "Failed",
      because: `${reasons.length > 0 ? listed(reasons) : "The record of the run says “not passed”"}.`,
    };
  }
  return {
    status: "good",
    verdict:
      result.scaling.length > 0 ? "Passed: the pipeline scaled with the load" : "Passed: the pipeline handled the load",
    because: thresholds.length > 0 ? `All ${plural(kept, "threshold")} kept.` : "No threshold was set.",
  };
}

function passedAnswer(result: LoadTestResult, status: Status): Answer {
  const missed = result.thresholds.filter(({ ok }) => !ok).length;
  const total = result.thresholds.length;
  return {
    question: "Did it pass?",
    answer: { good: "Yes", bad: "No", doubt: "Not known" }[status],
    detail:
      total === 0 ? "no threshold was set" : `${formatCount(total - missed)} of ${plural(total, "threshold")} kept`,
    status,
  };
}

function thresholdTable(thresholds: readonly Threshold[]): Html {
  if (thresholds.length === 0) return html`<p class="soft">No threshold was set.</p>`;
  return html`<div class="wide"><table><caption>Each threshold with the measured value</caption>
<thead><tr><th scope="col">threshold</th><th scope="col">verdict</th><th scope="col" class="number">measured</th><th scope="col" class="number">limit</th><th scope="col">missed by</th></tr></thead>
<tbody>${thresholds.map(
    (threshold) =>
      html`<tr><th scope="row" class="mono">${threshold.text}</th><td><span class="badge ${threshold.ok ? "good" : "bad"}">${threshold.ok ? "✔ kept" : "✖ missed"}</span></td><td class="number">${threshold.value === null ? "not measured" : formatNumber(threshold.value)}</td><td class="number">${formatNumber(threshold.limit)}</td><td>${missOf(threshold)}</td></tr>`,
  )}</tbody></table></div>`;
}

/** Columns of the table of stages, and which value of a stage is shown. */
const STAGE_COLUMNS: readonly { name: SeriesName; head: string; pick: "median" | "highest" | "last" }[] = [
  { name: "offered_events_per_second", head: "offered/s", pick: "median" },
  { name: "acknowledged_events_per_second", head: "acknowledged/s", pick: "median" },
  { name: "stored_events_per_second", head: "stored/s", pick: "median" },
  { name: "lag_events", head: "lag", pick: "highest" },
  { name: "e2e_p50_ms", head: "p50, ms", pick: "median" },
  { name: "e2e_p99_ms", head: "p99, ms", pick: "highest" },
  { name: "producer_replicas_ready", head: "producers", pick: "last" },
  { name: "processor_replicas_ready", head: "processors", pick: "last" },
];

function stageTable(result: LoadTestResult, bands: readonly Band[]): Html {
  const columns = STAGE_COLUMNS.filter(({ name }) => result.recording.series[name]?.some((value) => value !== null));
  return html`<div class="wide"><table><caption>Each stage: medians of rates, highest lag and latency, replicas at its end</caption>
<thead><tr><th scope="col">stage</th><th scope="col" class="number">length</th>${columns.map(({ head }) => html`<th scope="col" class="number">${head}</th>`)}</tr></thead>
<tbody>${bands.map((band, index) => {
    const cell = ({ name, pick }: (typeof STAGE_COLUMNS)[number]) => {
      const values = valuesWithin(result.recording, name, band.fromMs, band.toMs);
      const value = pick === "median" ? median(values) : pick === "highest" ? largest(values) : (values.at(-1) ?? null);
      return html`<td class="number">${value === null ? "–" : formatNumber(value)}</td>`;
    };
    return html`<tr><th scope="row" class="nowrap">${index + 1}. ${band.label}</th><td class="number">${formatMs(band.toMs - band.fromMs)}</td>${columns.map(cell)}</tr>`;
  })}</tbody></table></div>`;
}

function scalingTable(result: LoadTestResult): Html {
  if (result.scaling.length === 0) return html`<p class="soft">Nothing was scaled.</p>`;
  const startMs = result.recording.startedAtMs;
  return html`<div class="wide"><table><caption>Each decision of the autoscalers, and the time until its pods were ready</caption>
<thead><tr><th scope="col" class="number">since start</th><th scope="col">UTC</th><th scope="col">workload</th><th scope="col">replicas</th><th scope="col" class="number">pods ready after</th></tr></thead>
<tbody>${result.scaling.map(
    ({ timeMs, workload, from, to, ready_after_ms }) =>
      html`<tr><td class="number">${formatOffset(timeMs - startMs)}</td><td class="nowrap">${formatClock(timeMs)}</td><th scope="row">${workload}</th><td class="nowrap">${to > from ? "▲" : "▼"} ${from} → ${to}</td><td class="number">${ready_after_ms !== undefined ? formatMs(ready_after_ms) : to > from ? "not seen" : ""}</td></tr>`,
  )}</tbody></table></div>`;
}

function measuredTable({ measured }: LoadTestResult): Html | null {
  if (!measured) return null;
  return html`<details><summary>All measured metrics</summary><div class="wide"><table><caption>All metrics that a threshold may name</caption>
<thead><tr><th scope="col">metric</th><th scope="col" class="number">measured</th><th scope="col">meaning</th></tr></thead>
<tbody>${Object.entries(measured).map(
    ([name, value]) =>
      html`<tr><th scope="row" class="mono">${name}</th><td class="number">${value === null ? "not measured" : formatNumber(value)}</td><td>${METRICS[name as MetricName] ?? ""}</td></tr>`,
  )}</tbody></table></div></details>`;
}

const GROWTHS = [
  ["memory_mebibytes", "memory, MiB"],
  ["open_files", "open files"],
] as const;

/** The processes of the pipeline that lived long enough in the load. */
function processTable({ processes = [] }: LoadTestResult): Html | null {
  if (processes.length === 0) return null;
  return html`<section aria-labelledby="processes"><h2 id="processes">Processes</h2><div class="wide"><table><caption>Memory and open files (sockets included) of each process that lived 20 minutes in the load: medians of the second and the last quarter of its life</caption>
<thead><tr><th scope="col">pod</th><th scope="col" class="number">lived</th>${GROWTHS.map(([, head]) => html`<th scope="col" class="number">${head}</th><th scope="col" class="number">growth</th>`)}</tr></thead>
<tbody>${processes.map(
    (one) =>
      html`<tr><th scope="row" class="mono">${one.pod}</th><td class="number">${one.minutes} min</td>${GROWTHS.map(
        ([name]) => {
          const growth = one[name];
          return growth
            ? html`<td class="number nowrap">${formatNumber(growth.before)} → ${formatNumber(growth.after)}</td><td class="number nowrap">${formatNumber(growth.percent)} %</td>`
            : html`<td class="number">–</td><td class="number">–</td>`;
        },
      )}</tr>`,
  )}</tbody></table></div></section>`;
}

const INVARIANT_BADGES = {
  passed: ["good", "✔ holds"],
  failed: ["bad", "✖ broken"],
  unknown: ["doubt", "? not known"],
} as const;

/** The invariants, also those that this load does not promise: they are shown and do not count. */
function auditSection({ audit }: LoadTestResult): Html | null {
  if (!audit) return null;
  return html`<section aria-labelledby="audit"><h2 id="audit">Audit</h2><p>${audit.line}.</p>
<div class="wide"><table><caption>Each invariant over the events of this load, from Kafka to the database</caption>
<thead><tr><th scope="col">invariant</th><th scope="col">meaning</th><th scope="col">verdict</th><th scope="col">result</th></tr></thead>
<tbody>${audit.laws.map(({ law, title, status, detail, promised }) => {
    const [color, label] = INVARIANT_BADGES[status];
    return html`<tr><th scope="row">${law}</th><td>${title}</td><td class="nowrap"><span class="badge ${promised ? color : "doubt"}">${label}${!promised && " (not promised)"}</span></td><td>${detail}</td></tr>`;
  })}</tbody></table></div>${
    audit.laws.some(({ promised }) => !promised) &&
    html`<p class="soft small">Not promised: an open load sends the events of one conveyor through several producers at once, without awaiting responses, so they may reach Kafka out of order. Such an invariant is shown and does not count.</p>`
  }</section>`;
}

function loadStack(result: LoadTestResult, bands = stageBands(result)): Html {
  const { recording, thresholds } = result;
  const charts = chartsOf(recording, LOAD_CHARTS).map((one) => {
    // Only a limit on a curve of this chart can be drawn; a limit on a total ("lost=0") has no place on a time axis.
    const threshold = thresholds.find(
      ({ metric, limit }) => limit > 0 && one.series.some(({ name }) => name === metric),
    );
    return { ...one, limit: threshold && { value: threshold.limit, label: threshold.text } };
  });
  return chartStack({
    label: "Load, replicas, lag, latency and CPU over the same time",
    timesMs: recording.timesMs,
    marks: recording.marks,
    bands,
    originMs: recording.startedAtMs,
    charts,
  });
}

function missingSeries(result: LoadTestResult): string[] {
  const { series } = result.recording;
  return (Object.keys(CURVE_STYLES) as SeriesName[]).filter((name) => !series[name]?.some((value) => value !== null));
}

function header(result: LoadTestResult): Html {
  const { status, verdict, because } = verdictOf(result);
  const title = `Load test, profile ${result.profile}`;
  return firstScreen({
    kind: title,
    facts: result.facts,
    status,
    verdict,
    because,
    answers: [passedAnswer(result, status), lossAnswer([result.ledger]), scalingAnswer(result)],
  });
}

export function loadReport(result: LoadTestResult): string {
  const bands = stageBands(result);
  const missing = missingSeries(result);
  const body = html`<main>${header(result)}
<section aria-labelledby="charts"><h2 id="charts">Load, replicas, lag, latency</h2><div class="panel">${loadStack(result, bands)}</div>${
    missing.length > 0 && html`<p class="soft small">Not measured in this run: ${missing.join(", ")}.</p>`
  }</section>
<section aria-labelledby="thresholds"><h2 id="thresholds">Thresholds</h2>${thresholdTable(result.thresholds)}${measuredTable(result)}</section>
${processTable(result)}
<section aria-labelledby="stages"><h2 id="stages">Stages</h2>${stageTable(result, bands)}</section>
<section aria-labelledby="scaling"><h2 id="scaling">Scaling</h2>${scalingTable(result)}</section>
<section aria-labelledby="ledger"><h2 id="ledger">Ledger</h2>${ledgerTable(result.ledger)}</section>
${auditSection(result)}
<section aria-labelledby="hpa"><h2 id="hpa">Output of kubectl get hpa</h2>${
    result.hpaTable.length > 0
      ? html`<div class="terminal" tabindex="0" role="region" aria-label="kubectl get hpa over time"><pre>${result.hpaTable.join("\n")}</pre></div>`
      : html`<p class="soft">Not recorded.</p>`
  }</section>
<section aria-labelledby="events"><h2 id="events">Events</h2><details><summary>${plural(result.recording.marks.length, "event")} of pods, scaling and alerts</summary>${markTable(result.recording.marks, result.recording.startedAtMs, "Times since the start of the recording")}</details></section>
${factsSection(result.facts)}${footer(result.facts)}</main>`;
  return documentOf({ title: `Load test ${result.facts.id}`, body });
}

/** The page of outputs/hpa-scaling.png, for htmlToPng: first screen, charts and scaling. */
export function renderScalingPicture(result: LoadTestResult): string {
  const body = html`<main>${header(result)}<div class="panel">${loadStack(result)}</div><h2>Scaling</h2>${scalingTable(result)}</main>`;
  return documentOf({ title: `Load test ${result.facts.id}`, body, theme: "light" });
}
