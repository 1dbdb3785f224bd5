/** One frame of the video as HTML: the sections of the live page in a picture of 1280 × 720, with captions. */

import type { LiveState } from "../live/live-state.ts";
import { LIVE_STYLE, type LiveSection, liveOriginMs, liveSections } from "../live/live-view.ts";
import type { DrillResult, DrillsResult } from "../recording/result.ts";
import { documentOf } from "../report/document.ts";
import { byName, recoveryBar, verdictBadge } from "../report/drills-report.ts";
import { formatClock, formatCount, formatMoment, formatOffset, plural } from "../report/format.ts";
import { type Html, html } from "../report/html.ts";
import { ledgerSentence } from "../report/parts.ts";
import { type FramePlan, lastMs, type VideoPlan } from "./video-plan.ts";

export const FRAME_WIDTH = 1280;
export const FRAME_HEIGHT = 720;

const SHOWN: readonly LiveSection[] = ["numbers", "charts", "terminal", "pods", "ledger", "timeline", "lines"];
const TYPING_SECONDS = 0.7;
/** Rows reserved for the marks fault, effect, healed and recovered. */
const LABEL_ROWS = 4;
/** Lines of the timeline that fit, and how many of them log lines replace. */
const MARK_LINES = 12;
const LOG_ROOM_LINES = 5;
/** Lines of output that fit into the picture; of a longer output the end is shown. */
const READ_LINES = 19;
const READ_WIDTH_PX = 784;
/** Width of a character of a monospaced font, as a share of the font size. */
const CHARACTER_WIDTH = 0.61;
const [MIN_READ_PX, MAX_READ_PX] = [11, 14];

const STYLE = `${LIVE_STYLE}
body { width: ${FRAME_WIDTH}px; height: ${FRAME_HEIGHT}px; overflow: hidden; background: var(--ground); font-size: 15px; }
.frame { position: relative; width: ${FRAME_WIDTH}px; height: ${FRAME_HEIGHT}px; display: grid; grid-template: 50px minmax(0, 1fr) 66px / minmax(0, 1fr); }
.frame h2 { font-size: 13px; margin: 0 0 5px; color: var(--soft); text-transform: uppercase; letter-spacing: 0.05em; }
.frame > header { display: flex; align-items: center; gap: 14px; padding: 0 18px; border-bottom: 1px solid var(--edge); background: var(--surface); white-space: nowrap; }
#chapter { flex: 1; min-width: 0; font-weight: 700; font-size: 16px; overflow: hidden; text-overflow: ellipsis; } .chapter-name { color: var(--link); border-right: 1px solid var(--edge); padding-right: 12px; margin-right: 8px; } #run, #clock, #speed { flex: none; } #run { color: var(--soft); font-size: 13px; } #clock { font-variant-numeric: tabular-nums; font-size: 15px; }
#speed { font-weight: 700; font-size: 14px; border: 1px solid currentColor; border-radius: 999px; padding: 1px 12px; min-width: 128px; text-align: center; } #speed.fast { color: var(--doubt); background: var(--doubt-ground); } #speed.paused { color: var(--link); } #speed.real { color: var(--good); background: var(--good-ground); }
.stage { display: grid; grid-template-columns: minmax(0, 1fr) 420px; gap: 10px; padding: 10px 14px; min-height: 0; }
.column { display: flex; flex-direction: column; gap: 8px; min-height: 0; min-width: 0; }
.frame .panel { margin: 0; padding: 9px 12px; min-height: 0; overflow: hidden; }
.frame dl.numbers { margin: 0; gap: 8px; } .frame dl.numbers > div { padding: 3px 10px 4px; } .frame dl.numbers dd { font-size: 19px; line-height: 1.25; }
.frame .panel:empty { display: none; } .frame #charts { flex: none; } .frame .chart { margin: 0 0 1px; } .frame .chart figcaption { margin: 0; font-size: 13px; } .frame .axis-note { display: none; } .frame .strip { margin-top: 2px; font-size: 11.5px; }
.frame #terminal { flex: 1; } .frame #lines { flex: 0 1000 auto; } .frame .terminal { margin: 0; padding: 8px 12px; font-size: 12.5px; line-height: 1.4; max-height: none; overflow: hidden; } .frame .terminal pre { white-space: pre; }
.frame #terminal { display: flex; flex-direction: column; } .frame #terminal .terminal { flex: 1; display: flex; flex-direction: column; justify-content: flex-end; min-height: 0; } .frame .terminal .command { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; flex: none; } .frame #lines .terminal { font-size: 11px; padding: 6px 10px; } .frame #lines pre { white-space: pre-wrap; }
.frame ol.marks { font-size: 13px; } .frame ol.marks li { grid-template-columns: 54px 88px minmax(0, 1fr); padding: 1px 0; } .frame ol.marks li > :last-child { display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden; line-height: 1.3; }
.frame ul.pods li { grid-template-columns: 96px minmax(0, 1fr); padding: 2px 0; font-size: 13px; } .frame .pod { font-size: 12px; padding: 0 6px; } .frame #ledger { flex: none; } .frame #pods { flex: 0 1 auto; } .frame #timeline { flex: 1 0 auto; } .frame dl.counts { font-size: 13px; }
.frame > footer { margin: 0; padding: 0 22px; border: 0; background: #05080b; color: #fff; display: flex; align-items: center; justify-content: center; text-align: center; font-size: 18px; line-height: 1.3; font-weight: 600; } .frame > footer span { display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical; overflow: hidden; }
#overlay { position: absolute; inset: 50px 0 66px; display: none; padding: 34px 90px; background: var(--ground); flex-direction: column; justify-content: center; gap: 14px; } #overlay.card { display: flex; inset: 0; padding: 40px 110px; }
#overlay h1 { font-size: 44px; } #overlay .lead { font-size: 23px; line-height: 1.4; max-width: none; margin: 0; } #overlay .kicker { font-size: 17px; color: var(--soft); margin: 0; } #overlay dl.facts { font-size: 20px; gap: 14px 26px; } #overlay .badge { font-size: 20px; padding: 3px 16px; } #overlay .bar { height: 20px; border-radius: 10px; } #overlay .bar-words { font-size: 19px; } #overlay p { max-width: none; }
#overlay ol.lead { padding-left: 1.3em; } #overlay.picture { display: flex; padding: 0; } #overlay.picture img { width: 100%; height: 100%; object-fit: cover; object-position: top; }
#overlay.read { display: flex; inset: auto 444px 76px 14px; padding: 0; background: transparent; } #overlay.read .terminal { min-height: 210px; max-height: 580px; line-height: 1.45; padding: 16px 18px; border: 1px solid var(--terminal-prompt); box-shadow: 0 10px 40px rgb(0 0 0 / 0.6); } #overlay.read .command { white-space: pre-wrap; overflow: visible; font-size: 13.5px; margin-bottom: 8px; }
`;

/** The empty frame; the browser keeps it and replaces its parts. */
export function frameDocument(runId: string): string {
  const section = (id: LiveSection) => html`<section class="panel" id="${id}"></section>`;
  const body = html`<div class="frame"><header><span id="chapter"></span><span id="run" class="mono">run ${runId}</span><span id="clock" class="mono"></span><span id="speed"></span></header>
<div class="stage"><div class="column"><div id="numbers"></div>${section("charts")}${section("terminal")}</div><div class="column">${section("pods")}${section("ledger")}${section("timeline")}${section("lines")}</div></div>
<footer><span id="caption"></span></footer><div id="overlay"></div></div>`;
  return documentOf({ title: `Video of ${runId}`, body, theme: "dark", style: STYLE });
}

/** HTML by the id of its element; for #speed and #overlay the class too. */
export interface FrameParts {
  html: Record<string, string>;
  speedClass: string;
  overlayClass: string;
}

function speedLabel({ segment }: FramePlan): { text: string; className: string } {
  if (segment.kind === "title" || segment.kind === "end") return { text: "", className: "" };
  if (segment.speed === 0) return { text: "paused", className: "paused" };
  return segment.speed === 1
    ? { text: "real time", className: "real" }
    : { text: `${segment.speed}× faster`, className: "fast" };
}

/** The chapter before the title: the end of a long title is cut off. */
function chapterLabel({ chapter, drill }: FramePlan["segment"]): Html {
  const at = drill ? chapter.lastIndexOf(": ") : -1;
  if (at < 0) return html`${chapter}`;
  return html`<span class="chapter-name">${chapter.slice(at + 2)}</span> ${chapter.slice(0, at)}`;
}

function titleCard(result: DrillsResult, plan: VideoPlan): Html {
  const all = byName(result.drills).length;
  const more =
    all > plan.drills.length
      ? ` The video shows ${plan.drills.length} of ${plural(all, "drill")}; the report has all of them.`
      : "";
  return html`<p class="kicker">Conveyor Pipeline · run <span class="mono">${result.facts.id}</span></p><h1>Resilience drills</h1><ol class="lead">${plan.drills.map(({ title }) => html`<li>${title}</li>`)}</ol><p class="lead soft">Recording of a run on ${formatMoment(Date.parse(result.facts.startedAt))}, Kubernetes ${result.facts.cluster.kubernetes}. The sign at the top right shows the playback speed; pauses are for reading.${more}</p>`;
}

function breaksCard({ segment }: FramePlan): Html {
  const drill = segment.drill!;
  return html`<p class="kicker">What breaks${drill.repeat > 1 && ` (repeat ${drill.repeat})`}</p><h1>${drill.title}</h1><dl class="facts"><dt>Fault</dt><dd>${drill.fault}</dd><dt>Expected</dt><dd>${drill.hypothesis}</dd></dl>`;
}

function verdictCard({ segment }: FramePlan): Html {
  const drill = segment.drill!;
  return html`<p class="kicker">Verdict</p><h1>${drill.title}</h1><div>${verdictBadge(drill.verdict)}</div><dl class="facts"><dt>Effect</dt><dd>${drill.effect?.proof ?? "none was measured"}</dd><dt>Recovery</dt><dd>${recoveryBar(drill.recovery)}</dd><dt>Ledger</dt><dd>${ledgerSentence(drill.ledger)}</dd>${drill.reasons.length > 0 && html`<dt>Reasons</dt><dd>${drill.reasons.join("; ")}</dd>`}</dl>`;
}

function endCard(result: DrillsResult, plan: VideoPlan): Html {
  const passed = result.drills.filter(({ verdict }) => verdict === "passed").length;
  const ledgers = result.drills.flatMap(({ ledger }) => ledger ?? []);
  const sum = (pick: "acknowledged" | "lost") => ledgers.reduce((total, ledger) => total + ledger[pick], 0);
  const losses =
    ledgers.length < result.drills.length
      ? `${formatCount(result.drills.length - ledgers.length)} of them without a count of events.`
      : `${formatCount(sum("lost"))} of ${plural(sum("acknowledged"), "acknowledged event")} lost.`;
  return html`<p class="kicker">Complete run <span class="mono">${plan.runId}</span></p><h1>${passed} of ${plural(result.drills.length, "drill")} passed</h1><p class="lead">${losses}</p><div class="drill-list">${plan.drills.map(
    (drill) => html`<p class="lead">${verdictBadge(drill.verdict)} ${drill.title}</p>`,
  )}</div><p class="kicker">Rendered from the record of this run; report.html in its folder has every drill.</p>`;
}

function readCard({ segment, second }: FramePlan, originMs: number): Html {
  const { command } = segment;
  if (!command) return html``;
  const typed = Math.min(1, second / TYPING_SECONDS);
  const text = command.command.slice(0, Math.ceil(command.command.length * typed));
  const lines = (command.output.trimEnd() || "(no output)").split("\n");
  const cut = lines.length > READ_LINES ? ["…", ...lines.slice(-READ_LINES + 1)] : lines;
  // Small enough for the longest line, but readable.
  const longest = cut.reduce((most, line) => Math.max(most, line.length), 0);
  const sizePx = Math.min(MAX_READ_PX, Math.max(MIN_READ_PX, READ_WIDTH_PX / (longest * CHARACTER_WIDTH)));
  return html`<div class="terminal" style="font-size:${sizePx.toFixed(1)}px"><div class="command"><span class="when">${formatOffset(command.timeMs - originMs)}</span> <span class="prompt">$</span> ${text}${typed < 1 && html`<span class="caret">▁</span>`}</div>${typed >= 1 && html`<pre>${cut.join("\n")}</pre>`}</div>`;
}

/** Sections without data are hidden; the live page shows a text instead. */
function isBlank(id: LiveSection, state: LiveState): boolean {
  if (id === "pods") return state.pods.length === 0;
  if (id === "ledger") return Object.keys(state.ledger).length === 0;
  if (id === "lines") return !state.lines.some(({ timeMs }) => timeMs >= state.drillStartedAtMs);
  return false;
}

/** The complete drill on one axis. */
const rangeOf = (drill: DrillResult | undefined) =>
  drill && { fromMs: drill.recording.startedAtMs, toMs: lastMs(drill) };

/** The content of a frame. @param state at the time of the frame. */
export function frameParts(frame: FramePlan, state: LiveState, result: DrillsResult, plan: VideoPlan): FrameParts {
  const { segment } = frame;
  const sections = liveSections(state, {
    lines: 4,
    marks: 12,
    markLines: isBlank("lines", state) ? MARK_LINES : MARK_LINES - LOG_ROOM_LINES,
    commands: 2,
    chartHeightPx: 60,
    labelRows: LABEL_ROWS,
    rangeMs: rangeOf(segment.drill),
  });
  const { originMs } = liveOriginMs(state);
  const speed = speedLabel(frame);
  const offset =
    state.marks.some(({ kind }) => kind === "fault") && originMs !== state.drillStartedAtMs
      ? ` (${formatOffset(frame.stateMs - originMs)})`
      : "";
  const cards = {
    live: () => html``,
    still: () => html``,
    reading: () => readCard(frame, originMs),
    picture: () => html`<img src="${segment.picture?.source ?? ""}" alt="${segment.caption}">`,
    title: () => titleCard(result, plan),
    breaks: () => breaksCard(frame),
    verdict: () => verdictCard(frame),
    end: () => endCard(result, plan),
  } as const;
  const isCard = ["title", "breaks", "verdict", "end"].includes(segment.kind);
  return {
    html: {
      ...Object.fromEntries(SHOWN.map((id) => [id, isBlank(id, state) ? "" : sections[id]])),
      chapter: chapterLabel(segment).text,
      clock: html`${formatClock(frame.stateMs)} UTC${offset}`.text,
      speed: html`${speed.text}`.text,
      caption: html`${segment.caption}`.text,
      overlay: cards[segment.kind]().text,
    },
    speedClass: speed.className,
    overlayClass: isCard ? "card" : segment.kind === "reading" ? "read" : segment.kind === "picture" ? "picture" : "",
  };
}
