/**
 * Artifacts that are pictures: Grafana's dashboard and log search where Grafana is deployed; without it a log search in
 * the terminal, and the same key metrics from Prometheus.
 */
import { join } from "node:path";
import { htmlToPng } from "../browser/page-picture.ts";
import { EXIT } from "../cli/errors.ts";
import { writeAtomic } from "../cli/files.ts";
import { PrometheusReader } from "../clients/prometheus.ts";
import { panelsOf, readDashboard } from "../dashboards/definitions.ts";
import { RATE_INTERVAL } from "../dashboards/queries.ts";
import { chartStack } from "../report/charts.ts";
import { documentOf } from "../report/document.ts";
import { html } from "../report/html.ts";
import type { Artifact, EvidenceContext, Making } from "./artifact.ts";
import { lastOutputLines, runScript } from "./child-command.ts";
import { captureGrafana, GRAFANA_PICTURES, hasGrafana } from "./grafana-capture.ts";
import { type Typed, terminalPage } from "./terminal.ts";
import { pictureLogSearch } from "./viewer-pictures.ts";

const SEARCH_LIMIT_MS = 60_000;
const PICTURE_WIDTH_PX = 1400;
/** Period shown. */
const WINDOW_MS = 15 * 60_000;
/** The scrape interval of Prometheus. */
const STEP_MS = 15_000;

const GRAFANA_HINT =
  "bun scripts/deploy.ts --images DIR && bun scripts/capture.ts   (docs/logging.md says which images DIR holds)";

async function capture({ cluster, out, browser, signal, step }: EvidenceContext): Promise<Making> {
  await captureGrafana(cluster, {
    out,
    sinceMs: WINDOW_MS,
    browser,
    signal,
    step: (_file, work) => work(step.update),
  });
  return { made: true, detail: "taken from Grafana", files: GRAFANA_PICTURES.map(({ file }) => file) };
}

export const dashboard: Artifact = {
  name: "dashboard",
  title: "Grafana's dashboard with the three key metrics",
  files: ["grafana-dashboard.png"],
  async make(context) {
    if (await hasGrafana(context.cluster)) return await capture(context);
    return {
      made: false,
      reason: "Grafana is not deployed: its image is only available from a registry",
      hint: GRAFANA_HINT,
    };
  },
};

const OVERVIEW = readDashboard("pipeline-overview");
/** The panels of its first row. */
const KEY_PANELS = panelsOf(OVERVIEW).slice(0, 3);
const UNIT_NAMES: Readonly<Record<string, string>> = { short: "events", eps: "events/s", wps: "points/s" };

export const keyMetrics: Artifact = {
  name: "key-metrics",
  title:
    "producer rate, consumer lag and database inserts of the last 15 minutes: the dashboard's own queries, drawn without Grafana",
  files: ["key-metrics.png"],
  async make(context) {
    const prometheus = await PrometheusReader.open(context.cluster);
    const endMs = Math.floor(Date.now() / STEP_MS) * STEP_MS;
    const timesMs = Array.from({ length: WINDOW_MS / STEP_MS + 1 }, (_, index) => endMs - WINDOW_MS + index * STEP_MS);
    try {
      const panels = [];
      let points = 0;
      for (const { title, description = "", fieldConfig, targets = [] } of KEY_PANELS) {
        const series = [];
        for (const { expr = "", legendFormat = "" } of targets) {
          for (const { labels, values } of await prometheus.range(
            expr.replaceAll("$__rate_interval", RATE_INTERVAL),
            timesMs,
            context.signal,
          )) {
            const label = legendFormat.replaceAll(/\{\{(\w+)\}\}/g, (_, name: string) => labels[name] ?? "");
            points += values.filter((value) => value !== null).length;
            series.push({ name: label, label, values });
          }
        }
        if (series.length === 0)
          return { made: false, reason: `Prometheus has no data for "${title}"`, hint: "bun scripts/ask.ts --targets" };
        const unit = UNIT_NAMES[fieldConfig?.defaults.unit ?? ""] ?? "";
        panels.push(
          html`<div class="panel">${chartStack({ label: title, timesMs, charts: [{ title, unit, series }] })}<p class="soft">${description}</p></div>`,
        );
      }
      const title = "Pipeline overview: the three key metrics";
      const when = `${new Date(timesMs[0]!).toISOString().slice(0, 16)}Z to ${new Date(endMs).toISOString().slice(11, 16)}Z`;
      const body = html`<main><h1>${title}</h1><p class="soft">${when}, from the deployed Prometheus; drawn by bun scripts/evidence.ts with the queries of the dashboard “${OVERVIEW.title}”. Not a picture of Grafana.</p>${panels}</main>`;
      await htmlToPng(documentOf({ title, body, theme: "light" }), join(context.out, "key-metrics.png"), {
        width: PICTURE_WIDTH_PX,
        browser: context.browser,
      });
      return { made: true, detail: `${points} measured points`, files: ["key-metrics.png"] };
    } finally {
      await prometheus.close();
    }
  },
};

interface LogDocument {
  source: string;
  count: number;
  entries: { line: string }[];
}

async function search(context: EvidenceContext, ...args: string[]): Promise<LogDocument["entries"]> {
  const ran = await runScript(
    ["scripts/logs.ts", "--json", ...args, ...context.clusterFlags],
    SEARCH_LIMIT_MS,
    context.signal,
  );
  return ran.exitCode === EXIT.ok ? (JSON.parse(ran.stdout) as LogDocument).entries : [];
}

/** Identity of the newest event that both producer and processor logged. */
async function tracedEvent(context: EvidenceContext): Promise<string | undefined> {
  const lines = (await search(context, "--since", "15m", "--grep", "event_(acknowledged|stored)")).map(
    ({ line }) => line,
  );
  const identities = (kind: string) =>
    lines
      .filter((line) => line.includes(`"${kind}"`))
      .map((line) => {
        const { run, conveyor, seq } = JSON.parse(line) as { run: string; conveyor: string; seq: number };
        return `${run}/${conveyor}/${seq}`;
      });
  const stored = new Set(identities("event_stored"));
  return identities("event_acknowledged").findLast((identity) => stored.has(identity));
}

export const logSearch: Artifact = {
  name: "log-search",
  title: "a log search across components: the path of one event, and the logs of producer, processor and Kafka",
  files: ["log-search.png", "log-search.txt"],
  async make(context) {
    if (await hasGrafana(context.cluster)) return await capture(context);
    const event = await tracedEvent(context);
    if (!event) {
      return {
        made: false,
        reason: "no event was logged by both producer and processor in 15 minutes",
        hint: "bun scripts/logs.ts --grep event_",
      };
    }
    const searches = [
      `scripts/logs.ts --event ${event}`,
      "scripts/logs.ts --service producer --service processor --grep event_(acknowledged|stored|refused) --limit 12",
      "scripts/logs.ts --level error --level warn --since 1h --limit 10",
    ];
    const typed: Typed[] = [];
    for (const search of searches) {
      const ran = await runScript([...search.split(" "), ...context.clusterFlags], SEARCH_LIMIT_MS, context.signal);
      if (ran.exitCode !== EXIT.ok)
        return { made: false, reason: `exit ${ran.exitCode}: ${lastOutputLines(ran)}`, hint: ran.command };
      typed.push({ command: ran.command, output: ran.stdout.trim() || ran.stderr.trim() });
    }
    const text = typed.map(({ command, output }) => `$ ${command}\n${output}\n`).join("\n");
    await writeAtomic(join(context.out, "log-search.txt"), text);
    const path = join(context.out, "log-search.png");
    const [run, conveyor, seq] = event.split("/");
    // Every component's line about one event.
    const query = `run:="${run}" conveyor:="${conveyor}" seq:="${seq}" | format "<kubernetes.pod_name>: <_msg>" as _msg`;
    if (!(await pictureLogSearch(context, query, path))) {
      const title = "Log search over all components, in the terminal";
      await htmlToPng(terminalPage(title, typed), path, {
        width: PICTURE_WIDTH_PX,
        theme: "dark",
        browser: context.browser,
      });
    }
    return { made: true, detail: `path of event ${event}`, files: ["log-search.png", "log-search.txt"] };
  },
};
