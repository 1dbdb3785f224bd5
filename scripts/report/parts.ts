/** What the reports of load tests and of drills have in common. */

import type { Mark } from "../recording/recording.ts";
import type { Ledger, RunFacts } from "../recording/result.ts";
import { MARK_LABELS, MARK_SIGNS } from "./charts.ts";
import { formatClock, formatCount, formatGib, formatMoment, formatMs, formatOffset, plural } from "./format.ts";
import { type Html, html, type Piece } from "./html.ts";

/** Colours of a judgement; words always stand beside them. */
export type Status = "good" | "bad" | "doubt";

export interface Answer {
  question: string;
  answer: string;
  detail: Piece;
  mood?: Status;
}

export interface FirstScreen {
  /** "Resilience drills": what kind of page this is. */
  kind: string;
  facts: RunFacts;
  mood: Status;
  /** The verdict as a sentence. */
  verdict: string;
  because: Piece;
  answers: readonly Answer[];
}

/** What a person wants to know first: passed? lost? how long? */
export function firstScreen(screen: FirstScreen): Html {
  const { facts } = screen;
  const startedMs = Date.parse(facts.startedAt);
  const endedMs = Date.parse(facts.endedAt);
  return html`<header class="verdict ${screen.mood}">
<p class="what">${screen.kind} · run <span class="mono">${facts.id}</span></p>
<h1>${screen.verdict}</h1>
<p>${screen.because}</p>
</header>
<div class="answers">${screen.answers.map(
    ({ question, answer, detail, mood }) => html`<section class="answer"><h2>${question}</h2>
<p class="big${mood ? ` ${mood}-text` : ""}">${answer}</p><p>${detail}</p></section>`,
  )}</div>
<p class="soft small">${formatMoment(startedMs)}, ${formatMs(endedMs - startedMs)} long, on ${clusterWords(facts)}.</p>`;
}

function clusterWords({ cluster }: RunFacts): string {
  const nodes = cluster.nodes.map(({ cpus, memoryBytes }) => `${plural(cpus, "core")}, ${formatGib(memoryBytes)}`);
  const size = nodes.length === 0 ? "" : `; ${plural(nodes.length, "node")}: ${[...new Set(nodes)].join(" / ")}`;
  return `cluster ${cluster.context} (Kubernetes ${cluster.kubernetes}${size})`;
}

/** "lost" in words; a run that nobody audited says so. */
export function lossAnswer(ledgers: readonly (Ledger | undefined)[]): Answer {
  const question = "Was anything lost?";
  const audited = ledgers.filter((ledger) => ledger !== undefined);
  const missing = ledgers.length - audited.length;
  const sum = (pick: (ledger: Ledger) => number) => audited.reduce((total, ledger) => total + pick(ledger), 0);
  const lost = sum(({ lost }) => lost);
  const acknowledged = sum((ledger) => ledger.acknowledged);
  const duplicated = sum((ledger) => ledger.duplicated);
  const twice = duplicated > 0 ? `, ${formatCount(duplicated)} stored twice` : ", none stored twice";
  const unaudited = missing > 0 ? ` ${formatCount(missing)} not accounted for.` : "";
  if (audited.length === 0) {
    return { question, answer: "Not known", detail: "No ledger was taken.", mood: "doubt" };
  }
  if (acknowledged === 0) {
    return { question, answer: "Not known", detail: `No event was acknowledged.${unaudited}`, mood: "doubt" };
  }
  if (lost > 0) {
    return {
      question,
      answer: `${formatCount(lost)} lost`,
      detail: `of ${plural(acknowledged, "acknowledged event")}${twice}.${unaudited}`,
      mood: "bad",
    };
  }
  return {
    question,
    answer: missing > 0 ? "Nothing seen" : "Nothing",
    detail: `${plural(acknowledged, "acknowledged event")}, each found by its identity${twice}.${unaudited}`,
    mood: missing > 0 ? "doubt" : duplicated > 0 ? undefined : "good",
  };
}

const LEDGER_ROWS: readonly (readonly [keyof Ledger, string, string])[] = [
  ["offered", "Offered", "handed to a producer"],
  ["acknowledged", "Acknowledged", "Kafka said it keeps them (acks=all): these must arrive"],
  ["failed", "Failed", "Kafka or the producer said no: these need not arrive"],
  ["unknown", "Unknown", "no answer came: these may have arrived or not"],
  ["stored", "Stored", "found in InfluxDB, each by run, conveyor and sequence number"],
  ["dead_lettered", "Dead-lettered", "set aside with the reason, not lost"],
  ["lost", "Lost", "acknowledged, and found nowhere"],
  ["duplicated", "Stored twice", "one identity, more than one stored event"],
];

/** Counts by identity, with what each of them means. */
export function ledgerTable(ledger: Ledger): Html {
  return html`<div class="wide"><table><caption>Every event by its identity, from what was offered to what was found</caption>
<thead><tr><th scope="col">events</th><th scope="col" class="number">count</th><th scope="col">meaning</th></tr></thead>
<tbody>${LEDGER_ROWS.map(([key, name, meaning]) => {
    const isBad = (key === "lost" || key === "duplicated") && ledger[key] > 0;
    return html`<tr><th scope="row">${name}</th><td class="number${isBad ? " bad-text" : ""}">${formatCount(ledger[key])}</td><td>${meaning}</td></tr>`;
  })}</tbody></table></div>`;
}

/** The ledger as one sentence with its judgement. */
export function ledgerSentence(ledger: Ledger | undefined): Html {
  if (!ledger) return html`<p><span class="badge doubt">? not accounted for</span> No ledger was taken.</p>`;
  const { lost, duplicated, acknowledged, dead_lettered, unknown } = ledger;
  const isClean = lost === 0 && duplicated === 0;
  const more = [
    dead_lettered > 0 && `${formatCount(dead_lettered)} set aside as dead letters`,
    unknown > 0 && `${formatCount(unknown)} more whose answer never came`,
  ].filter((words) => words !== false);
  return html`<p><span class="badge ${isClean ? "good" : "bad"}">${isClean ? "✔ all there" : "✖ not all right"}</span> ${formatCount(
    lost,
  )} of ${plural(acknowledged, "acknowledged event")} lost, ${formatCount(duplicated)} stored twice${more.length > 0 && `; ${more.join(", ")}`}.</p>`;
}

/** All marks as a table; the charts show them as lines. */
export function markTable(marks: readonly Mark[], originMs: number, caption: string): Html {
  if (marks.length === 0) return html`<p class="soft">No event was seen.</p>`;
  return html`<div class="wide"><table class="marks"><caption>${caption}</caption>
<thead><tr><th scope="col">since</th><th scope="col">UTC</th><th scope="col">what</th><th scope="col">where</th><th scope="col">seen</th></tr></thead>
<tbody>${marks
    .toSorted((a, b) => a.timeMs - b.timeMs)
    .map(
      (mark) =>
        html`<tr><td>${formatOffset(mark.timeMs - originMs)}</td><td>${formatClock(mark.timeMs)}</td><td>${MARK_SIGNS[mark.kind]} ${MARK_LABELS[mark.kind]}</td><td>${mark.subject}</td><td>${mark.text}</td></tr>`,
    )}</tbody></table></div>`;
}

/** What it ran on, for those who want to run it again. */
export function factsSection(facts: RunFacts): Html {
  const pairs = (title: string, values: Readonly<Record<string, string>>) =>
    Object.keys(values).length > 0 &&
    html`<h3>${title}</h3><dl class="facts">${Object.entries(values).map(
      ([name, value]) => html`<dt>${name}</dt><dd class="mono">${value}</dd>`,
    )}</dl>`;
  return html`<section aria-labelledby="facts"><h2 id="facts">What it ran on</h2>
<dl class="facts"><dt>started</dt><dd>${formatMoment(Date.parse(facts.startedAt))}</dd><dt>ended</dt><dd>${formatMoment(Date.parse(facts.endedAt))}${facts.interrupted && ", interrupted"}</dd><dt>where</dt><dd>${clusterWords(facts)}</dd></dl>
<details><summary>Versions and images</summary>${pairs("Versions", facts.versions)}${pairs("Images", facts.images)}</details></section>`;
}

/**
 * Below every report: where the numbers are from.
 * @param isBesideRecord the page stands in the run's folder; elsewhere a link would lead nowhere.
 */
export const footer = (facts: RunFacts, isBesideRecord = true): Html =>
  html`<footer>Made from the record of run <span class="mono">${facts.id}</span> alone: ${
    isBesideRecord
      ? html`<a href="result.json">result.json</a> beside this page`
      : html`<span class="mono">outputs/runs/${facts.id}/result.json</span>`
  }. What was not measured is a gap, not a zero.</footer>`;
