/**
 * What the dashboards are made of: queries, panels and the frame that all share. Every panel needs a title, a
 * description for somebody who sees it for the first time, a unit and at least one query; one that lacks something
 * does not compile. The JSON comes from Grafana's own foundation SDK.
 */
import type { Builder, Dataquery } from "@grafana/grafana-foundation-sdk/cog";
import * as common from "@grafana/grafana-foundation-sdk/common";
import * as dashboard from "@grafana/grafana-foundation-sdk/dashboard";
import * as logs from "@grafana/grafana-foundation-sdk/logs";
import * as loki from "@grafana/grafana-foundation-sdk/loki";
import * as prometheus from "@grafana/grafana-foundation-sdk/prometheus";
import * as stat from "@grafana/grafana-foundation-sdk/stat";
import * as table from "@grafana/grafana-foundation-sdk/table";
import * as timeseries from "@grafana/grafana-foundation-sdk/timeseries";

/** The datasources of k8s/grafana/grafana-configmap.yaml. */
export const PROMETHEUS = { type: "prometheus", uid: "prometheus" } as const;
export const LOKI = { type: "loki", uid: "loki" } as const;
export const INFLUXDB = { type: "influxdb", uid: "influxdb" } as const;
/** Grafana's own store of annotations. */
const GRAFANA = { type: "grafana", uid: "-- Grafana --" } as const;

export type Query =
  /** Over time; the legend names its labels as {{label}}. */
  | { promql: string; legend: string }
  /** One value per series, now. */
  | { instant: string; legend: string }
  | { logql: string; legend?: string }
  | { flux: string };

/** Units as Grafana names them. */
export type Unit =
  | "short"
  | "none"
  | "s"
  | "percent"
  | "percentunit"
  | "bytes"
  | "Bps"
  | "cores"
  | "eps"
  | "reqps"
  | "ops"
  | "celsius"
  | "velocityms"
  | "masskg"
  | "mm/s"
  | "dateTimeFromNow"
  | "wps"
  | "d";

/** Units that Grafana does not have are written as a suffix. */
const UNIT_CODE: Partial<Record<Unit, string>> = {
  cores: "suffix: cores",
  "mm/s": "suffix: mm/s",
};

export interface PanelSpec {
  title: string;
  /** What it shows, what is normal, and what to do or where to look when it is not. */
  description: string;
  unit: Unit;
  queries: readonly [Query, ...Query[]];
  /** Columns of 24; default 8. */
  width?: number;
  /** Rows of 30 px; default 8. */
  height?: number;
  min?: number;
  max?: number;
  decimals?: number;
  /** From these values on, in these colours; below the first it is green. */
  thresholds?: readonly (readonly [value: number, color: "green" | "yellow" | "orange" | "red" | "blue"])[];
  /** Areas on top of each other, for parts of a whole. */
  stacked?: boolean;
  /** What values mean, for states: shown in place of the number. */
  states?: Record<string, { text: string; color: string }>;
}

export type PanelKind = "timeseries" | "stat" | "logs" | "table";
export interface Panel extends PanelSpec {
  kind: PanelKind;
}

export const timeSeries = (spec: PanelSpec): Panel => ({ kind: "timeseries", ...spec });
export const bigNumber = (spec: PanelSpec): Panel => ({ kind: "stat", height: 4, width: 4, ...spec });
export const logLines = (spec: PanelSpec): Panel => ({ kind: "logs", width: 24, height: 16, ...spec });
export const tableOf = (spec: PanelSpec): Panel => ({ kind: "table", ...spec });

/** A choice at the top of a dashboard. `all` is what the query is given when everything is chosen. */
export interface Variable {
  name: string;
  label: string;
  description: string;
  /** PromQL's label_values(…), a Loki label, a Flux query, fixed values, or free text. */
  from:
    | { labelValues: string }
    | { lokiLabel: string; stream: string }
    | { flux: string }
    | { choices: readonly string[] }
    | { text: string };
  all?: string;
}

export interface DashboardSpec {
  uid: string;
  title: string;
  description: string;
  /** Shown at first. */
  fromTime?: string;
  refresh?: string;
  variables?: readonly Variable[];
  rows: readonly { title: string; panels: readonly Panel[] }[];
}

const TAG = "conveyor";

/** InfluxDB has no builder in the SDK: its query is this one field. */
class FluxQuery implements Builder<Dataquery> {
  constructor(
    private readonly query: string,
    private readonly refId: string,
  ) {}
  build(): Dataquery {
    const query = { refId: this.refId, datasource: INFLUXDB, query: this.query, _implementsDataqueryVariant() {} };
    return query;
  }
}

const refIdOf = (index: number) => String.fromCharCode("A".charCodeAt(0) + index);

function targetOf(query: Query, index: number, kind: PanelKind): Builder<Dataquery> {
  const refId = refIdOf(index);
  if ("flux" in query) return new FluxQuery(query.flux, refId);
  if ("logql" in query) {
    const target = new loki.DataqueryBuilder().datasource(LOKI).expr(query.logql).refId(refId).queryType("range");
    return query.legend === undefined ? target : target.legendFormat(query.legend);
  }
  const target = new prometheus.DataqueryBuilder()
    .datasource(PROMETHEUS)
    .expr("instant" in query ? query.instant : query.promql)
    .legendFormat(query.legend)
    .refId(refId);
  if (!("instant" in query)) return target.range();
  return kind === "table" ? target.instant().format(prometheus.PromQueryFormat.Table) : target.instant();
}

function thresholdsOf(spec: PanelSpec): Builder<dashboard.ThresholdsConfig> {
  const steps: dashboard.Threshold[] = [
    // Grafana's way to say "from the lowest value on".
    { value: null as unknown as number, color: "green" },
    ...(spec.thresholds ?? []).map(([value, color]) => ({ value, color })),
  ];
  return new dashboard.ThresholdsConfigBuilder().mode(dashboard.ThresholdsMode.Absolute).steps(steps);
}

/** What the kinds have in common; each builder of the SDK has these methods, without a common type. */
interface CommonBuilder {
  title(title: string): this;
  description(text: string): this;
  unit(unit: string): this;
  span(width: number): this;
  height(height: number): this;
  datasource(ref: common.DataSourceRef): this;
  thresholds(thresholds: Builder<dashboard.ThresholdsConfig>): this;
  mappings(mappings: dashboard.ValueMapping[]): this;
  min(min: number): this;
  max(max: number): this;
  decimals(decimals: number): this;
  withTarget(target: Builder<Dataquery>): this;
}

function dataSourceOf(query: Query): common.DataSourceRef {
  if ("flux" in query) return INFLUXDB;
  return "logql" in query ? LOKI : PROMETHEUS;
}

function filled<B extends CommonBuilder>(builder: B, panel: Panel): B {
  builder
    .title(panel.title)
    .description(panel.description)
    .unit(UNIT_CODE[panel.unit] ?? panel.unit)
    .span(panel.width ?? 8)
    .height(panel.height ?? 8)
    .datasource(dataSourceOf(panel.queries[0]))
    .thresholds(thresholdsOf(panel));
  if (panel.min !== undefined) builder.min(panel.min);
  if (panel.max !== undefined) builder.max(panel.max);
  if (panel.decimals !== undefined) builder.decimals(panel.decimals);
  if (panel.states) {
    const options = Object.fromEntries(
      Object.entries(panel.states).map(([value, { text, color }], index) => [value, { text, color, index }]),
    );
    builder.mappings([{ type: dashboard.MappingType.ValueToText, options } as dashboard.ValueMapping]);
  }
  panel.queries.forEach((query, index) => {
    builder.withTarget(targetOf(query, index, panel.kind));
  });
  return builder;
}

function panelOf(panel: Panel): Builder<dashboard.Panel> {
  switch (panel.kind) {
    case "timeseries": {
      const builder = filled(new timeseries.PanelBuilder(), panel)
        .lineWidth(1)
        .fillOpacity(panel.stacked ? 25 : 8)
        .showPoints(common.VisibilityMode.Never)
        // A gap in the data is a fact and stays visible; two missed scrapes are not one.
        .spanNulls(60_000)
        .legend(
          new common.VizLegendOptionsBuilder()
            .displayMode(common.LegendDisplayMode.Table)
            .placement(common.LegendPlacement.Bottom)
            .showLegend(true)
            .calcs(["lastNotNull", "max"]),
        )
        .tooltip(
          new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi).sort(common.SortOrder.Descending),
        );
      if (panel.stacked) builder.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal));
      if (panel.thresholds) {
        builder.thresholdsStyle(
          new common.GraphThresholdsStyleConfigBuilder().mode(common.GraphThresholdsStyleMode.Dashed),
        );
      }
      return builder;
    }
    case "stat":
      return filled(new stat.PanelBuilder(), panel)
        .colorMode(common.BigValueColorMode.Value)
        .graphMode(common.BigValueGraphMode.Area)
        .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(["lastNotNull"]));
    case "table":
      return filled(new table.PanelBuilder(), panel);
    case "logs":
      return filled(new logs.PanelBuilder(), panel)
        .showTime(true)
        .showLabels(false)
        .wrapLogMessage(true)
        .enableLogDetails(true)
        .prettifyLogMessage(false)
        .sortOrder(common.LogsSortOrder.Descending)
        .dedupStrategy(common.LogsDedupStrategy.None);
  }
}

function variableOf(variable: Variable): Builder<dashboard.VariableModel> {
  const { from } = variable;
  if ("text" in from) {
    return new dashboard.TextBoxVariableBuilder(variable.name)
      .label(variable.label)
      .description(variable.description)
      .defaultValue(from.text);
  }
  const builder =
    "choices" in from
      ? new dashboard.CustomVariableBuilder(variable.name).values(from.choices.join(","))
      : new dashboard.QueryVariableBuilder(variable.name)
          .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
          .sort(dashboard.VariableSort.AlphabeticalAsc)
          .datasource("labelValues" in from ? PROMETHEUS : "flux" in from ? INFLUXDB : LOKI)
          .query(
            "labelValues" in from
              ? { query: from.labelValues, refId: variable.name }
              : "flux" in from
                ? { query: from.flux, refId: variable.name }
                : { label: from.lokiLabel, stream: from.stream, type: 1, refId: variable.name },
          );
  builder.label(variable.label).description(variable.description);
  if (variable.all !== undefined) {
    builder
      .includeAll(true)
      .allValue(variable.all)
      .multi(true)
      .current({ selected: true, text: ["All"], value: ["$__all"] });
  }
  return builder;
}

/** What happened, over every graph: pods that started (deploys, scaling, crashes, drills) and what people noted. */
function annotations(): Builder<dashboard.AnnotationQuery>[] {
  return [
    new dashboard.AnnotationQueryBuilder()
      .name("Pods started")
      .datasource(PROMETHEUS)
      .enable(true)
      .iconColor("blue")
      // The value is the time of the start.
      .expr('max by (pod) (kube_pod_start_time{namespace="conveyor"}) * 1000')
      .useValueForTime(true)
      .titleFormat("pod started")
      .textFormat("{{pod}}")
      .step("15s"),
    new dashboard.AnnotationQueryBuilder()
      .name("New versions")
      .datasource(PROMETHEUS)
      .enable(true)
      .iconColor("purple")
      .expr('sum by (deployment) (changes(kube_deployment_status_observed_generation{namespace="conveyor"}[1m])) > 0')
      .titleFormat("changed by a deploy or by scaling")
      .textFormat("{{deployment}}")
      .step("15s"),
    new dashboard.AnnotationQueryBuilder()
      .name("Drills and notes")
      .datasource(GRAFANA)
      .enable(true)
      .iconColor("orange")
      .target({
        build: () =>
          ({ type: "tags", tags: ["drill", "deploy", "note"], matchAny: true, limit: 100 }) as unknown as Dataquery,
      }),
  ];
}

/** The dashboard's JSON as an object. */
export function buildDashboard(spec: DashboardSpec): dashboard.Dashboard {
  const builder = new dashboard.DashboardBuilder(spec.title)
    .uid(spec.uid)
    .description(spec.description)
    .tags([TAG])
    .readonly()
    .timezone("browser")
    .refresh(spec.refresh ?? "15s")
    .time({ from: spec.fromTime ?? "now-30m", to: "now" })
    // One cursor over all graphs: what happened elsewhere at this moment?
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .annotations(annotations())
    .link(
      new dashboard.DashboardLinkBuilder("Dashboards")
        .type(dashboard.DashboardLinkType.Dashboards)
        .tags([TAG])
        .keepTime(true)
        .asDropdown(false),
    );
  for (const variable of spec.variables ?? []) builder.withVariable(variableOf(variable));
  for (const row of spec.rows) {
    builder.withRow(new dashboard.RowBuilder(row.title));
    for (const panel of row.panels) builder.withPanel(panelOf(panel));
  }
  const built = builder.build();
  // Ids by place: Grafana links to panels by id, and links must not move from one start to the next.
  (built.panels ?? []).forEach((panel, index) => {
    panel.id = index + 1;
  });
  return built;
}
