/**
 * The dashboards of k8s/grafana/dashboards/ as data: the JSON that Grafana loads is the only definition. The types have
 * the fields that this project reads; a file may have all of Grafana's.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { textInNamespace } from "../cluster/namespace.ts";

export const DASHBOARD_FOLDER = join(import.meta.dir, "../../k8s/grafana/dashboards");

/** In the order of the links at the top of each. */
export const DASHBOARD_NAMES = [
  "pipeline-overview",
  "kafka",
  "processor-influxdb",
  "kubernetes",
  "conveyors",
  "logs",
] as const;

export interface Target {
  refId: string;
  /** PromQL or LogQL. */
  expr?: string;
  /** Flux. */
  query?: string;
  /** Names of labels as {{label}}. */
  legendFormat?: string;
  /** One value now instead of values over time. */
  instant?: boolean;
}

export interface Panel {
  id: number;
  type: "timeseries" | "stat" | "table" | "logs" | "row";
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  datasource?: { type: "prometheus" | "loki" | "influxdb"; uid: string };
  targets?: Target[];
  fieldConfig?: { defaults: { unit?: string } };
  /** Of a row: Grafana shows it once for each value of this variable. */
  repeat?: string;
}

interface Variable {
  name: string;
  type: "query" | "custom" | "textbox";
  datasource?: { type: string };
  /** Of a textbox its value; of a custom variable its choices; else the query that finds them. */
  query: string | { query?: string };
  /** What a query gets when all choices are selected. */
  allValue?: string;
}

export interface Dashboard {
  uid: string;
  title: string;
  description: string;
  editable: boolean;
  links: { type: string }[];
  annotations: { list: unknown[] };
  templating: { list?: Variable[] };
  panels: Panel[];
}

export const readDashboard = (name: (typeof DASHBOARD_NAMES)[number]): Dashboard =>
  JSON.parse(textInNamespace(readFileSync(join(DASHBOARD_FOLDER, `${name}.json`), "utf8"))) as Dashboard;

export const readDashboards = (): Dashboard[] => DASHBOARD_NAMES.map(readDashboard);

/** Panels with data, in the order of the file; rows only group them. */
export const panelsOf = ({ panels }: Dashboard): Panel[] => panels.filter(({ type }) => type !== "row");

/** The language of a panel's queries. */
export const languageOf = ({ datasource }: Panel): "promql" | "logql" | "flux" =>
  datasource?.type === "influxdb" ? "flux" : datasource?.type === "loki" ? "logql" : "promql";

/** The text of a query, as written. */
export const textOf = ({ expr, query }: Target): string => expr ?? query ?? "";
