/** The lines of all components in one place: by service, level, word, or the identity of an event. */
import { type DashboardSpec, logLines, timeSeries } from "./panels.ts";

const STREAMS = '{namespace="conveyor", service=~"$service", level=~"$level"}';
/** Structured metadata of the event's identity; an empty text box lets everything through. */
const SEARCH = '|~ "(?i)$search" | run=~"$run.*" | conveyor=~"$conveyor.*" | seq=~"$seq.*"';

export const logs: DashboardSpec = {
  uid: "logs",
  title: "Logs",
  description: "Lines of all components, by service, level, word or the identity of an event (run, conveyor, seq).",
  variables: [
    {
      name: "service",
      label: "Service",
      description: "Who speaks",
      from: { lokiLabel: "service", stream: '{namespace="conveyor"}' },
      all: ".+",
    },
    {
      name: "level",
      label: "Level",
      description: "How bad it is",
      from: { choices: ["error", "warn", "info", "debug", "unknown"] },
      all: ".+",
    },
    { name: "search", label: "Text", description: "A word or regular expression in the line", from: { text: "" } },
    { name: "run", label: "Run", description: "Identity: the run of an event, its beginning", from: { text: "" } },
    { name: "conveyor", label: "Conveyor", description: "Identity: the conveyor of an event", from: { text: "" } },
    { name: "seq", label: "Seq", description: "Identity: the number of an event", from: { text: "" } },
  ],
  rows: [
    {
      title: "How much",
      panels: [
        timeSeries({
          title: "Lines by service",
          description: "Lines per second of each service that match the choice above.",
          unit: "short",
          min: 0,
          width: 12,
          height: 6,
          stacked: true,
          queries: [{ logql: `sum by (service) (rate(${STREAMS} ${SEARCH} [$__auto]))`, legend: "{{service}}" }],
        }),
        timeSeries({
          title: "Lines by level",
          description:
            "Lines per second of each level that match the choice above. Errors and warnings want to be read.",
          unit: "short",
          min: 0,
          width: 12,
          height: 6,
          stacked: true,
          queries: [{ logql: `sum by (level) (rate(${STREAMS} ${SEARCH} [$__auto]))`, legend: "{{level}}" }],
        }),
      ],
    },
    {
      title: "Lines",
      panels: [
        logLines({
          title: "Log lines",
          description:
            "Newest first. Open a line to see its labels and the identity of the event it speaks of; the same in the terminal: bun scripts/logs.ts.",
          unit: "none",
          queries: [{ logql: `${STREAMS} ${SEARCH}` }],
        }),
      ],
    },
    {
      title: "Delivery",
      panels: [
        timeSeries({
          title: "Lines read and delivered by Promtail",
          description:
            "Lines per second that the collector read from the nodes' files and that Loki has confirmed. They differ while Loki is away.",
          unit: "short",
          min: 0,
          width: 12,
          queries: [
            { promql: "sum(rate(promtail_read_lines_total[$__rate_interval]))", legend: "read" },
            { promql: "sum(rate(promtail_sent_entries_total[$__rate_interval]))", legend: "delivered" },
          ],
        }),
        timeSeries({
          title: "Lines lost or refused",
          description:
            "Lines per second that the collector dropped or that Loki refused, by reason. It should be 0: docs/logging.md.",
          unit: "short",
          min: 0,
          width: 12,
          queries: [
            {
              promql: "sum by (reason) (rate(promtail_dropped_entries_total[$__rate_interval]))",
              legend: "Promtail: {{reason}}",
            },
            {
              promql:
                'sum by (reason) (rate(loki_discarded_samples_total[$__rate_interval])) or label_replace(vector(0), "reason", "none", "", "")',
              legend: "Loki: {{reason}}",
            },
          ],
        }),
      ],
    },
  ],
};
