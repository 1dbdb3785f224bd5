/**
 * The dashboard of a schema: one row for each source, in it a panel for each field of numbers. Everything that is alike on
 * all dashboards (annotations, links, how a panel draws its curves) is taken from that of the conveyors.
 */
import type { EventSchema, FieldRules } from "../../services/domain/event-schema.ts";
import { fluxString } from "../../services/domain/flux.ts";
import { type Dashboard, type Panel, readDashboard } from "./definitions.ts";

/** Grafana repeats them for each source; a page with more loads slowly. */
export const MAX_SCHEMA_PANELS = 60;
/** Sources of this last period are offered as choices. */
const SOURCES_PERIOD = "-1d";
/** Grafana's limit is 40 characters. */
const UID = /^[A-Za-z0-9_-]{1,33}$/;

const DATASOURCE = { type: "influxdb", uid: "influxdb" } as const;

/** The name in the address of a dashboard, unique for each measurement. */
export const schemaDashboardUid = (measurement: string): string =>
  `schema-${UID.test(measurement) ? measurement : Bun.hash.crc32(measurement).toString(16).padStart(8, "0")}`;

/** @param bucket bucket of InfluxDB with the points */
export function schemaDashboard(schema: EventSchema, bucket: string): Dashboard {
  const { measurement, description } = schema;
  const base = readDashboard("conveyors");
  const numeric = [...schema.fields].filter(([, { type }]) => type !== "boolean" && type !== "string");
  const shown = numeric.slice(0, MAX_SCHEMA_PANELS);
  const left = numeric.length - shown.length;
  const choices = `import "influxdata/influxdb/schema"\nschema.tagValues(bucket: ${fluxString(bucket)}, tag: "source", predicate: (r) => r._measurement == ${fluxString(measurement)}, start: ${SOURCES_PERIOD})`;
  const [variable] = base.templating.list!;
  return {
    ...base,
    uid: schemaDashboardUid(measurement),
    title: measurement,
    description: [
      description ?? `The fields of measurement ${measurement}, by its schema.`,
      ...(left > 0 ? [`${left} more fields have no panel.`] : []),
    ].join(" "),
    templating: {
      list: [
        Object.assign(structuredClone(variable!), {
          name: "source",
          label: "Source",
          description: "Which sources to show",
          query: { query: choices, refId: "source" },
        }),
      ],
    },
    panels: [
      { id: 1, type: "row", title: "Source $source", repeat: "source", gridPos: { x: 0, y: 0, w: 24, h: 1 } },
      ...shown.map(([field, rules], index) => fieldPanel(base, { measurement, bucket, field, rules, index })),
    ],
  };
}

function fieldPanel(
  base: Dashboard,
  {
    measurement,
    bucket,
    field,
    rules,
    index,
  }: {
    measurement: string;
    bucket: string;
    field: string;
    rules: FieldRules;
    index: number;
  },
): Panel {
  const panel = structuredClone(base.panels.find(({ type }) => type === "timeseries")!);
  // Without the range of another field.
  const { min: _, ...defaults } = panel.fieldConfig!.defaults as { min?: number };
  const query = [
    `from(bucket: ${fluxString(bucket)})`,
    "  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)",
    `  |> filter(fn: (r) => r._measurement == ${fluxString(measurement)} and r._field == ${fluxString(field)})`,
    // Points of lines need not have a source.
    `  |> filter(fn: (r) => not exists r.source or r.source =~ /^(\${source:regex})$/)`,
    "  |> aggregateWindow(every: v.windowPeriod, fn: mean, createEmpty: false)",
    '  |> drop(columns: ["_start", "_stop", "_measurement", "_field"])',
  ].join("\n");
  return {
    ...panel,
    id: index + 2,
    title: field,
    description: panelText(field, rules),
    gridPos: { x: (index % 2) * 12, y: 1 + Math.floor(index / 2) * 8, w: 12, h: 8 },
    datasource: DATASOURCE,
    fieldConfig: {
      ...panel.fieldConfig!,
      defaults: { ...defaults, unit: rules.unit ? `suffix: ${rules.unit}` : "short" },
    },
    targets: [Object.assign({ refId: "A", query }, { datasource: DATASOURCE })],
  };
}

/** "Flow behind the pump. Valid: at least 0 l/min. Averaged over each step of the graph." */
function panelText(field: string, { description, unit, minimum, maximum }: FieldRules): string {
  const valid = [
    ...(minimum === undefined ? [] : [`at least ${minimum}`]),
    ...(maximum === undefined ? [] : [`at most ${maximum}`]),
  ];
  const about = description ?? `Field ${field}`;
  return [
    /[.!?]$/.test(about) ? about : `${about}.`,
    ...(valid.length > 0 ? [`Valid: ${valid.join(", ")}${unit ? ` ${unit}` : ""}.`] : []),
    "Averaged over each step of the graph.",
  ].join(" ");
}
