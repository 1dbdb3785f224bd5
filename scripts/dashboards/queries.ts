/** The queries of all panels as Grafana sends them first: every variable has its default. */
import { type Dashboard, languageOf, panelsOf, textOf } from "./definitions.ts";

export interface PanelQuery {
  dashboard: string;
  panel: string;
  language: "promql" | "logql" | "flux";
  /** One value per series now, instead of values over the range. */
  instant: boolean;
  text: string;
}

/** Four scrape intervals of 15 s: Grafana's $__rate_interval for a short range. */
export const RATE_INTERVAL = "1m";
/** Grafana's step for a quarter of an hour on a panel of ordinary width. */
const STEP = "15s";

/** Values of Grafana's built-in variables; longest names first, since names contain each other. */
const BUILT_IN: readonly (readonly [name: string, value: string])[] = [
  ["$__rate_interval", RATE_INTERVAL],
  ["$__interval", STEP],
  ["$__auto", RATE_INTERVAL],
  ["v.timeRangeStart", "-15m"],
  ["v.timeRangeStop", "now()"],
  ["v.windowPeriod", STEP],
];

function withDefaults(text: string, { templating }: Dashboard): string {
  let result = text;
  for (const [name, value] of BUILT_IN) result = result.replaceAll(name, value);
  for (const { name, type, query, allValue } of templating.list ?? []) {
    const value = type === "textbox" ? String(query) : (allValue ?? "");
    result = result.replaceAll(`\${${name}:regex}`, value).replaceAll(`$${name}`, value);
  }
  return result;
}

/** Every query of a dashboard, those of its variables included. @throws Error for a variable without a definition. */
export function queriesOf(dashboard: Dashboard): PanelQuery[] {
  const queries = panelsOf(dashboard).flatMap((panel) =>
    (panel.targets ?? []).map((target) => ({
      dashboard: dashboard.title,
      panel: panel.title,
      language: languageOf(panel),
      instant: target.instant === true,
      text: withDefaults(textOf(target), dashboard),
    })),
  );
  for (const { name, datasource, query } of dashboard.templating.list ?? []) {
    if (datasource?.type !== "influxdb" || typeof query === "string") continue;
    const text = withDefaults(query.query ?? "", dashboard);
    queries.push({ dashboard: dashboard.title, panel: `variable ${name}`, language: "flux", instant: true, text });
  }
  for (const { text, panel } of queries) {
    const undefinedVariable = /\$\{?[a-z_]+/i.exec(text.replaceAll("$)", ""))?.[0];
    if (undefinedVariable) throw new Error(`${dashboard.title}, ${panel}: nothing defines ${undefinedVariable}`);
  }
  return queries;
}
