/** What the first page shows: figures from Prometheus, links to the other pages, and the newest runs of this machine. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { PrometheusReader } from "../clients/prometheus.ts";
import type { Dashboard } from "../dashboards/definitions.ts";
import { RUNS_FOLDER } from "../recording/run-folder.ts";
import type { HomeLink, PipelineStatus } from "./home-page.ts";

const QUERIES = {
  inPerSecond: "sum(rate(conveyor_producer_events_acknowledged_total[1m]))",
  outPerSecond: "sum(rate(conveyor_processor_points_written_total[1m]))",
  lagEvents: 'sum(kafka_consumergroup_lag{group="processor"})',
  freshShare:
    'sum(rate(conveyor_e2e_latency_seconds_bucket{le=~"5|5[.]0"}[5m])) / sum(rate(conveyor_e2e_latency_seconds_count[5m]))',
  // `max by`: an external Prometheus may have the series of two kube-state-metrics.
  podsReady:
    'sum(max by (pod, namespace) (kube_pod_status_ready{condition="true"}) * on (pod, namespace) max by (pod, namespace) (kube_pod_status_phase{phase="Running"} == 1))',
  podsDesired: 'sum(max by (pod, namespace) (kube_pod_status_phase{phase=~"Running|Pending|Unknown|Failed"}))',
} as const;
const UNKNOWN = {
  inPerSecond: null,
  outPerSecond: null,
  lagEvents: null,
  freshShare: null,
  podsReady: null,
  podsDesired: null,
};

const runbookOf = (url: string | undefined): string | undefined => /([A-Za-z]+)\.md$/.exec(url ?? "")?.[1];

/** The figures and alerts of now; with the reason where Prometheus does not answer. */
export async function pipelineStatus(
  use: <R>(work: (prometheus: PrometheusReader) => Promise<R>) => Promise<R>,
  signal: AbortSignal,
): Promise<PipelineStatus> {
  try {
    return await use(async (prometheus) => {
      const numbers = await Promise.all(
        Object.entries(QUERIES).map(async ([name, query]) => {
          const value = (await prometheus.query(query, signal))[0]?.value;
          return [name, value !== undefined && Number.isFinite(value) ? value : null] as const;
        }),
      );
      const alerts = (await prometheus.alerts(signal))
        .filter(({ state, labels }) => state === "firing" && labels.alertname !== "Watchdog")
        .map(({ labels, annotations, activeAt }) => ({
          name: labels.alertname ?? "",
          severity: labels.severity ?? "",
          summary: annotations.summary ?? "",
          labels: Object.entries(labels)
            .filter(([name]) => !["alertname", "severity"].includes(name))
            .map(([name, value]) => `${name}=${value}`)
            .join(" "),
          ...(runbookOf(annotations.runbook_url) ? { runbook: runbookOf(annotations.runbook_url)! } : {}),
          sinceMs: Date.parse(activeAt),
        }))
        .toSorted((a, b) => (a.severity < b.severity ? -1 : a.severity > b.severity ? 1 : a.sinceMs - b.sinceMs));
      return { ...UNKNOWN, ...Object.fromEntries(numbers), alerts };
    });
  } catch (error) {
    return { ...UNKNOWN, alerts: [], problem: error instanceof Error ? error.message : String(error) };
  }
}

export const dashboardLinks = (dashboards: readonly Dashboard[]): HomeLink[] =>
  dashboards.map(({ uid, title, description }) => ({ title, url: `/d/${uid}`, about: description }));

const RUN_ID = /^\d{8}T\d{6}Z-(load-test|drills)(-\d+)?$/;
/** Files of a run that the page serves. */
const RUN_FILE = /^(report\.html|[a-z-]+\.mp4)$/;

/** The newest finished run of each kind, with its video. */
export async function runLinks(root = RUNS_FOLDER): Promise<HomeLink[]> {
  const ids = (await readdir(root).catch(() => []))
    .filter((id) => RUN_ID.test(id))
    .sort()
    .reverse();
  const links: HomeLink[] = [];
  for (const [kind, title] of [
    ["load-test", "Last load test"],
    ["drills", "Last drills"],
  ] as const) {
    for (const id of ids.filter((one) => RUN_ID.exec(one)![1] === kind)) {
      const files = await readdir(join(root, id));
      if (!files.includes("report.html")) continue;
      links.push({ title, url: `/runs/${id}/report.html`, about: id });
      const video = files.find((file) => file.endsWith(".mp4"));
      if (video) links.push({ title: `${title}: video`, url: `/runs/${id}/${video}`, about: id });
      break;
    }
  }
  return links;
}

/** A file of a run by the path of its link; undefined for any other path. */
export async function runFile(path: string, root = RUNS_FOLDER): Promise<Bun.BunFile | undefined> {
  const [id, name, ...rest] = path.split("/");
  if (!id || !name || rest.length > 0 || !RUN_ID.test(id) || !RUN_FILE.test(name)) return undefined;
  const file = Bun.file(join(root, id, name));
  return (await file.exists()) ? file : undefined;
}

const RUNBOOKS = join(import.meta.dir, "../../docs/runbooks");

/** The text of a runbook; undefined for an unknown name. */
export async function runbookText(name: string): Promise<string | undefined> {
  if (!/^[A-Za-z]+$/.test(name)) return undefined;
  const file = Bun.file(join(RUNBOOKS, `${name}.md`));
  return (await file.exists()) ? await file.text() : undefined;
}
