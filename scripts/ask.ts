/**
 * Queries Prometheus: a query, the alerts with their runbooks, or the scrape targets.
 *
 *   bun scripts/ask.ts 'sum(rate(conveyor_processor_points_written_total[1m]))'
 *   bun scripts/ask.ts --alerts        firing and pending alerts, each with its runbook
 *   bun scripts/ask.ts --targets       scrape targets and their errors
 *
 * Opens its own connection. A query of an external Prometheus is limited to the pipeline's namespaces where it names none.
 */
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { isPrometheusExternal, PrometheusReader } from "./clients/prometheus.ts";
import { alertLines, sampleLines, targetLines } from "./clients/prometheus-text.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";

const FLAGS = {
  ...CLUSTER_FLAGS,
  alerts: { type: "boolean", description: "firing and pending alerts, each with its runbook" },
  targets: { type: "boolean", description: "scrape targets, their health and errors" },
} as const;

async function main({ flags, positionals, report, signal }: CommandContext<typeof FLAGS>): Promise<void> {
  const [query] = positionals;
  const selected = [query !== undefined, flags.alerts, flags.targets].filter(Boolean).length;
  if (selected !== 1) {
    throw new OperatorError(`needs one of QUERY, --alerts, --targets; got ${selected === 0 ? "none" : "several"}`, {
      exitCode: EXIT.usage,
      hint: "bun scripts/ask.ts --help",
    });
  }
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  await using prometheus = await PrometheusReader.open(cluster);
  if (flags.alerts) {
    const alerts = await prometheus.alerts(signal);
    report.result({ alerts });
    for (const line of alertLines(alerts, Date.now())) report.print(line);
    // The own Watchdog always fires: without any alert the rules are not evaluated.
    if (alerts.length === 0 && !(await isPrometheusExternal(cluster)))
      report.warn("no alert, not even Watchdog: docs/runbooks/RuleEvaluationFailing.md");
  } else if (flags.targets) {
    const targets = await prometheus.targets(signal);
    report.result({ targets });
    for (const line of targetLines(targets)) report.print(line);
  } else {
    const samples = await prometheus.query(query!, signal);
    report.result({ query, samples });
    for (const line of sampleLines(samples)) report.print(line);
    if (samples.length === 0) report.info("no series: check the name and the labels of the query");
  }
}

export const command = defineCommand({
  name: "scripts/ask.ts",
  summary: "queries Prometheus: a query, the alerts, or the targets",
  usage: ["QUERY", "--alerts", "--targets"],
  positionals: [{ name: "QUERY", description: "PromQL; prints one line per series" }],
  flags: FLAGS,
  examples: [
    [`bun scripts/ask.ts 'kafka_consumergroup_lag_sum{group="processor"}'`, "number of waiting events"],
    ["bun scripts/ask.ts --alerts", "alerts and their runbooks"],
    ["bun scripts/ask.ts --targets --json", "as data"],
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
