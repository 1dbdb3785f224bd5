/** Samples, alerts and targets of Prometheus as lines of text. */
import { formatDuration } from "../cli/report.ts";
import type { Alert, Target, VectorSample } from "./prometheus.ts";

const SIGNIFICANT_DIGITS = 6;
const SEVERITY_ORDER = ["critical", "warning", "none"];
/** Labels that every series has. */
const COMMON_LABELS = ["__name__", "namespace", "service", "container", "endpoint"];

const valueText = (value: number) =>
  Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(SIGNIFICANT_DIGITS)));

/** `name=value` pairs, sorted, without some; the instance's address only without a pod's name. */
function labelText(labels: Readonly<Record<string, string>>, without: readonly string[] = COMMON_LABELS): string {
  return Object.keys(labels)
    .filter((name) => !without.includes(name) && !(name === "instance" && labels.pod !== undefined))
    .sort()
    .map((name) => `${name}=${labels[name]}`)
    .join(" ");
}

/** One line per sample: the value, then its labels. */
export function sampleLines(samples: readonly VectorSample[]): string[] {
  const width = Math.max(0, ...samples.map(({ value }) => valueText(value).length));
  return samples
    .map(({ labels, value }) => [valueText(value).padStart(width), labelText(labels)] as const)
    .sort(([, a], [, b]) => (a < b ? -1 : 1))
    .map(([value, labels]) => `${value}  ${labels}`.trimEnd());
}

/** One line per alert, by severity: state, severity, name, duration, runbook, labels. */
export function alertLines(alerts: readonly Alert[], nowMs: number): string[] {
  const rank = ({ labels }: Alert) => SEVERITY_ORDER.indexOf(labels.severity ?? "none");
  return [...alerts]
    .sort((a, b) => rank(a) - rank(b) || (labelText(a.labels) < labelText(b.labels) ? -1 : 1))
    .map(({ labels, annotations, state, activeAt }) =>
      [
        state.padEnd(8),
        (labels.severity ?? "").padEnd(9),
        labels.alertname,
        `for ${formatDuration(Math.max(0, nowMs - Date.parse(activeAt)))}`,
        annotations.runbook_url ?? "",
        labelText(labels, ["alertname", "severity", ...COMMON_LABELS]),
      ]
        .filter(Boolean)
        .join(" "),
    );
}

/** One line per target: health, job, address, last error. */
export function targetLines(targets: readonly Target[]): string[] {
  return targets
    .map(({ health, labels, scrapeUrl, lastError }) => {
      const name = (labels.pod ?? labels.instance ?? "").padEnd(40);
      return `${health.padEnd(8)}${(labels.job ?? "").padEnd(20)}${name}${scrapeUrl}  ${lastError}`.trimEnd();
    })
    .sort();
}
