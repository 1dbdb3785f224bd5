/**
 * The text of a panel's query for a period and the chosen values of the variables, as Grafana replaces them
 * (https://grafana.com/docs/grafana/latest/dashboards/variables/).
 */
import type { Dashboard } from "../dashboards/definitions.ts";
import type { Period } from "./frame.ts";

/** Prometheus scrapes most targets this often. */
const SCRAPE_INTERVAL_MS = 15_000;
/** More points than pixels are not visible. */
const MAX_POINTS = 600;

/** Chosen values by variable; all of them where the list is empty. */
export type Choices = Readonly<Record<string, readonly string[]>>;

/** Distance of the points of a period: a multiple of the scrape interval. */
export function stepOf({ fromMs, toMs }: Period): number {
  const least = Math.ceil((toMs - fromMs) / MAX_POINTS / SCRAPE_INTERVAL_MS);
  return Math.max(1, least) * SCRAPE_INTERVAL_MS;
}

/** Four scrapes, so that a rate has samples when one is missing; at least a step and a scrape. */
const rateIntervalOf = (stepMs: number) => Math.max(4 * SCRAPE_INTERVAL_MS, stepMs + SCRAPE_INTERVAL_MS);

const escapedPattern = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\/]/g, String.raw`\$&`);
/** Inside a quoted string of LogQL or Flux. */
const escapedString = (text: string) => JSON.stringify(text).slice(1, -1);

/** @param isQuoted the query's variables are in strings, as in LogQL; in Flux they are in patterns between slashes */
function replacementOf(dashboard: Dashboard, name: string, choices: Choices, isQuoted: boolean): string {
  const variable = dashboard.templating.list?.find((one) => one.name === name);
  const chosen = choices[name] ?? [];
  if (variable?.type === "textbox") return escapedString(chosen[0] ?? "");
  if (chosen.length === 0) return variable?.allValue ?? ".*";
  const pattern = chosen.map(escapedPattern).join("|");
  return isQuoted ? escapedString(pattern) : pattern;
}

/** The query of a panel with everything replaced. */
export function queryText(
  text: string,
  language: "promql" | "logql" | "flux",
  dashboard: Dashboard,
  period: Period,
  choices: Choices,
): string {
  const stepMs = stepOf(period);
  const seconds = (ms: number) => `${Math.round(ms / 1000)}s`;
  // Longest names first, since names contain each other.
  const builtIn: readonly (readonly [string, string])[] = [
    ["$__rate_interval", seconds(rateIntervalOf(stepMs))],
    ["$__interval", seconds(stepMs)],
    ["$__auto", seconds(rateIntervalOf(stepMs))],
    ["v.timeRangeStart", new Date(period.fromMs).toISOString()],
    ["v.timeRangeStop", new Date(period.toMs).toISOString()],
    ["v.windowPeriod", seconds(stepMs)],
  ];
  let result = text;
  for (const [name, value] of builtIn) result = result.replaceAll(name, () => value);
  for (const { name } of dashboard.templating.list ?? []) {
    const value = replacementOf(dashboard, name, choices, language === "logql");
    result = result.replaceAll(`\${${name}:regex}`, () => value).replaceAll(`$${name}`, () => value);
  }
  return result;
}
