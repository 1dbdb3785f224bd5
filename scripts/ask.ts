/**
 * Asks Prometheus, from the terminal: a query, what is firing with the page to open, or what is scraped.
 *
 *   bun scripts/ask.ts 'sum(rate(conveyor_processor_points_written_total[1m]))'
 *   bun scripts/ask.ts --alerts        what is firing or about to, and its runbook
 *   bun scripts/ask.ts --targets       what is scraped, and why not
 *
 * Opens a port-forward of its own, over TLS verified against the deployment's CA; nothing has to be left running.
 */
import { runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { formatDuration } from "./cli/report.ts";
import { type Alert, PrometheusReader, type Target, type VectorSample } from "./clients/prometheus.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";

/** Digits of a value that a person reads; --json has them all. */
const SIGNIFICANT_DIGITS = 6;

const valueText = (value: number) =>
  Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(SIGNIFICANT_DIGITS)));

/** Labels that every series has and that tell a person nothing here; --json has them all. */
const COMMON_LABELS = ["__name__", "namespace", "service", "container", "endpoint"];

/** `name=value` pairs, sorted, without those named; an instance's address only where there is no pod's name. */
function labelText(labels: Readonly<Record<string, string>>, without: readonly string[] = COMMON_LABELS): string {
  return Object.keys(labels)
    .filter((name) => !without.includes(name) && !(name === "instance" && labels.pod !== undefined))
    .sort()
    .map((name) => `${name}=${labels[name]}`)
    .join(" ");
}

/** One line a sample: the value, then its labels. */
export function sampleLines(samples: readonly VectorSample[]): string[] {
  const width = Math.max(0, ...samples.map(({ value }) => valueText(value).length));
  return samples
    .map(({ labels, value }) => [valueText(value).padStart(width), labelText(labels)] as const)
    .sort(([, a], [, b]) => (a < b ? -1 : 1))
    .map(([value, labels]) => `${value}  ${labels}`.trimEnd());
}

const SEVERITY_ORDER = ["critical", "warning", "none"];

/** One line an alert, the worst first: state, severity, name, for how long, the page to open, what it is about. */
export function alertLines(alerts: readonly Alert[], nowMs: number): string[] {
  const rank = ({ labels }: Alert) => SEVERITY_ORDER.indexOf(labels.severity ?? "none");
  return [...alerts]
    .sort((a, b) => rank(a) - rank(b) || (labelText(a.labels) < labelText(b.labels) ? -1 : 1))
    .map(({ labels, annotations, state, activeAt }) => {
      const age = formatDuration(Math.max(0, nowMs - Date.parse(activeAt)));
      const about = labelText(labels, ["alertname", "severity", ...COMMON_LABELS]);
      return [
        state.padEnd(8),
        (labels.severity ?? "").padEnd(9),
        labels.alertname,
        `for ${age}`,
        annotations.runbook_url ?? "",
        about,
      ]
        .filter(Boolean)
        .join(" ");
    });
}

/** One line a target: up or down, job, address, and what went wrong. */
export function targetLines(targets: readonly Target[]): string[] {
  return targets
    .map(({ health, labels, scrapeUrl, lastError }) =>
      `${health.padEnd(8)}${(labels.job ?? "").padEnd(20)}${(labels.pod ?? labels.instance ?? "").padEnd(40)}${scrapeUrl}  ${lastError}`.trimEnd(),
    )
    .sort();
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/ask.ts",
      summary: "asks Prometheus: a query, the alerts, or the targets",
      usage: ["QUERY", "--alerts", "--targets"],
      positionals: [{ name: "QUERY", description: "PromQL; the answer is one line a series" }],
      flags: {
        ...CLUSTER_FLAGS,
        alerts: { type: "boolean", description: "alerts that are firing or pending, each with its runbook" },
        targets: { type: "boolean", description: "what is scraped, whether it answers, and if not why" },
      },
      examples: [
        [`bun scripts/ask.ts 'kafka_consumergroup_lag_sum{group="processor"}'`, "how many events wait"],
        ["bun scripts/ask.ts --alerts", "what is wrong, and which page to open"],
        ["bun scripts/ask.ts --targets --json", "for a machine"],
      ],
    },
    async ({ flags, positionals, report, signal }) => {
      const [query] = positionals;
      const asked = [query !== undefined, flags.alerts, flags.targets].filter(Boolean).length;
      if (asked !== 1) {
        throw new OperatorError(`needs one of QUERY, --alerts, --targets; got ${asked === 0 ? "none" : "several"}`, {
          exitCode: EXIT.usage,
          hint: "bun scripts/ask.ts --help",
        });
      }
      const cluster = await selectCluster(flags, localTarget);
      await requireReachable(cluster, signal);
      const prometheus = await PrometheusReader.open(cluster);
      try {
        if (flags.alerts) {
          const alerts = await prometheus.alerts(signal);
          report.result({ alerts });
          for (const line of alertLines(alerts, Date.now())) report.print(line);
          // The dead-man's switch always fires: none at all means that the rules are not evaluated.
          if (alerts.length === 0)
            report.warn("no alert at all, not even Watchdog: docs/runbooks/RuleEvaluationFailing.md");
        } else if (flags.targets) {
          const targets = await prometheus.targets(signal);
          report.result({ targets });
          for (const line of targetLines(targets)) report.print(line);
        } else {
          const samples = await prometheus.query(query!, signal);
          report.result({ query, samples });
          for (const line of sampleLines(samples)) report.print(line);
          if (samples.length === 0) report.info("no series: the name or a label is wrong, or nothing reports it");
        }
      } finally {
        await prometheus.close();
      }
      return EXIT.ok;
    },
  );
}
