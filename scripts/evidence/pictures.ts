/**
 * Subjects that are pictures: Grafana's dashboard and log search where Grafana is deployed; a search in the terminal and
 * the same three questions asked of Prometheus where it is not.
 */
import { join } from "node:path";
import { htmlToPng } from "../browser/page-picture.ts";
import { EXIT } from "../cli/errors.ts";
import { writeAtomic } from "../cli/files.ts";
import { PrometheusReader } from "../clients/prometheus.ts";
import { overview } from "../dashboards/overview.ts";
import { chartStack } from "../report/charts.ts";
import { documentOf } from "../report/document.ts";
import { html } from "../report/html.ts";
import type { Artifact, EvidenceContext, Making } from "./artifact.ts";
import { lastOutputLines, runScript } from "./child-command.ts";
import { type Typed, terminalPage } from "./terminal.ts";

/** Grafana draws within seconds; starting a browser on a busy machine takes as long. */
const CAPTURE_LIMIT_MS = 300_000;
const SEARCH_LIMIT_MS = 60_000;
const PICTURE_WIDTH_PX = 1400;
/** What is shown of the past. */
const WINDOW_MS = 15 * 60_000;
/** Prometheus looks every 15 s. */
const STEP_MS = 15_000;
/** In place of Grafana's own: four looks, as it chooses. */
const RATE_INTERVAL = "1m";

const GRAFANA_HINT =
  "bun scripts/deploy.ts --images DIR && bun scripts/capture.ts   (docs/logging.md says which images DIR holds)";

const hasGrafana = async (context: EvidenceContext) =>
  (await (await context.cluster()).get("deployment", "grafana")) !== undefined;

const browserFlags = ({ browser }: EvidenceContext) => (browser ? ["--browser", browser] : []);

async function capture(context: EvidenceContext): Promise<Making> {
  const args = ["scripts/capture.ts", "--out", context.out, ...browserFlags(context), ...context.clusterFlags];
  const ran = await runScript(args, CAPTURE_LIMIT_MS, context.signal);
  return ran.exitCode === EXIT.ok
    ? { made: true, detail: "taken from Grafana", files: ["grafana-dashboard.png", "log-search.png"] }
    : { made: false, reason: `exit ${ran.exitCode}: ${lastOutputLines(ran)}`, hint: "bun scripts/capture.ts" };
}

export const dashboard: Artifact = {
  name: "dashboard",
  title: "Grafana's dashboard with the three key metrics",
  files: ["grafana-dashboard.png"],
  async make(context) {
    if (await hasGrafana(context)) return await capture(context);
    return {
      made: false,
      reason: "Grafana is not deployed here: its image cannot be had on this machine, only from a registry",
      hint: GRAFANA_HINT,
    };
  },
};

/** The three questions of the dashboard's first row. */
const KEY_PANELS = overview.rows[0]!.panels;

export const keyMetrics: Artifact = {
  name: "key-metrics",
  title:
    "producer rate, consumer lag and database inserts of the last 15 minutes: the dashboard's own queries, drawn without Grafana",
  files: ["key-metrics.png"],
  async make(context) {
    const prometheus = await PrometheusReader.open(await context.cluster());
    const endMs = Math.floor(Date.now() / STEP_MS) * STEP_MS;
    const timesMs = Array.from({ length: WINDOW_MS / STEP_MS + 1 }, (_, index) => endMs - WINDOW_MS + index * STEP_MS);
    try {
      const panels = [];
      let points = 0;
      for (const { title, description, unit, queries } of KEY_PANELS) {
        const series = [];
        for (const query of queries) {
          if (!("promql" in query)) continue;
          const { promql, legend } = query;
          for (const { labels, values } of await prometheus.range(
            promql.replaceAll("$__rate_interval", RATE_INTERVAL),
            timesMs,
            context.signal,
          )) {
            const label = legend.replaceAll(/\{\{(\w+)\}\}/g, (_, name: string) => labels[name] ?? "");
            points += values.filter((value) => value !== null).length;
            series.push({ name: label, label, values });
          }
        }
        if (series.length === 0)
          return { made: false, reason: `Prometheus has nothing for "${title}"`, hint: "bun scripts/ask.ts --targets" };
        const words = unit === "short" ? "events" : unit === "eps" ? "events/s" : "points/s";
        panels.push(
          html`<div class="panel">${chartStack({ label: title, timesMs, charts: [{ title, unit: words, series }] })}<p class="soft">${description}</p></div>`,
        );
      }
      const title = "Pipeline overview: the three key metrics";
      const when = `${new Date(timesMs[0]!).toISOString().slice(0, 16)}Z to ${new Date(endMs).toISOString().slice(11, 16)}Z`;
      const body = html`<main><h1>${title}</h1><p class="soft">${when}, from the deployed Prometheus; drawn by bun scripts/evidence.ts with the queries of the dashboard “${overview.title}”. Not a picture of Grafana.</p>${panels}</main>`;
      await htmlToPng(documentOf({ title, body, theme: "light" }), join(context.out, "key-metrics.png"), {
        width: PICTURE_WIDTH_PX,
        ...(context.browser ? { browser: context.browser } : {}),
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

/** Identity of the newest event that both producer and processor have logged. */
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
  title: "a log search filtered across components: one event's way, and what producer, processor and Kafka say",
  files: ["log-search.png", "log-search.txt"],
  async make(context) {
    if (await hasGrafana(context)) return await capture(context);
    const event = await tracedEvent(context);
    if (!event) {
      return {
        made: false,
        reason: "no event was traced through producer and processor in 15 minutes",
        hint: "bun scripts/logs.ts --grep event_",
      };
    }
    const searches = [
      ["scripts/logs.ts", "--event", event],
      [
        "scripts/logs.ts",
        "--service",
        "producer",
        "--service",
        "processor",
        "--grep",
        "event_(acknowledged|stored|refused)",
        "--limit",
        "12",
      ],
      ["scripts/logs.ts", "--level", "error", "--level", "warn", "--since", "1h", "--limit", "10"],
    ];
    const typed: Typed[] = [];
    for (const search of searches) {
      const ran = await runScript([...search, ...context.clusterFlags], SEARCH_LIMIT_MS, context.signal);
      if (ran.exitCode !== EXIT.ok)
        return { made: false, reason: `exit ${ran.exitCode}: ${lastOutputLines(ran)}`, hint: ran.command };
      typed.push({ command: ran.command, output: ran.stdout.trim() || ran.stderr.trim() });
    }
    const text = typed.map(({ command, output }) => `$ ${command}\n${output}\n`).join("\n");
    await writeAtomic(join(context.out, "log-search.txt"), text);
    await htmlToPng(
      terminalPage(
        "Log search over all components, in the terminal (this cluster has no Loki: the pods' own logs)",
        typed,
      ),
      join(context.out, "log-search.png"),
      { width: PICTURE_WIDTH_PX, theme: "dark", ...(context.browser ? { browser: context.browser } : {}) },
    );
    return { made: true, detail: `the way of ${event}`, files: ["log-search.png", "log-search.txt"] };
  },
};
