/** The report of a run of drills: verdicts, recovery times against their budgets, losses, and each drill in detail. */

import { largest, type Mark, median, type SeriesName, smallest, valuesWithin } from "../recording/recording.ts";
import { type DrillResult, type DrillsResult, type DrillVerdict, PHASES } from "../recording/result.ts";
import { type Band, chartStack } from "./charts.ts";
import { CURVE_STYLES, chartsOf, DRILL_CHARTS } from "./curves.ts";
import { documentOf } from "./document.ts";
import {
  formatClock,
  formatCount,
  formatMs,
  formatNumber,
  formatOffset,
  listed,
  plural,
  recoveryTime,
} from "./format.ts";
import { type Html, html, type Piece, raw } from "./html.ts";
import { LazySections } from "./lazy-section.ts";
import {
  type Answer,
  commandOutput,
  factsSection,
  firstScreen,
  footer,
  ledgerSentence,
  ledgerTable,
  logText,
  lossAnswer,
  markTable,
  phaseList,
  type Status,
} from "./parts.ts";

export interface DrillsReportOptions {
  /** The page is the copy in outputs/: not beside its result.json, and another path leads to the runbooks. */
  isKept?: boolean;
}

const VERDICTS: Readonly<Record<DrillVerdict, { status: Status; sign: string }>> = {
  passed: { status: "good", sign: "✔" },
  failed: { status: "bad", sign: "✖" },
  inconclusive: { status: "doubt", sign: "?" },
  interrupted: { status: "doubt", sign: "■" },
};
const DRILL_CHART_HEIGHT_PX = 110;
/** From the best to the worst: the worst repeat of a drill is shown first. */
const BADNESS: readonly DrillVerdict[] = ["passed", "interrupted", "inconclusive", "failed"];

/** @param count of repeats with that verdict. */
export const verdictBadge = (verdict: DrillVerdict, count = 1): Html =>
  html`<span class="badge ${VERDICTS[verdict].status}">${VERDICTS[verdict].sign} ${count > 1 && `${count} × `}${verdict}</span>`;

/** Used share of the recovery budget; 0 without a measurement. */
const shareOf = ({ recovery }: DrillResult): number => (recovery ? recovery.measured_ms / recovery.budget_ms : 0);

/** The worst repeat: by verdict, then by the used share of its budget. */
export function worstOf(repeats: readonly DrillResult[]): DrillResult {
  return repeats.toSorted(
    (a, b) => BADNESS.indexOf(b.verdict) - BADNESS.indexOf(a.verdict) || shareOf(b) - shareOf(a) || a.repeat - b.repeat,
  )[0]!;
}

/** The repeats of each drill together, in the order of the first runs. */
export function byName(drills: readonly DrillResult[]): DrillResult[][] {
  return [...Map.groupBy(drills, ({ name }) => name).values()];
}

/** Zero of a drill's time axis: the moment of the fault. */
export function faultTimeMs(drill: DrillResult): number {
  return (
    drill.recording.marks.find(({ kind }) => kind === "fault")?.timeMs ??
    drill.beats.find(({ name }) => name === "fault")?.startedAtMs ??
    drill.recording.startedAtMs
  );
}

const phaseBands = (drill: DrillResult): Band[] =>
  drill.beats
    .toSorted((a, b) => a.startedAtMs - b.startedAtMs)
    .map(({ name, startedAtMs, endedAtMs }) => ({ fromMs: startedAtMs, toMs: endedAtMs, label: name, tone: name }));

/** Marks of the recording; that of the effect is added where it is missing. */
function marksOf(drill: DrillResult): Mark[] {
  const marks = [...drill.recording.marks];
  if (drill.effect && !marks.some(({ kind }) => kind === "effect")) {
    marks.push({ timeMs: drill.effect.timeMs, kind: "effect", subject: drill.name, text: drill.effect.proof });
  }
  return marks.toSorted((a, b) => a.timeMs - b.timeMs);
}

const share = (ms: number, scale: number) => Number(((ms / scale) * 100).toFixed(2));

/** A recovery time against its budget, as a bar and as text. @param isShort without the amount over the budget. */
export function recoveryBar(recovery: DrillResult["recovery"], isShort = false): Html {
  if (!recovery) return html`<span class="soft">not measured</span>`;
  const { measured_ms, budget_ms, below } = recovery;
  const isOver = measured_ms > budget_ms;
  const scale = Math.max(measured_ms, budget_ms) * 1.02;
  const label =
    isOver && !isShort
      ? `${formatMs(measured_ms)}, over the budget of ${formatMs(budget_ms)} by ${formatMs(measured_ms - budget_ms)}`
      : below && !isShort
        ? `${recoveryTime(recovery)}: no outage was measurable (budget ${formatMs(budget_ms)})`
        : `${recoveryTime(recovery)} of ${formatMs(budget_ms)}`;
  return html`<div class="bar${isOver && " over"}" role="img" aria-label="recovery ${label}"><i style="width:${share(measured_ms, scale)}%"></i><b style="left:${share(budget_ms, scale)}%"></b></div><div class="bar-label${isOver && " bad-text"}">${isOver && "✖ "}${label.replaceAll(/(\d) (ms|s|min)\b/g, "$1\u00a0$2")}</div>`;
}

const anchorOf = (name: string) => `drill-${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`;

/** Drills by their titles, each a link to its section: "A, B and C". */
function linksTo(drills: readonly DrillResult[]): Html {
  const links = byName(drills)
    .map(([first]) => first!)
    .map(({ name, title }) => html`<a href="#${anchorOf(name)}">${title}</a>`);
  return html`${links.map((link, index) => html`${index > 0 && (index === links.length - 1 ? " and " : ", ")}${link}`)}`;
}

function verdictOf(result: DrillsResult): { status: Status; verdict: string; because: Piece } {
  const { drills, facts } = result;
  const failed = drills.filter(({ verdict, ledger }) => verdict === "failed" || (ledger?.lost ?? 0) > 0);
  const undecided = drills.filter(({ verdict }) => verdict === "inconclusive" || verdict === "interrupted");
  const kinds = byName(drills).length;
  if (drills.length === 0) return { status: "doubt", verdict: "No drill was run", because: "Nothing to judge." };
  if (failed.length > 0) {
    const verdict = `Failed: ${byName(failed).length} of ${plural(kinds, "drill")}`;
    return { status: "bad", verdict, because: html`${linksTo(failed)}.` };
  }
  if (facts.interrupted || undecided.length > 0) {
    return {
      status: "doubt",
      verdict: facts.interrupted ? "Interrupted: no verdict" : "Inconclusive",
      because:
        undecided.length > 0 ? html`Without a verdict: ${linksTo(undecided)}.` : "The run was stopped before its end.",
    };
  }
  if (!result.passed) {
    return {
      status: "bad",
      verdict: "Failed",
      because: "Each drill passed, but the record of the run says “not passed”.",
    };
  }
  const kept = `${plural(kinds, "drill")}, ${plural(drills.length, "run")}: every fault had a measured effect, every recovery kept its budget.`;
  // "Nothing was lost" needs a count in every drill.
  const isCounted = drills.every(({ ledger }) => ledger !== undefined && ledger.acknowledged > 0);
  return isCounted
    ? { status: "good", verdict: "Passed: every drill recovered, nothing was lost", because: kept }
    : {
        status: "good",
        verdict: "Passed: every drill recovered",
        because: `${kept} Losses were not counted in all of them.`,
      };
}

function passedAnswer(drills: readonly DrillResult[], status: Status): Answer {
  const passed = drills.filter(({ verdict }) => verdict === "passed").length;
  const others = (["failed", "inconclusive", "interrupted"] as const)
    .map((verdict) => ({ verdict, count: drills.filter((drill) => drill.verdict === verdict).length }))
    .filter(({ count }) => count > 0)
    .map(({ verdict, count }) => `${formatCount(count)} ${verdict}`);
  return {
    question: "Did it pass?",
    answer: `${formatCount(passed)} of ${formatCount(drills.length)}`,
    detail: others.length > 0 ? `${listed(others)}.` : "every run of every drill passed",
    status,
  };
}

function recoveryAnswer(drills: readonly DrillResult[]): Answer {
  const question = "How long to recover?";
  const measured = drills.filter((drill) => drill.recovery);
  if (measured.length === 0)
    return { question, answer: "Not measured", detail: "No recovery was timed.", status: "doubt" };
  const slowest = measured.toSorted((a, b) => b.recovery!.measured_ms - a.recovery!.measured_ms)[0]!;
  const closest = measured.toSorted((a, b) => shareOf(b) - shareOf(a))[0]!;
  const over = measured.filter((drill) => shareOf(drill) > 1).length;
  const middle = median(measured.map(({ recovery }) => recovery!.measured_ms))!;
  const used = `${Math.round(shareOf(closest) * 100)} %`;
  const budget = over > 0 ? `${formatCount(over)} over budget` : `closest to its budget: “${closest.title}” (${used})`;
  return {
    question,
    answer: measured.length === 1 ? formatMs(middle) : `${formatMs(middle)} typical`,
    detail:
      measured.length === 1
        ? `${used} of its budget of ${formatMs(slowest.recovery!.budget_ms)}.`
        : `slowest ${formatMs(slowest.recovery!.measured_ms)} (“${slowest.title}”); ${budget}.`,
    status: over > 0 ? "bad" : "good",
  };
}

function phasesOf(drill: DrillResult): Html {
  const originMs = faultTimeMs(drill);
  return phaseList((wanted) => {
    const phase = drill.beats.find(({ name }) => name === wanted);
    if (!phase) return undefined;
    const { startedAtMs, endedAtMs, detail } = phase;
    const time = `${formatOffset(startedAtMs - originMs)} · ${formatMs(endedAtMs - startedAtMs)} · ${formatClock(startedAtMs)} UTC`;
    return { time, detail };
  });
}

const COMPARED: readonly SeriesName[] = [
  "acknowledged_events_per_second",
  "stored_events_per_second",
  "failed_events_per_second",
  "dead_letters_per_second",
  "lag_events",
  "freshness_seconds",
  "slowest_freshness_seconds",
  "e2e_p99_ms",
  "producer_replicas_ready",
  "processor_replicas_ready",
  "under_replicated_partitions",
];

/** Before, during and after in numbers: the median of normal operation, the extremes of the fault. */
function beforeDuringAfter(drill: DrillResult): Html | null {
  const { recording, beats: phases } = drill;
  const [before, fault, healed, proven] = PHASES.map((name) => phases.find((phase) => phase.name === name));
  if (!before || !fault) return null;
  const faultEndMs = healed?.endedAtMs ?? fault.endedAtMs;
  const rows = COMPARED.flatMap((name) => {
    const normal = median(valuesWithin(recording, name, before.startedAtMs, before.endedAtMs));
    const during = valuesWithin(recording, name, fault.startedAtMs, faultEndMs);
    // The second half of the last phase: its beginning still has the backlog.
    const after = proven ? valuesWithin(recording, name, proven.startedAtMs, proven.endedAtMs + 1) : [];
    const end = median(after.slice(Math.floor(after.length / 2)));
    if (normal === null && during.length === 0 && end === null) return [];
    const range =
      during.length === 0 ? "not measured" : `${formatNumber(smallest(during)!)} to ${formatNumber(largest(during)!)}`;
    const cell = (value: number | null) => (value === null ? "not measured" : formatNumber(value));
    const { label, unit } = CURVE_STYLES[name];
    return [
      html`<tr><th scope="row">${label}, ${unit}</th><td>${cell(normal)}</td><td>${range}</td><td>${cell(end)}</td></tr>`,
    ];
  });
  return html`<div class="wide"><table class="numbers"><caption>Before: median. During: lowest and highest from the fault until it healed. After: median of the second half of the last phase.</caption>
<thead><tr><th scope="col">measured</th><th scope="col">before</th><th scope="col">during</th><th scope="col">after</th></tr></thead><tbody>${rows}</tbody></table></div>`;
}

function operatorView(drill: DrillResult, projectPath: string): Html {
  const { commands, logLines, runbook } = drill;
  const originMs = faultTimeMs(drill);
  const terminal = (label: string, body: Html) =>
    html`<div class="terminal" tabindex="0" role="region" aria-label="${label}">${body}</div>`;
  return html`<h4>Operator’s view</h4>${
    runbook && html`<p>Runbook: <a href="${`${projectPath}/${runbook}`}">${runbook}</a></p>`
  }${
    commands.length > 0 &&
    terminal(
      `Commands and their output, ${drill.title}`,
      html`${commands.map((command) => commandOutput(command, originMs))}`,
    )
  }${
    logLines.length > 0 &&
    html`<p class="soft small">Warnings and errors in the logs, shortened (complete in result.json):</p>${terminal(
      `Log lines, ${drill.title}`,
      logText(logLines, originMs),
    )}`
  }${commands.length === 0 && logLines.length === 0 && html`<p class="soft">No command and no log line was recorded.</p>`}`;
}

function drillBody(drill: DrillResult, projectPath: string): Html {
  const marks = marksOf(drill);
  const originMs = faultTimeMs(drill);
  const { recording, effect } = drill;
  return html`<dl class="facts"><dt>Hypothesis</dt><dd>${drill.hypothesis}</dd><dt>Fault</dt><dd>${drill.fault}</dd><dt>Proof of effect</dt><dd>${
    effect
      ? html`${effect.proof} <span class="soft">(${formatOffset(effect.timeMs - originMs)}, ${formatClock(effect.timeMs)} UTC)</span>`
      : html`<strong class="doubt-text">No effect was measured</strong>: the drill proves nothing.`
  }</dd><dt>Recovery</dt><dd>${recoveryBar(drill.recovery)}</dd>${
    drill.reasons.length > 0 &&
    html`<dt>Reasons</dt><dd>${drill.reasons.map((reason) => html`<div>${reason}</div>`)}</dd>`
  }</dl>
<h4>Phases</h4>${phasesOf(drill)}
<h4>Before, during, after</h4>${chartStack({
    label: `Charts of ${drill.title}`,
    timesMs: recording.timesMs,
    marks,
    bands: phaseBands(drill),
    originMs,
    origin: "the fault",
    charts: chartsOf(recording, DRILL_CHARTS).map((one) => ({ ...one, heightPx: DRILL_CHART_HEIGHT_PX })),
  })}${beforeDuringAfter(drill)}
<h4>Ledger</h4>${ledgerSentence(drill.ledger)}${drill.ledger && html`<details><summary>All counts</summary>${ledgerTable(drill.ledger)}</details>`}
${operatorView(drill, projectPath)}
<details><summary>${plural(marks.length, "event")} in order of time</summary>${markTable(marks, originMs, "Times since the fault")}</details>`;
}

/** Verdicts of the repeats, worst first: "1 × failed, 2 × passed". */
function verdictBadges(repeats: readonly DrillResult[]): Html {
  const counts = BADNESS.toReversed().map((verdict) => ({
    verdict,
    count: repeats.filter((drill) => drill.verdict === verdict).length,
  }));
  return html`<span class="chips">${counts.filter(({ count }) => count > 0).map(({ verdict, count }) => verdictBadge(verdict, count))}</span>`;
}

/** One drill: a row of results that opens to the worst repeat; the other repeats are folded and compressed. */
function drillSection(repeats: readonly DrillResult[], projectPath: string, lazy: LazySections, isOpen: boolean): Html {
  const worst = worstOf(repeats);
  const others = repeats.filter((drill) => drill !== worst);
  const slowest = repeats.toSorted((a, b) => shareOf(b) - shareOf(a))[0]!;
  const ledgers = repeats.flatMap(({ ledger }) => ledger ?? []);
  const sum = (key: "lost" | "acknowledged") => ledgers.reduce((total, ledger) => total + ledger[key], 0);
  const isCounted = ledgers.length > 0;
  return html`<details class="drill"${isOpen && raw(" open")}><summary><h3>${worst.title}</h3>${verdictBadges(repeats)}<span class="recovery">${recoveryBar(slowest.recovery, true)}</span><span class="count if-wide">${isCounted ? formatCount(sum("acknowledged")) : "–"}</span><span class="count lost${sum("lost") > 0 && " bad-text"}">${isCounted ? formatCount(sum("lost")) : "?"}</span></summary>
<div class="drill-body" id="${anchorOf(worst.name)}">${
    repeats.length > 1 &&
    html`<p class="soft small">Shown is repeat ${worst.repeat} of ${repeats.length}, the worst one.</p>`
  }${drillBody(worst, projectPath)}${others.map(
    (drill) =>
      html`<details><summary>Repeat ${drill.repeat} ${verdictBadge(drill.verdict)}</summary>${lazy.add(drillBody(drill, projectPath))}</details>`,
  )}</div></details>`;
}

function drillList(groups: readonly DrillResult[][], projectPath: string, lazy: LazySections): Html {
  return html`<div class="drills"><div class="drills-head" aria-hidden="true"><span></span><span>drill (open for details)</span><span>verdict</span><span>slowest recovery, budget</span><span class="count if-wide">acknowledged</span><span class="count">lost</span></div>
${groups.map((repeats) => drillSection(repeats, projectPath, lazy, groups.length === 1))}</div>`;
}

export function drillsReport(result: DrillsResult, options: DrillsReportOptions = {}): string {
  const projectPath = options.isKept ? ".." : "../../..";
  const { drills, facts } = result;
  const { status, verdict, because } = verdictOf(result);
  const lazy = new LazySections();
  const body = html`<main>${firstScreen({
    kind: "Resilience drills",
    facts,
    status,
    verdict,
    because,
    answers: [passedAnswer(drills, status), lossAnswer(drills.map(({ ledger }) => ledger)), recoveryAnswer(drills)],
  })}
<section aria-labelledby="drills"><h2 id="drills">Drills</h2>${drillList(byName(drills), projectPath, lazy)}</section>
${factsSection(facts)}${footer(facts, !options.isKept)}</main>${lazy.element()}`;
  return documentOf({ title: `Resilience drills ${facts.id}`, body });
}
