/** Parts that the reports of load tests and of drills share. */

import type { Mark } from "../recording/recording.ts";
import {
  type Ledger,
  type LogLine,
  type OperatorCommand,
  PHASES,
  type PhaseName,
  type RunFacts,
} from "../recording/result.ts";
import { MARK_SIGNS } from "./charts.ts";
import { formatClock, formatCount, formatGib, formatMoment, formatMs, formatOffset, plural } from "./format.ts";
import { type Html, html, type Piece } from "./html.ts";
import { summarizeLine } from "./log-summary.ts";

/** Colour of a verdict; a text is always beside it. */
export type Status = "good" | "bad" | "doubt";

export interface Answer {
  question: string;
  answer: string;
  detail: Piece;
  status?: Status;
}

export interface FirstScreen {
  /** "Resilience drills": what kind of page this is. */
  kind: string;
  facts: RunFacts;
  status: Status;
  /** The verdict as a sentence. */
  verdict: string;
  because: Piece;
  answers: readonly Answer[];
}

/** Verdict, and the three questions of a reader: passed? lost? how long? */
export function firstScreen(screen: FirstScreen): Html {
  const { facts } = screen;
  const startedMs = Date.parse(facts.startedAt);
  const endedMs = Date.parse(facts.endedAt);
  return html`<header class="verdict ${screen.status}">
<p class="what">${screen.kind} · run <span class="mono">${facts.id}</span></p>
<h1>${screen.verdict}</h1>
<p>${screen.because}</p>
</header>
<div class="answers">${screen.answers.map(
    ({ question, answer, detail, status }) => html`<section class="answer"><h2>${question}</h2>
<p class="big${status ? ` ${status}-text` : ""}">${answer}</p><p>${detail}</p></section>`,
  )}</div>
<p class="soft small">${formatMoment(startedMs)}, ${formatMs(endedMs - startedMs)} long, ${facts.events === "v2" && "events of version 2, "}on ${clusterLabel(facts)}.</p>`;
}

function clusterLabel({ cluster }: RunFacts): string {
  const nodes = cluster.nodes.map(({ cpus, memoryBytes }) => `${plural(cpus, "core")}, ${formatGib(memoryBytes)}`);
  const size = nodes.length === 0 ? "" : `; ${plural(nodes.length, "node")}: ${[...new Set(nodes)].join(" / ")}`;
  return `cluster ${cluster.context} (Kubernetes ${cluster.kubernetes}${size})`;
}

/** How many acknowledged events were lost; unknown where no ledger was taken. */
export function lossAnswer(ledgers: readonly (Ledger | undefined)[]): Answer {
  const question = "Was anything lost?";
  const audited = ledgers.filter((ledger) => ledger !== undefined);
  const missing = ledgers.length - audited.length;
  const sum = (pick: (ledger: Ledger) => number) => audited.reduce((total, ledger) => total + pick(ledger), 0);
  const lost = sum(({ lost }) => lost);
  const acknowledged = sum((ledger) => ledger.acknowledged);
  const duplicated = sum((ledger) => ledger.duplicated);
  const twice = duplicated > 0 ? `, ${formatCount(duplicated)} stored twice` : ", none stored twice";
  const unaudited = missing > 0 ? ` ${plural(missing, "drill run")} without a count.` : "";
  if (audited.length === 0) {
    return { question, answer: "Not known", detail: "No ledger was taken.", status: "doubt" };
  }
  if (acknowledged === 0) {
    return { question, answer: "Not known", detail: `No event was acknowledged.${unaudited}`, status: "doubt" };
  }
  if (lost > 0) {
    return {
      question,
      answer: `${formatCount(lost)} lost`,
      detail: `of ${plural(acknowledged, "acknowledged event")}${twice}.${unaudited}`,
      status: "bad",
    };
  }
  return {
    question,
    answer: missing > 0 ? "Nothing seen" : "Nothing",
    detail: `${plural(acknowledged, "acknowledged event")}, each found by its identity${twice}.${unaudited}`,
    status: missing > 0 ? "doubt" : duplicated > 0 ? undefined : "good",
  };
}

const LEDGER_ROWS: readonly (readonly [keyof Ledger, string, string])[] = [
  ["offered", "Offered", "sent to a producer"],
  ["acknowledged", "Acknowledged", "confirmed by Kafka (acks=all): must be stored"],
  ["failed", "Failed", "rejected by Kafka or by the producer: need not be stored"],
  ["unknown", "Unknown", "no response: may be stored or not"],
  ["stored", "Stored", "found in InfluxDB, each by run, conveyor and sequence number"],
  ["dead_lettered", "Dead-lettered", "in the dead-letter topic with the reason, not lost"],
  ["lost", "Lost", "acknowledged, and found neither in InfluxDB nor in the dead-letter topic"],
  ["duplicated", "Stored twice", "one identity, more than one stored event"],
];

export function ledgerTable(ledger: Ledger): Html {
  return html`<div class="wide"><table><caption>Every event by its identity, from the sender to the database</caption>
<thead><tr><th scope="col">events</th><th scope="col" class="number">count</th><th scope="col">meaning</th></tr></thead>
<tbody>${LEDGER_ROWS.map(([key, name, meaning]) => {
    const isBad = (key === "lost" || key === "duplicated") && ledger[key] > 0;
    return html`<tr><th scope="row">${name}</th><td class="number${isBad ? " bad-text" : ""}">${formatCount(ledger[key])}</td><td>${meaning}</td></tr>`;
  })}</tbody></table></div>`;
}

export function ledgerSentence(ledger: Ledger | undefined): Html {
  if (!ledger) return html`<p><span class="badge doubt">? not counted</span> No ledger was taken.</p>`;
  const { lost, duplicated, acknowledged, dead_lettered, unknown } = ledger;
  const isClean = lost === 0 && duplicated === 0;
  const more = [
    dead_lettered > 0 && `${formatCount(dead_lettered)} dead-lettered`,
    unknown > 0 && `${formatCount(unknown)} without a response`,
  ].filter((part) => part !== false);
  return html`<p><span class="badge ${isClean ? "good" : "bad"}">${isClean ? "✔ nothing lost" : lost > 0 ? "✖ events lost" : "✖ stored twice"}</span> ${formatCount(
    lost,
  )} of ${plural(acknowledged, "acknowledged event")} lost, ${formatCount(duplicated)} stored twice${more.length > 0 && `; ${more.join(", ")}`}.</p>`;
}

/** All marks as a table; charts show them as lines. */
export function markTable(marks: readonly Mark[], originMs: number, caption: string): Html {
  if (marks.length === 0) return html`<p class="soft">No event was recorded.</p>`;
  return html`<div class="wide"><table class="marks"><caption>${caption}</caption>
<thead><tr><th scope="col">time</th><th scope="col">UTC</th><th scope="col">kind</th><th scope="col">object</th><th scope="col">event</th></tr></thead>
<tbody>${marks
    .toSorted((a, b) => a.timeMs - b.timeMs)
    .map(
      (mark) =>
        html`<tr><td>${formatOffset(mark.timeMs - originMs)}</td><td>${formatClock(mark.timeMs)}</td><td>${MARK_SIGNS[mark.kind]} ${mark.kind}</td><td>${mark.subject}</td><td>${mark.text}</td></tr>`,
    )}</tbody></table></div>`;
}

const PHASE_LABELS: Readonly<Record<PhaseName, string>> = {
  before: "Healthy before",
  fault: "Broken",
  healed: "Healed",
  proven: "Proven by traffic",
};

/** The four phases of a drill. @param phaseOf the time of a phase and its detail; undefined: it was not reached. */
export const phaseList = (
  phaseOf: (name: PhaseName) => { time: string; detail?: string; isNow?: boolean } | undefined,
): Html =>
  html`<ol class="phases" aria-label="The four phases">${PHASES.map((name) => {
    const phase = phaseOf(name);
    return html`<li class="phase-${phase ? name : "none"}"><span class="phase-name">${phase?.isNow && "▶ "}${PHASE_LABELS[name]}</span><span class="phase-time">${phase?.time ?? "not reached"}</span>${phase?.detail}</li>`;
  })}</ol>`;

export const commandOutput = ({ timeMs, command, output }: OperatorCommand, originMs: number): Html =>
  html`<div class="command"><span class="when">${formatOffset(timeMs - originMs)}</span> <span class="prompt">$</span> ${command}</div><pre>${output.trimEnd() || "(no output)"}</pre>`;

/** Log lines, shortened, for a terminal. */
export const logText = (lines: readonly LogLine[], originMs: number): Html =>
  html`<pre>${lines.map(
    ({ timeMs, pod, line }, index) =>
      html`${index > 0 && "\n"}<span class="when">${formatOffset(timeMs - originMs)}</span> <span class="who">${pod}</span> ${summarizeLine(line)}`,
  )}</pre>`;

/** Time, cluster, versions and images of the run. */
export function factsSection(facts: RunFacts): Html {
  const pairs = (title: string, values: Readonly<Record<string, string>>) =>
    Object.keys(values).length > 0 &&
    html`<h3>${title}</h3><dl class="facts">${Object.entries(values).map(
      ([name, value]) => html`<dt>${name}</dt><dd class="mono">${value}</dd>`,
    )}</dl>`;
  return html`<section aria-labelledby="facts"><h2 id="facts">Environment</h2>
<dl class="facts"><dt>started</dt><dd>${formatMoment(Date.parse(facts.startedAt))}</dd><dt>ended</dt><dd>${formatMoment(Date.parse(facts.endedAt))}${facts.interrupted && ", interrupted"}</dd><dt>cluster</dt><dd>${clusterLabel(facts)}</dd></dl>
<details><summary>Versions and images</summary>${pairs("Versions", facts.versions)}${pairs("Images", facts.images)}</details></section>`;
}

/** The source of the numbers. @param isBesideRecord the page is in the run's folder; a link works only there. */
export const footer = (facts: RunFacts, isBesideRecord = true): Html =>
  html`<footer>Made only from the record of run <span class="mono">${facts.id}</span>: ${
    isBesideRecord
      ? html`<a href="result.json">result.json</a> beside this page`
      : html`<span class="mono">outputs/runs/${facts.id}/result.json</span>`
  }. A gap in a chart means “not measured”.</footer>`;
