/** A live state as sections of HTML, each with an id, for the live page and for the frames of the video. */

import type { Mark, SeriesName } from "../recording/recording.ts";
import { chartStack, MARK_SIGNS } from "../report/charts.ts";
import { chartsOf, LIVE_CHARTS } from "../report/curves.ts";
import { recoveryBar, verdictBadge } from "../report/drills-report.ts";
import { formatClock, formatCount, formatMs, formatNumber, formatOffset } from "../report/format.ts";
import { type Html, html } from "../report/html.ts";
import { commandOutput, logText, phaseList } from "../report/parts.ts";
import { type LiveState, recentRecording } from "./live-state.ts";

/** Characters of a line of the timeline, in the narrow column of the video. */
const MARK_LINE_CHARACTERS = 34;
/** Shows normal operation, fault and recovery of a drill in one picture. */
const WINDOW_MS = 120_000;

export interface LiveViewOptions {
  /** Rows of the lists. */
  lines?: number;
  marks?: number;
  /** Only the newest marks that fit into so many lines of text. */
  markLines?: number;
  commands?: number;
  chartHeightPx?: number;
  /** Rows reserved for labels above the charts, so that the layout does not move. */
  labelRows?: number;
  /** Period of the charts; the last two minutes when absent. */
  rangeMs?: { fromMs: number; toMs: number };
}

/** Zero of the time axis: the fault of the current drill; before it, the start of the drill. */
export function liveOriginMs(state: LiveState): { originMs: number; origin: string } {
  const fault = state.marks.findLast(({ kind, timeMs }) => kind === "fault" && timeMs >= state.drillStartedAtMs);
  return fault
    ? { originMs: fault.timeMs, origin: "the fault" }
    : { originMs: state.drillStartedAtMs, origin: "the drill's start" };
}

function headline(state: LiveState): Html {
  const { drill, timeMs, waiting } = state;
  const clock = html`<span class="mono">${formatClock(timeMs)} UTC</span>`;
  if (waiting) {
    return html`<p class="what">Drill ${waiting.number} of ${waiting.count} starts at ${formatClock(waiting.dueMs)} · run <span class="mono">${state.runId}</span> · ${clock}</p><h1>Waiting for the next drill</h1>`;
  }
  if (!drill)
    return html`<p class="what">run <span class="mono">${state.runId}</span> · ${clock}</p><h1>Preparing</h1>`;
  const repeat = drill.repeat > 1 ? `, repeat ${drill.repeat}` : "";
  return html`<p class="what">Drill ${drill.number} of ${drill.count}${repeat} · run <span class="mono">${state.runId}</span> · ${clock}</p><h1>${drill.title}</h1><p>${drill.hypothesis}</p><p class="soft small">Fault: ${drill.fault}</p>`;
}

function phases(state: LiveState): Html {
  return phaseList((name) => {
    const index = state.phases.findIndex((phase) => phase.name === name);
    if (index < 0) return undefined;
    const next = state.phases[index + 1];
    const isNow = next === undefined && !isFinished(state);
    const ms = Math.max(0, (next?.startedAtMs ?? state.timeMs) - state.phases[index]!.startedAtMs);
    return { isNow, time: `${isNow ? "for " : ""}${formatMs(ms)}` };
  });
}

/** The current drill has its verdict. */
function isFinished({ drill, finished }: LiveState): boolean {
  const last = finished.at(-1);
  return drill !== undefined && last?.name === drill.name && last.repeat === drill.repeat;
}

const NUMBERS: readonly (readonly [SeriesName, string, string])[] = [
  ["acknowledged_events_per_second", "in: acknowledged", "events/s"],
  ["stored_events_per_second", "out: stored", "events/s"],
  ["lag_events", "lag", "events"],
  ["freshness_seconds", "newest stored event", "s old"],
];

function numbers(state: LiveState): Html {
  const row = state.rows.at(-1)?.row ?? {};
  return html`<dl class="numbers">${NUMBERS.map(([name, label, unit]) => {
    const value = row[name] ?? null;
    return html`<div><dt>${label}</dt><dd>${value === null ? "–" : formatNumber(Math.abs(value) < 100 ? Number(value.toFixed(1)) : value)} <small>${value === null ? "not measured" : unit}</small></dd></div>`;
  })}</dl>`;
}

function charts(state: LiveState, { chartHeightPx = 110, rangeMs, labelRows }: LiveViewOptions): Html {
  const { fromMs, toMs } = rangeMs ?? { fromMs: state.timeMs - WINDOW_MS, toMs: state.timeMs };
  const recording = recentRecording(state, fromMs, Math.min(toMs, state.timeMs));
  const bands = state.phases
    .map(({ name, startedAtMs }, index) => ({
      fromMs: Math.max(fromMs, startedAtMs),
      toMs: Math.min(toMs, state.phases[index + 1]?.startedAtMs ?? state.timeMs),
      label: name,
      tone: name,
    }))
    .filter((band) => band.toMs > band.fromMs);
  const planned = chartsOf(recording, LIVE_CHARTS);
  if (planned.length === 0) return html`<p class="soft">No measurement yet.</p>`;
  return chartStack({
    label: "Rates, lag and freshness of the last minutes",
    timesMs: recording.timesMs,
    rangeMs: { fromMs, toMs },
    marks: recording.marks,
    labelRows,
    bands,
    ...liveOriginMs(state),
    charts: planned.map((one) => ({ ...one, heightPx: chartHeightPx })),
    table: false,
  });
}

const POD_SIGNS = { ready: "●", "not ready": "○", ending: "✖" } as const;

function pods(state: LiveState): Html {
  if (state.pods.length === 0) return html`<h2>Pods</h2><p class="soft small">no pod seen yet</p>`;
  const groups = [...Map.groupBy(state.pods, ({ workload }) => workload)].toSorted(([a], [b]) => a.localeCompare(b));
  const ready = state.pods.filter((pod) => pod.state === "ready").length;
  return html`<h2>Pods: ${ready} of ${state.pods.length} ready</h2><ul class="pods">${groups.map(
    ([workload, members]) =>
      html`<li><span class="workload">${workload}</span><span class="members">${members
        .toSorted((a, b) => a.name.localeCompare(b.name))
        .map(
          (pod) =>
            html`<span class="pod pod-${pod.state.replace(" ", "-")}">${POD_SIGNS[pod.state]} ${shortName(pod.name, workload)}<small>${pod.state !== "ready" && ` ${pod.state}`}${pod.restarts > 0 && ` ↻${pod.restarts}`}</small></span>`,
        )}</span></li>`,
  )}</ul>`;
}

/** Name of a pod without the name of its workload. */
const shortName = (name: string, workload: string) =>
  name.startsWith(`${workload}-`) ? name.slice(workload.length + 1) : name;

function alerts(state: LiveState): Html {
  return html`<h2>Alerts</h2>${
    state.alerts.length === 0
      ? html`<p class="soft small">none</p>`
      : html`<ul class="plain">${state.alerts.map(
          ({ name, state: alertState, severity }) =>
            html`<li><span class="badge ${alertState === "firing" ? "bad" : "doubt"}">⚠ ${alertState}</span> ${name} <span class="soft small">${severity}</span></li>`,
        )}</ul>`
  }`;
}

const LEDGER_LABELS = [
  ["offered", "offered"],
  ["acknowledged", "acknowledged"],
  ["unknown", "no response"],
  ["failed", "failed"],
  ["stored", "stored"],
  ["lost", "lost"],
] as const;

function ledgerCounts({ ledger, drill }: LiveState): Html {
  const known = LEDGER_LABELS.filter(([key]) => ledger[key] !== undefined);
  return html`<h2>Ledger${drill && ", events of this drill"}</h2>${
    known.length === 0
      ? html`<p class="soft small">no event counted yet</p>`
      : html`<dl class="counts">${known.map(([key, label]) => html`<div><dt>${label}</dt><dd${key === "lost" && (ledger.lost ?? 0) > 0 && html` class="bad-text"`}>${formatCount(ledger[key]!)}</dd></div>`)}</dl>`
  }`;
}

/** The newest marks whose texts, of at most two lines each, fit into so many lines. */
function fitting(marks: readonly Mark[], lines: number): Mark[] {
  let left = lines;
  const fit: Mark[] = [];
  for (const mark of marks.toReversed()) {
    left -= mark.text.length > MARK_LINE_CHARACTERS ? 2 : 1;
    if (left < 0) break;
    fit.unshift(mark);
  }
  return fit;
}

function timeline(state: LiveState, count: number, lines = Number.POSITIVE_INFINITY): Html {
  const { originMs } = liveOriginMs(state);
  const all = state.marks
    .filter(({ timeMs }) => timeMs >= state.drillStartedAtMs)
    .toSorted((a, b) => a.timeMs - b.timeMs);
  const marks = fitting(all.slice(-count), lines);
  return html`<h2>Timeline</h2>${
    marks.length === 0
      ? html`<p class="soft small">no event yet</p>`
      : html`<ol class="plain marks">${marks.map(
          (mark) =>
            html`<li class="kind-${mark.kind}"><span class="when">${formatOffset(mark.timeMs - originMs)}</span> <span class="sign">${MARK_SIGNS[mark.kind]} ${mark.kind}</span> <span>${mark.text}</span></li>`,
        )}</ol>`
  }`;
}

function terminal(state: LiveState, count: number): Html {
  const { originMs } = liveOriginMs(state);
  const commands = state.commands.filter(({ timeMs }) => timeMs >= state.drillStartedAtMs).slice(-count);
  return html`<h2>Operator’s commands</h2><div class="terminal">${
    commands.length === 0
      ? html`<div class="command"><span class="prompt">$</span> <span class="caret">▁</span></div>`
      : commands.map((command) => commandOutput(command, originMs))
  }</div>`;
}

function logLines(state: LiveState, count: number): Html {
  const { originMs } = liveOriginMs(state);
  const lines = state.lines.filter(({ timeMs }) => timeMs >= state.drillStartedAtMs).slice(-count);
  return html`<h2>Warnings and errors in the logs</h2><div class="terminal">${
    lines.length === 0 ? html`<pre>no warning and no error yet</pre>` : logText(lines, originMs)
  }</div>`;
}

function finished(state: LiveState): Html {
  if (state.finished.length === 0) return html``;
  return html`<h2>Finished drills</h2><div class="wide"><table><caption>Verdict, and recovery time against its budget</caption><thead><tr><th scope="col">drill</th><th scope="col">verdict</th><th scope="col">recovery</th></tr></thead><tbody>${state.finished.map(
    ({ title, repeat, verdict, recovery }) =>
      html`<tr><th scope="row">${title}${repeat > 1 && ` (${repeat})`}</th><td>${verdictBadge(verdict)}</td><td>${recoveryBar(recovery)}</td></tr>`,
  )}</tbody></table></div>`;
}

/** The sections of a state, by the id of the element. */
export function liveSections(state: LiveState, options: LiveViewOptions = {}) {
  return {
    headline: headline(state).text,
    phases: phases(state).text,
    numbers: numbers(state).text,
    charts: charts(state, options).text,
    pods: pods(state).text,
    alerts: alerts(state).text,
    ledger: ledgerCounts(state).text,
    timeline: timeline(state, options.marks ?? 14, options.markLines).text,
    terminal: terminal(state, options.commands ?? 6).text,
    lines: logLines(state, options.lines ?? 12).text,
    finished: finished(state).text,
  };
}

export type LiveSection = keyof ReturnType<typeof liveSections>;

/** Style of the live page and of the video. */
export const LIVE_STYLE = `
main.live { max-width: 1400px; }
main.live h2 { font-size: 15px; margin: 0 0 8px; }
.live-grid { display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 1fr); gap: 12px; align-items: start; margin-top: 12px; }
.live-grid .panel { margin: 0 0 12px; } main.live .panel:empty { display: none; } main.live .chart:first-child figcaption { margin-top: 0; } main.live .axis-note { display: none; }
dl.numbers { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 10px; margin: 12px 0; }
dl.numbers > div { background: var(--surface); border: 1px solid var(--edge); border-radius: 10px; padding: 8px 14px; }
dl.numbers dt { font-size: 13px; color: var(--soft); } dl.numbers dd { margin: 0; font-size: 22px; font-weight: 700; font-variant-numeric: tabular-nums; white-space: nowrap; } dl.numbers small { font-size: 12px; font-weight: 400; color: var(--soft); }
ul.pods, ul.plain, ol.plain { list-style: none; margin: 0; padding: 0; font-size: 14px; }
ul.pods li { display: grid; grid-template-columns: 104px minmax(0, 1fr); gap: 8px; padding: 4px 0; border-top: 1px solid var(--edge); }
ul.pods li:first-child { border-top: 0; } .members { display: flex; flex-wrap: wrap; gap: 4px; }
.pod { border: 1px solid currentColor; border-radius: 6px; padding: 0 7px; font-size: 13px; white-space: nowrap; }
.pod-ready { color: var(--good); background: var(--good-ground); } .pod-not-ready { color: var(--doubt); background: var(--doubt-ground); border-style: dashed; } .pod-ending { color: var(--bad); background: var(--bad-ground); border-style: dashed; }
dl.counts { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 6px 12px; margin: 0; font-size: 14px; } dl.counts dt { color: var(--soft); font-size: 13px; } dl.counts dd { margin: 0; font-weight: 700; font-variant-numeric: tabular-nums; }
ol.marks li { display: grid; grid-template-columns: 62px 96px minmax(0, 1fr); gap: 8px; padding: 2px 0; } ol.marks .when { color: var(--soft); text-align: right; font-variant-numeric: tabular-nums; } ol.marks .sign { font-weight: 600; white-space: nowrap; }
.kind-fault .sign { color: var(--bad); } .kind-effect .sign { color: var(--orange); } .kind-healed .sign { color: var(--blue); } .kind-recovered .sign { color: var(--good); } .kind-alert .sign { color: var(--purple); }
.state-line { font-size: 14px; color: var(--soft); } .state-line.gone { color: var(--bad); font-weight: 600; }
@media (max-width: 900px) { .live-grid { grid-template-columns: minmax(0, 1fr); } dl.numbers { grid-template-columns: 1fr 1fr; } ol.marks li { grid-template-columns: 56px minmax(0, 1fr); } ol.marks li > :last-child { grid-column: 1 / -1; } }
`;
