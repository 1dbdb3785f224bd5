/** The business view: what the conveyors do, from InfluxDB. */
import { bigNumber, type DashboardSpec, type Panel, type PanelSpec, tableOf, timeSeries, type Unit } from "./panels.ts";

/** Points of one field of the chosen conveyors. */
const points = (field: string, range = "start: v.timeRangeStart, stop: v.timeRangeStop") =>
  [
    'from(bucket: "telemetry")',
    `  |> range(${range})`,
    `  |> filter(fn: (r) => r._measurement == "conveyor_telemetry" and r._field == "${field}")`,
    // A fleet may have hundreds of conveyors: a regular expression over the one tag is what the index is made for.
    // biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana's syntax, replaced by Grafana
    "  |> filter(fn: (r) => r.conveyor =~ /^(${conveyor:regex})$/)",
  ].join("\n");

/** One line per conveyor. */
const perConveyor = (field: string) =>
  `${points(field)}\n  |> aggregateWindow(every: v.windowPeriod, fn: mean, createEmpty: false)\n  |> keep(columns: ["_time", "_value", "conveyor"])`;

function measured(
  title: string,
  field: string,
  unit: Unit,
  more: Pick<PanelSpec, "description"> & Partial<PanelSpec>,
): Panel {
  return timeSeries({ title, unit, width: 12, queries: [{ flux: perConveyor(field) }], ...more });
}

/** How many conveyors were in a state at their last event. */
const inState = (state: string) =>
  [
    points("state"),
    "  |> last()",
    "  |> group()",
    `  |> map(fn: (r) => ({ _time: r._time, _value: if r._value == "${state}" then 1 else 0 }))`,
    "  |> sum()",
  ].join("\n");

export const conveyors: DashboardSpec = {
  uid: "conveyors",
  title: "Conveyors",
  description: "The business view: speed, load, temperature, vibration and state of the conveyors, from InfluxDB.",
  variables: [
    {
      name: "conveyor",
      label: "Conveyor",
      description: "Which conveyors to show",
      from: {
        flux: 'import "influxdata/influxdb/schema"\nschema.tagValues(bucket: "telemetry", tag: "conveyor", start: -1h)',
      },
      all: ".*",
    },
  ],
  rows: [
    {
      title: "Now",
      panels: [
        bigNumber({
          title: "Conveyors",
          description: "Conveyors that sent at least one event in the time shown.",
          unit: "short",
          decimals: 0,
          queries: [
            {
              flux: `${points("seq")}\n  |> last()\n  |> keep(columns: ["_time", "conveyor"])\n  |> group()\n  |> count(column: "conveyor")\n  |> rename(columns: {conveyor: "_value"})`,
            },
          ],
        }),
        ...(
          [
            ["running", "Conveyors whose last event says that they run."],
            ["idle", "Conveyors whose last event says that they run empty."],
            ["stopped", "Conveyors whose last event says that they stand."],
            ["fault", "Conveyors whose last event says that something is broken: send somebody."],
          ] as const
        ).map(([state, description]) =>
          bigNumber({
            title: `State: ${state}`,
            description,
            unit: "short",
            decimals: 0,
            ...(state === "fault" ? { thresholds: [[1, "red"]] as const } : {}),
            queries: [{ flux: inState(state) }],
          }),
        ),
        bigNumber({
          title: "Hottest motor",
          description: "The highest motor temperature among the last events of the conveyors.",
          unit: "celsius",
          decimals: 1,
          thresholds: [
            [80, "yellow"],
            [95, "red"],
          ],
          queries: [
            {
              flux: `${points("motor_temp_c")}\n  |> last()\n  |> group()\n  |> max()\n  |> keep(columns: ["_time", "_value"])`,
            },
          ],
        }),
      ],
    },
    {
      title: "Over time",
      panels: [
        measured("Speed", "speed_mps", "velocityms", {
          description: "Speed of the belt, averaged over each step of the graph.",
          min: 0,
        }),
        measured("Load", "load_kg", "masskg", {
          description: "Load on the belt, averaged over each step of the graph.",
          min: 0,
        }),
        measured("Motor temperature", "motor_temp_c", "celsius", {
          description: "Temperature of the motor. Above 80 °C it wants a look, above 95 °C it will stop soon.",
          thresholds: [
            [80, "yellow"],
            [95, "red"],
          ],
        }),
        measured("Vibration", "vibration_mm_s", "mm/s", {
          description: "Vibration velocity at the bearing. A slow rise over days is wear; a jump is damage.",
          min: 0,
        }),
      ],
    },
    {
      title: "Events",
      panels: [
        timeSeries({
          title: "Events stored per conveyor",
          description:
            "Points per step of the graph, counted in the database itself: what dashboards and audits can see.",
          unit: "short",
          min: 0,
          width: 12,
          queries: [
            {
              flux: `${points("seq")}\n  |> aggregateWindow(every: v.windowPeriod, fn: count, createEmpty: false)\n  |> keep(columns: ["_time", "_value", "conveyor"])`,
            },
          ],
        }),
        tableOf({
          title: "Last event of each conveyor",
          description:
            "Time and values of the last event in the time shown. One that is older than the others has stopped sending.",
          unit: "none",
          width: 12,
          queries: [
            {
              flux: [
                'from(bucket: "telemetry")',
                "  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)",
                '  |> filter(fn: (r) => r._measurement == "conveyor_telemetry")',
                // biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana's syntax, replaced by Grafana
                "  |> filter(fn: (r) => r.conveyor =~ /^(${conveyor:regex})$/)",
                "  |> last()",
                '  |> pivot(rowKey: ["conveyor"], columnKey: ["_field"], valueColumn: "_value")',
                "  |> group()",
                '  |> keep(columns: ["conveyor", "state", "speed_mps", "load_kg", "motor_temp_c", "vibration_mm_s", "run", "seq"])',
                '  |> sort(columns: ["conveyor"])',
              ].join("\n"),
            },
          ],
        }),
      ],
    },
  ],
};
