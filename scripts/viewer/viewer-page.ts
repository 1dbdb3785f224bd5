/** The page of a dashboard: its rows and panels without data, which the page's script fetches and draws. */
import { join } from "node:path";
import type { Dashboard, Panel } from "../dashboards/definitions.ts";
import { documentOf } from "../report/document.ts";
import { type Html, html, jsonScript } from "../report/html.ts";
import { VIEWER_STYLE } from "./viewer-style.ts";

/** Periods that end now, as Grafana names them. */
const PERIODS = ["5m", "15m", "30m", "1h", "3h", "6h", "24h", "7d"];
const REFRESHES = ["off", "5s", "15s", "1m"];

async function bundle(): Promise<string> {
  const { outputs } = await Bun.build({
    entrypoints: [join(import.meta.dir, "browser", "viewer.ts")],
    target: "browser",
    format: "iife",
    minify: true,
  });
  // In a script element this would end it.
  return (await outputs[0]!.text()).replaceAll("</script", "<\\/script");
}
const SCRIPT = await bundle();

/** What the page's script needs of a panel. */
export interface PanelView {
  id: number;
  type: Panel["type"];
  unit: string;
  decimals?: number | undefined;
  min?: number | undefined;
  max?: number | undefined;
  isStacked: boolean;
  fillOpacity: number;
  /** Longest gap that a curve crosses, in milliseconds. */
  spanMs: number;
  /** Thresholds as lines across the chart. */
  hasLines: boolean;
  thresholds: { value: number | null; color: string }[];
}

interface FieldDefaults {
  unit?: string;
  decimals?: number;
  min?: number;
  max?: number;
  thresholds?: { steps: { value: number | null; color: string }[] };
  custom?: {
    fillOpacity?: number;
    spanNulls?: number | boolean;
    stacking?: { mode: string };
    thresholdsStyle?: { mode: string };
  };
}

function viewOf({ id, type, fieldConfig }: Panel): PanelView {
  const { unit = "none", decimals, min, max, thresholds, custom = {} } = (fieldConfig?.defaults ?? {}) as FieldDefaults;
  return {
    id,
    type,
    unit,
    decimals,
    min,
    max,
    isStacked: custom.stacking?.mode === "normal",
    fillOpacity: custom.fillOpacity ?? 0,
    spanMs: typeof custom.spanNulls === "number" ? custom.spanNulls : custom.spanNulls ? Number.MAX_SAFE_INTEGER : 0,
    hasLines: (custom.thresholdsStyle?.mode ?? "off") !== "off",
    thresholds: thresholds?.steps ?? [],
  };
}

/** Height of a unit of Grafana's grid. */
const GRID_PX = 36;

const panelHtml = ({
  id,
  type,
  title,
  description,
  gridPos,
}: Panel): Html => html`<article class="tile tile-${type}" id="panel-${id}" style="grid-column: span ${gridPos.w}; --height: ${gridPos.h * GRID_PX}px">
<header><h3>${title}</h3>${description && html`<details class="about"><summary aria-label="About ${title}">i</summary><p>${description}</p></details>`}<span class="state" role="status"></span></header>
<div class="body"></div></article>`;

/** Panels below their rows, as sections that fold. A row that Grafana repeats has the curves of all chosen values. */
function sections(panels: readonly Panel[]): Html[] {
  const groups: { row: Panel | undefined; panels: Panel[] }[] = [];
  for (const panel of panels) {
    if (panel.type === "row") groups.push({ row: panel, panels: [] });
    else if (groups.length === 0) groups.push({ row: undefined, panels: [panel] });
    else groups.at(-1)!.panels.push(panel);
  }
  return groups.map(({ row, panels: own }) => {
    const grid = html`<div class="grid">${own.map(panelHtml)}</div>`;
    return row
      ? html`<details class="row" open><summary><h2>${row.repeat ? `By ${row.repeat}` : row.title}</h2></summary>${grid}</details>`
      : grid;
  });
}

function variableHtml({ templating }: Dashboard): Html[] {
  return (templating.list ?? []).map((variable) => {
    const { name, type, label, description } = variable as typeof variable & { label?: string; description?: string };
    const title = label ?? name;
    return type === "textbox"
      ? html`<label class="variable" title="${description}">${title} <input type="search" name="var-${name}" autocomplete="off" spellcheck="false"></label>`
      : html`<details class="variable choices" data-variable="${name}" title="${description}"><summary>${title}: <span class="chosen">all</span></summary><div class="list"></div></details>`;
  });
}

const choice = (value: string, text = value) => html`<option value="${value}">${text}</option>`;

/** The page of a dashboard. @param all those that it links to; @param target the cluster, shown at the top */
export function viewerPage(dashboard: Dashboard, all: readonly Dashboard[], target: string): string {
  const { time, refresh } = dashboard as Dashboard & { time?: { from: string }; refresh?: string };
  const data = {
    name: dashboard.uid,
    period: (time?.from ?? "now-30m").replace("now-", ""),
    refresh: refresh ?? "15s",
    panels: dashboard.panels.filter(({ type }) => type !== "row").map(viewOf),
    variables: (dashboard.templating.list ?? []).map(({ name: variable, type }) => ({ name: variable, type })),
  };
  const links = all.map(({ uid, title }) =>
    uid === dashboard.uid
      ? html`<a href="/d/${uid}" aria-current="page">${title}</a>`
      : html`<a href="/d/${uid}">${title}</a>`,
  );
  const body = html`<main class="viewer"><header class="top"><nav aria-label="Dashboards">${links}</nav>
<form class="controls" id="controls">${variableHtml(dashboard)}
<label>Period <select name="period">${PERIODS.map((period) => choice(period, `last ${period}`))}<option value="" hidden>fixed</option></select></label>
<label>Refresh <select name="refresh">${REFRESHES.map((one) => choice(one))}</select></label>
<button type="button" id="copy">Copy link</button><button type="button" id="theme" aria-label="Light or dark">◐</button></form></header>
<h1>${dashboard.title}</h1><p class="soft small">${dashboard.description} <span class="target">${target}</span> <span id="clock" role="status"></span></p>
${sections(dashboard.panels)}</main>${jsonScript("viewer-data", data)}`;
  return documentOf({
    title: `${dashboard.title} – Conveyor`,
    body,
    style: VIEWER_STYLE,
    script: SCRIPT,
    connect: "'self'",
  });
}
