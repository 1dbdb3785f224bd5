/** The report of drills: what was broken, how that is known, how it healed, how long it took, what was lost. */

import type { Mark, SeriesName } from "../recording/recording.ts";
import { type DrillResult, type DrillsResult, type DrillVerdict, PHASES, type PhaseName } from "../recording/result.ts";
import { type Band, type BandTone, chartStack } from "./charts.ts";
import { CURVE_STYLES, chartsOf, DRILL_CHARTS, largest, median, smallest, valuesWithin } from "./curves.ts";
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
import { type Html, html } from "./html.ts";
import { LazySections } from "./lazy-section.ts";
import { inShort } from "./log-summary.ts";
import {
  type Answer,
  factsSection,
  firstScreen,
  footer,
  ledgerSentence,
  ledgerTable,
  lossAnswer,
  markTable,
  type Status,
} from "./parts.ts";

export interface DrillsReportOptions {
  /** Way from the page to the project's folder, for links to runbooks; from outputs/runs/<id>/ when absent. */
  projectPath?: string;
  /** The page stands elsewhere than beside its result.json. */
  isElsewhere?: boolean;
}

export const PHASE_LABELS: Readonly<Record<PhaseName, string>> = {
  before: "Healthy before",
  fault: "Broken",
  healed: "Healed",
  proven: "Proven by traffic",
};
const BAND_OF: Readonly<Record<PhaseName, BandTone>> = {
  before: "before",
  fault: "fault",
  healed: "healed",
  proven: "proven",
};

const VERDICTS: Readonly<Record<DrillVerdict, { mood: Status; sign: string; words: string }>> = {
  passed: { mood: "good", sign: "✔", words: "passed" },
  failed: { mood: "bad", sign: "✖", words: "failed" },
  inconclusive: { mood: "doubt", sign: "?", words: "inconclusive" },
  interrupted: { mood: "doubt", sign: "■", words: "interrupted" },
};
/** From the best to the worst: of many repeats the worst one speaks. */
const BADNESS: readonly DrillVerdict[] = ["passed", "interrupted", "inconclusive", "failed"];

export const verdictBadge = (verdict: DrillVerdict): Html =>
  html`<span class="badge ${VERDICTS[verdict].mood}">${VERDICTS[verdict].sign} ${VERDICTS[verdict].words}</span>`;

/** Share of the budget that was used; without a measurement there is none. */
const shareOf = ({ recovery }: DrillResult): number => (recovery ? recovery.measured_ms / recovery.budget_ms : 0);

/** The repeat that looks worst: by verdict, then by the share of its budget. */
export function worstOf(repeats: readonly DrillResult[]): DrillResult {
  return repeats.toSorted(
    (a, b) => BADNESS.indexOf(b.verdict) - BADNESS.indexOf(a.verdict) || shareOf(b) - shareOf(a) || a.repeat - b.repeat,
  )[0]!;
}

/** Repeats of each drill together, in the order in which they first ran. */
export function byName(drills: readonly DrillResult[]): DrillResult[][] {
  return [...Map.groupBy(drills, ({ name }) => name).values()];
}

/** When the zero of a drill's axis is: the moment of the fault. */
export function faultTimeMs(drill: DrillResult): number {
  return (
    drill.recording.marks.find(({ kind }) => kind === "fault")?.timeMs ??
    drill.beats.find(({ name }) => name === "fault")?.startedAtMs ??
    drill.recording.startedAtMs
  );
}

/** The beats as stretches of time. */
export const phaseBands = (drill: DrillResult): Band[] =>
  drill.beats
    .toSorted((a, b) => a.startedAtMs - b.startedAtMs)
    .map(({ name, startedAtMs, endedAtMs }) => ({
      fromMs: startedAtMs,
      toMs: endedAtMs,
      label: name,
      tone: BAND_OF[name],
    }));

/** Marks with the proof of the effect, in case that the recording has none of it. */
function marksOf(drill: DrillResult): Mark[] {
  const marks = [...drill.recording.marks];
  if (drill.effect && !marks.some(({ kind }) => kind === "effect")) {
    marks.push({ timeMs: drill.effect.timeMs, kind: "effect", subject: drill.name, text: drill.effect.proof });
  }
  return marks.toSorted((a, b) => a.timeMs - b.timeMs);
}

/** Measured against its budget, as a bar and in words. */
export function recoveryBar(recovery: DrillResult["recovery"]): Html {
  if (!recovery) return html`<span class="soft">not measured</span>`;
  const { measured_ms, budget_ms } = recovery;
  const isOver = measured_ms > budget_ms;
  const scale = Math.max(measured_ms, budget_ms) * 1.02;
  const percent = (ms: number) => Number(((ms / scale) * 100).toFixed(2));
  const words = isOver
    ? `${formatMs(measured_ms)}, over the budget of ${formatMs(budget_ms)} by ${formatMs(measured_ms - budget_ms)}`
    : recovery.below
      ? `${recoveryTime(recovery)}: below what can be seen (of ${formatMs(budget_ms)})`
      : `${formatMs(measured_ms)} of ${formatMs(budget_ms)}`;
  return html`<div class="bar${isOver && " over"}" role="img" aria-label="recovery ${words}"><i style="width:${percent(measured_ms)}%"></i><b style="left:${percent(budget_ms)}%"></b></div><div class="bar-words${isOver && " bad-text"}">${isOver && "✖ "}${words.replaceAll(/(\d) (ms|s|min)\b/g, "$1\u00a0$2")}</div>`;
}

function verdictOf(result: DrillsResult): { mood: Status; verdict: string; because: string } {
  const { drills, facts } = result;
  const titlesOf = (verdict: DrillVerdict) => [
    ...new Set(drills.filter((drill) => drill.verdict === verdict).map(({ title }) => title)),
  ];
  const losing = drills.filter(({ ledger }) => (ledger?.lost ?? 0) > 0).map(({ title }) => title);
  const failed = [...new Set([...titlesOf("failed"), ...losing])];
  const undecided = [...titlesOf("inconclusive"), ...titlesOf("interrupted")];
  const count = plural(drills.length, "drill");
  if (drills.length === 0) return { mood: "doubt", verdict: "No drill was run", because: "There is nothing to judge." };
  if (failed.length > 0) {
    return {
      mood: "bad",
      verdict: `Failed: ${failed.length} of ${plural(byName(drills).length, "drill")}`,
      because: `${listed(failed)}.`,
    };
  }
  if (facts.interrupted || undecided.length > 0) {
    const why = undecided.length > 0 ? `Without a verdict: ${listed(undecided)}.` : "It was stopped before its end.";
    const verdict = facts.interrupted ? "Interrupted: no verdict on the whole" : "Inconclusive";
    return { mood: "doubt", verdict, because: why };
  }
  if (!result.passed) {
    return {
      mood: "bad",
      verdict: "Failed",
      because: "Each drill passed, yet the run as a whole says that it did not.",
    };
  }
  const kept = `${count} of ${plural(byName(drills).length, "kind")}: each fault had an effect that was seen, and each recovery kept its budget.`;
  // Nobody may read "nothing was lost" where nobody counted.
  return drills.every(({ ledger }) => ledger !== undefined && ledger.acknowledged > 0)
    ? { mood: "good", verdict: "Passed: it broke, it healed, nothing was lost", because: kept }
    : {
        mood: "good",
        verdict: "Passed: it broke and it healed",
        because: `${kept} Whether anything was lost was not accounted for in all of them.`,
      };
}

function passedAnswer(drills: readonly DrillResult[], mood: Status): Answer {
  const passed = drills.filter(({ verdict }) => verdict === "passed").length;
  const others = (["failed", "inconclusive", "interrupted"] as const)
    .map((verdict) => ({ verdict, count: drills.filter((drill) => drill.verdict === verdict).length }))
    .filter(({ count }) => count > 0)
    .map(({ verdict, count }) => `${formatCount(count)} ${VERDICTS[verdict].words}`);
  return {
    question: "Did it pass?",
    answer: `${formatCount(passed)} of ${formatCount(drills.length)}`,
    detail: others.length > 0 ? `${listed(others)}.` : "every drill passed",
    mood,
  };
}

function recoveryAnswer(drills: readonly DrillResult[]): Answer {
  const question = "How long to recover?";
  const measured = drills.filter((drill) => drill.recovery);
  if (measured.length === 0)
    return { question, answer: "Not measured", detail: "No recovery was timed.", mood: "doubt" };
  const slowest = measured.toSorted((a, b) => b.recovery!.measured_ms - a.recovery!.measured_ms)[0]!;
  const closest = measured.toSorted((a, b) => shareOf(b) - shareOf(a))[0]!;
  const over = measured.filter((drill) => shareOf(drill) > 1).length;
  const middle = median(measured.map(({ recovery }) => recovery!.measured_ms))!;
  const budget =
    over > 0
      ? `${plural(over, "budget")} exceeded`
      : `closest to its budget: “${closest.title}” (${Math.round(shareOf(closest) * 100)} %)`;
  return {
    question,
    answer: measured.length === 1 ? formatMs(middle) : `${formatMs(middle)} typical`,
    detail: `slowest ${formatMs(slowest.recovery!.measured_ms)} (“${slowest.title}”); ${budget}.`,
    mood: over > 0 ? "bad" : "good",
  };
}

const anchorOf = (name: string) => `drill-${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`;

function overview(groups: readonly DrillResult[][]): Html {
  return html`<div class="wide"><table><caption>A verdict for each repeat, and the slowest recovery against its budget</caption>
<thead><tr><th scope="col">drill</th><th scope="col">verdicts</th><th scope="col">recovery</th><th scope="col" class="number if-wide">acknowledged</th><th scope="col" class="number">lost</th></tr></thead>
<tbody>${groups.map((repeats) => {
    const slowest = repeats.toSorted((a, b) => shareOf(b) - shareOf(a))[0]!;
    const ledgers = repeats.flatMap(({ ledger }) => ledger ?? []);
    const sum = (key: "lost" | "acknowledged") => ledgers.reduce((total, ledger) => total + ledger[key], 0);
    return html`<tr><th scope="row"><a href="#${anchorOf(repeats[0]!.name)}">${repeats[0]!.title}</a></th><td><div class="chips">${repeats.map(({ verdict }) => verdictBadge(verdict))}</div></td><td>${recoveryBar(slowest.recovery)}</td><td class="number if-wide">${ledgers.length > 0 ? formatCount(sum("acknowledged")) : "–"}</td><td class="number${sum("lost") > 0 && " bad-text"}">${ledgers.length > 0 ? formatCount(sum("lost")) : "not known"}</td></tr>`;
  })}</tbody></table></div>`;
}

function beatList(drill: DrillResult): Html {
  const originMs = faultTimeMs(drill);
  return html`<ol class="beats" aria-label="The four beats">${PHASES.map((name) => {
    const beat = drill.beats.find((one) => one.name === name);
    if (!beat)
      return html`<li class="beat-none"><span class="beat-name">${PHASE_LABELS[name]}</span><span class="beat-time">did not come</span></li>`;
    const { startedAtMs, endedAtMs, detail } = beat;
    return html`<li class="beat-${name}"><span class="beat-name">${PHASE_LABELS[name]}</span><span class="beat-time">${formatOffset(startedAtMs - originMs)} · ${formatMs(endedAtMs - startedAtMs)} · ${formatClock(startedAtMs)} UTC</span>${detail}</li>`;
  })}</ol>`;
}

/** Rows of the table that compares before, during and after. */
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

/** Before, during and after in numbers: the middle of what was normal, the extremes of what was not. */
function beforeDuringAfter(drill: DrillResult): Html | null {
  const { recording, beats } = drill;
  const beatOf = (name: PhaseName) => beats.find((beat) => beat.name === name);
  const [before, fault, healed, proven] = PHASES.map(beatOf);
  if (!before || !fault) return null;
  const faultEndMs = healed?.endedAtMs ?? fault.endedAtMs;
  const rows = COMPARED.flatMap((name) => {
    const normal = median(valuesWithin(recording, name, before.startedAtMs, before.endedAtMs));
    const during = valuesWithin(recording, name, fault.startedAtMs, faultEndMs);
    // The end of the proof is what it came back to: its beginning still has the backlog.
    const after = proven ? valuesWithin(recording, name, proven.startedAtMs, proven.endedAtMs + 1) : [];
    const end = median(after.slice(Math.floor(after.length / 2)));
    if (normal === null && during.length === 0 && end === null) return [];
    const range =
      during.length === 0 ? "not measured" : `${formatNumber(smallest(during)!)} to ${formatNumber(largest(during)!)}`;
    const words = (value: number | null) => (value === null ? "not measured" : formatNumber(value));
    const { label, unit } = CURVE_STYLES[name];
    return [
      html`<tr><th scope="row">${label}, ${unit}</th><td>${words(normal)}</td><td>${range}</td><td>${words(end)}</td></tr>`,
    ];
  });
  return html`<div class="wide"><table class="numbers"><caption>Median before; lowest and highest from the fault until it was healed; median of the proof's second half</caption>
<thead><tr><th scope="col">measured</th><th scope="col">before</th><th scope="col">during</th><th scope="col">after</th></tr></thead><tbody>${rows}</tbody></table></div>`;
}

function operatorView(drill: DrillResult, projectPath: string): Html {
  const { commands, logLines, runbook } = drill;
  const originMs = faultTimeMs(drill);
  const terminal = (label: string, body: Html) =>
    html`<div class="terminal" tabindex="0" role="region" aria-label="${label}">${body}</div>`;
  return html`<h4>What an operator sees and does</h4>${
    runbook && html`<p>Runbook: <a href="${`${projectPath}/${runbook}`}">${runbook}</a></p>`
  }${
    commands.length > 0 &&
    terminal(
      `Commands and their output, ${drill.title}`,
      html`${commands.map(
        ({ timeMs, command, output }) =>
          html`<div class="command"><span class="when">${formatOffset(timeMs - originMs)}</span> <span class="prompt">$</span> ${command}</div><pre>${output.trimEnd() || "(no output)"}</pre>`,
      )}`,
    )
  }${
    logLines.length > 0 &&
    html`<p class="soft small">Log lines that matter, in short (whole in result.json):</p>${terminal(
      `Log lines, ${drill.title}`,
      html`<pre>${logLines.map(
        ({ timeMs, pod, line }, index) =>
          html`${index > 0 && "\n"}<span class="when">${formatOffset(timeMs - originMs)}</span> <span class="who">${pod}</span> ${inShort(line)}`,
      )}</pre>`,
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
      : html`<strong class="doubt-text">None was seen</strong>: whatever else was measured, this proves nothing.`
  }</dd><dt>Recovery</dt><dd>${recoveryBar(drill.recovery)}</dd>${
    drill.reasons.length > 0 &&
    html`<dt>Reasons</dt><dd>${drill.reasons.map((reason) => html`<div>${reason}</div>`)}</dd>`
  }</dl>
<h4>Timeline</h4>${beatList(drill)}
<h4>Before, during, after</h4>${chartStack({
    label: `Charts of ${drill.title}`,
    timesMs: recording.timesMs,
    marks,
    stages: phaseBands(drill),
    originMs,
    origin: "the fault",
    charts: chartsOf(recording, DRILL_CHARTS).map((one) => ({ ...one, heightPx: 110 })),
  })}${beforeDuringAfter(drill)}
<h4>Ledger</h4>${ledgerSentence(drill.ledger)}${drill.ledger && html`<details><summary>All counts</summary>${ledgerTable(drill.ledger)}</details>`}
${operatorView(drill, projectPath)}
<details><summary>${plural(marks.length, "event")} in the order of time</summary>${markTable(marks, originMs, "Since the fault")}</details>`;
}

/** The repeat that came out worst, and folded away and packed the others. */
function drillSection(repeats: readonly DrillResult[], projectPath: string, packed: LazySections): Html {
  const worst = worstOf(repeats);
  const others = repeats.filter((drill) => drill !== worst);
  const which =
    repeats.length > 1
      ? html`<p class="soft small">Shown is repeat ${worst.repeat} of ${repeats.length}, the one that came out worst.</p>`
      : null;
  const anchor = anchorOf(worst.name);
  return html`<section class="panel" aria-labelledby="${anchor}"><h3 id="${anchor}" style="margin-top:0">${worst.title} ${verdictBadge(worst.verdict)}</h3>${which}${drillBody(worst, projectPath)}${others.map(
    (drill) =>
      html`<details><summary>Repeat ${drill.repeat} ${verdictBadge(drill.verdict)}</summary>${packed.place(drillBody(drill, projectPath))}</details>`,
  )}</section>`;
}

/** The whole page. */
export function drillsReport(result: DrillsResult, options: DrillsReportOptions = {}): string {
  const projectPath = options.projectPath ?? "../../..";
  const { drills, facts } = result;
  const groups = byName(drills);
  const { mood, verdict, because } = verdictOf(result);
  const packed = new LazySections();
  const body = html`<main>${firstScreen({
    kind: "Resilience drills",
    facts,
    mood,
    verdict,
    because,
    answers: [passedAnswer(drills, mood), lossAnswer(drills.map(({ ledger }) => ledger)), recoveryAnswer(drills)],
  })}
<section aria-labelledby="overview"><h2 id="overview">All drills</h2>${overview(groups)}</section>
<section aria-labelledby="each"><h2 id="each">Drill by drill</h2>${groups.map((repeats) => drillSection(repeats, projectPath, packed))}</section>
${factsSection(facts)}${footer(facts, !options.isElsewhere)}</main>${packed.element()}`;
  return documentOf({ title: `Resilience drills ${facts.id}`, body });
}
