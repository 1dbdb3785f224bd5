/** The first page: whether the pipeline works, its figures, firing alerts, and links to the details. */
import { documentOf } from "../report/document.ts";
import { type Html, html } from "../report/html.ts";
import { formatValue } from "./units.ts";

/** Faster changes nothing that an operator sees: Prometheus scrapes every 5 to 15 s. */
const RELOAD_MS = 10_000;

/** Figures of the pipeline now; null where Prometheus has no value. */
export interface PipelineStatus {
  inPerSecond: number | null;
  outPerSecond: number | null;
  lagEvents: number | null;
  /** Share of the events of the last minutes that were stored within five seconds. */
  freshShare: number | null;
  podsReady: number | null;
  podsDesired: number | null;
  /** Firing alerts without the one that always fires. */
  alerts: { name: string; severity: string; summary: string; labels: string; runbook?: string; sinceMs: number }[];
  /** Why there are no figures. */
  problem?: string;
}

export interface HomeLink {
  title: string;
  url: string;
  about: string;
}

/** Whether the pipeline works, in a word and a sentence. */
export function verdictOf(status: PipelineStatus): { tone: "good" | "bad" | "doubt"; text: string; why: string } {
  const { problem, alerts, inPerSecond, outPerSecond, podsReady, podsDesired } = status;
  if (problem) return { tone: "doubt", text: "Unknown", why: problem };
  if ((inPerSecond ?? 0) > 0 && (outPerSecond ?? 0) === 0) {
    return { tone: "bad", text: "Not working", why: "Events arrive, and none is stored." };
  }
  // An alert may be of an hour ago: what is measured now decides about "Not working".
  const critical = alerts.filter(({ severity }) => severity === "critical");
  if (critical.length > 0)
    return { tone: "bad", text: "Critical alert", why: critical.map(({ summary }) => summary).join(" ") };
  if (podsReady !== null && podsDesired !== null && podsReady < podsDesired) {
    return { tone: "doubt", text: "Degraded", why: `${podsDesired - podsReady} of ${podsDesired} pods are not Ready.` };
  }
  if (alerts.length > 0) return { tone: "doubt", text: "Working, with warnings", why: alerts[0]!.summary };
  return { tone: "good", text: "Working", why: "Events are stored, every pod is Ready, no alert is firing." };
}

function answer(title: string, value: string, note: string): Html {
  const [number, ...unit] = value.split(" ");
  return html`<section class="answer"><h2>${title}</h2><p class="big">${number} <small>${unit.join(" ")}</small></p><p>${note}</p></section>`;
}

const ageOf = (sinceMs: number, nowMs: number) => formatValue(Math.max(0, nowMs - sinceMs) / 1000, "s", 0);

/** The part of the page that changes. */
export function statusHtml(status: PipelineStatus, nowMs: number): Html {
  const { tone, text, why } = verdictOf(status);
  const alerts = status.alerts.map(
    ({ name, severity, summary, labels, runbook, sinceMs }) =>
      html`<tr><td><span class="badge ${severity === "critical" ? "bad" : "doubt"}">${severity}</span></td><td>${
        runbook ? html`<a href="/runbooks/${runbook}">${name}</a>` : name
      }</td><td>${summary} <span class="soft small">${labels}</span></td><td class="nowrap">for ${ageOf(sinceMs, nowMs)}</td></tr>`,
  );
  return html`<header class="verdict ${tone}"><h1>${text}</h1><p>${why}</p></header>
<div class="answers home">${answer("In", formatValue(status.inPerSecond, "eps", 0), "acknowledged by Kafka")}
${answer("Out", formatValue(status.outPerSecond, "eps", 0), "stored in InfluxDB")}
${answer("Lag", formatValue(status.lagEvents, "short", 0), "events that wait in Kafka")}
${answer("Fresh", formatValue(status.freshShare, "percentunit", 1), "stored within 5 s of their time")}
${answer("Pods", status.podsReady === null ? "–" : `${status.podsReady} of ${status.podsDesired ?? "?"}`, "Ready")}</div>
<h2>Firing alerts</h2>${
    alerts.length > 0
      ? html`<div class="wide"><table class="firing"><tbody>${alerts}</tbody></table></div>`
      : html`<p class="soft">${status.problem ? "Unknown." : "None."}</p>`
  }<p class="soft small">Read at ${new Date(nowMs).toISOString().slice(11, 19)} UTC.</p>`;
}

const STYLE = `.answer .big small { font-size: 0.6em; } .answers.home { grid-template-columns: repeat(5, minmax(0, 1fr)); } ul.links { list-style: none; padding: 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 10px; } ul.links a { display: block; background: var(--surface); border: 1px solid var(--edge); border-radius: 10px; padding: 12px 16px; text-decoration: none; font-weight: 650; } ul.links small { display: block; color: var(--soft); font-weight: 400; font-size: 14px; }
@media (max-width: 720px) { .answers.home { grid-template-columns: repeat(2, minmax(0, 1fr)); } .firing tr { display: block; border-top: 1px solid var(--edge); padding: 6px 0; } .firing td { display: inline; border: 0; padding: 0 6px 0 0; } }`;

/** Fetches the status again; replaceContent is in scripts/report/browser/charts.ts. */
const SCRIPT = `
setInterval(async () => {
  const place = document.getElementById("status");
  try {
    const answer = await fetch("/status");
    if (answer.ok) replaceContent(place, await answer.text());
  } catch { place.classList.add("gone"); }
}, ${RELOAD_MS});
`;

const linksHtml = (title: string, links: readonly HomeLink[]): Html =>
  html`<h2>${title}</h2><ul class="links">${links.map(({ title: name, url, about }) => html`<li><a href="${url}">${name}<small>${about}</small></a></li>`)}</ul>`;

export function homePage(
  status: Html,
  target: string,
  groups: readonly { title: string; links: readonly HomeLink[] }[],
): string {
  const body = html`<main><p class="soft small">Conveyor Pipeline, ${target}</p><div id="status" aria-live="polite">${status}</div>
${groups.filter(({ links }) => links.length > 0).map(({ title, links }) => linksHtml(title, links))}</main>`;
  return documentOf({ title: "Conveyor Pipeline", body, style: STYLE, script: SCRIPT, connect: "'self'" });
}

/** A runbook as it is written. */
export function runbookPage(name: string, text: string): string {
  const body = html`<main><p><a href="/">← back</a></p><pre class="panel" style="white-space: pre-wrap">${text}</pre></main>`;
  return documentOf({ title: `Runbook ${name}`, body, isStatic: true });
}
