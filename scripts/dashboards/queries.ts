/**
 * The queries of all panels as Grafana would send them at first sight: every variable at its default, over a given
 * range. The tests ask them of the real Prometheus, Loki and InfluxDB.
 */
import type { DashboardSpec, Query } from "./panels.ts";

export interface PanelQuery {
  dashboard: string;
  panel: string;
  language: "promql" | "logql" | "flux";
  /** One value per series now, or values over the range. */
  instant: boolean;
  text: string;
}

/** Four scrape intervals of 15 s: what Grafana makes of $__rate_interval for a short range. */
const RATE_INTERVAL = "1m";
/** Grafana's step for a quarter of an hour on a panel of ordinary width. */
const STEP = "15s";

/** The value of each of Grafana's own variables, longest names first, so that none is cut by another. */
const BUILT_IN: readonly (readonly [name: string, value: string])[] = [
  ["$__rate_interval", RATE_INTERVAL],
  ["$__interval", STEP],
  ["$__auto", RATE_INTERVAL],
  ["v.timeRangeStart", "-15m"],
  ["v.timeRangeStop", "now()"],
  ["v.windowPeriod", STEP],
];

function withDefaults(text: string, dashboard: DashboardSpec): string {
  let result = text;
  for (const [name, value] of BUILT_IN) result = result.replaceAll(name, value);
  for (const { name, from, all } of dashboard.variables ?? []) {
    const value = "text" in from ? from.text : (all ?? "");
    result = result.replaceAll(`\${${name}:regex}`, value).replaceAll(`$${name}`, value);
  }
  return result;
}

const languageOf = (query: Query): PanelQuery["language"] =>
  "flux" in query ? "flux" : "logql" in query ? "logql" : "promql";

function textOf(query: Query): string {
  if ("flux" in query) return query.flux;
  if ("logql" in query) return query.logql;
  return "instant" in query ? query.instant : query.promql;
}

/** Every query of a dashboard, and those that fill its variables. @throws Error for a variable that nothing fills. */
export function queriesOf(dashboard: DashboardSpec): PanelQuery[] {
  const queries = dashboard.rows.flatMap(({ panels }) =>
    panels.flatMap((panel) =>
      panel.queries.map((query) => ({
        dashboard: dashboard.title,
        panel: panel.title,
        language: languageOf(query),
        instant: "instant" in query,
        text: withDefaults(textOf(query), dashboard),
      })),
    ),
  );
  for (const { name, from } of dashboard.variables ?? []) {
    if (!("flux" in from)) continue;
    const text = withDefaults(from.flux, dashboard);
    queries.push({ dashboard: dashboard.title, panel: `variable ${name}`, language: "flux", instant: true, text });
  }
  for (const { text, panel } of queries) {
    const left = /\$\{?[a-z_]+/i.exec(text.replaceAll("$)", ""))?.[0];
    if (left) throw new Error(`${dashboard.title}, ${panel}: nothing fills ${left}`);
  }
  return queries;
}
