/**
 * No panel is empty: each query of each dashboard, with its variables at their defaults, is sent to the Prometheus,
 * InfluxDB and log store of the deployed pipeline, over the last minutes. A query without a result fails with the name of its
 * panel.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { waitFor } from "../../scripts/cli/wait.ts";
import { TelemetryStore } from "../../scripts/clients/influxdb.ts";
import type { LogStore } from "../../scripts/clients/log-backend.ts";
import { deployedLogBackend, openLogStore } from "../../scripts/clients/log-store.ts";
import { NAMESPACE, type PortForward } from "../../scripts/cluster/cluster.ts";
import { readSecret } from "../../scripts/cluster/secret-values.ts";
import { readDashboards } from "../../scripts/dashboards/definitions.ts";
import { type PanelQuery, queriesOf } from "../../scripts/dashboards/queries.ts";
import { logLines, logRates, parseLogQl } from "../../scripts/viewer/log-query.ts";
import { cluster, describeOnCluster } from "./harness.ts";

const isOn = process.env.CONVEYOR_CLUSTER_TESTS === "1";
const target = isOn ? await cluster() : undefined;
const hasLogs = target !== undefined && (await deployedLogBackend(target)) !== undefined;
const hasPrometheus = target !== undefined && (await target.get("deployment", "prometheus")) !== undefined;

/** Every rate has data after two minutes of traffic. */
const DATA_LIMIT_MS = 150_000;
const QUERY_LIMIT_MS = 30_000;
const RANGE_S = 300;

const queries = readDashboards().flatMap(queriesOf);
const isAboutLogs = ({ language, text }: PanelQuery) => language === "logql" || /\b(promtail|loki|vl)_/.test(text);
const names = (list: PanelQuery[]) =>
  list.map((query, index) => [`${query.dashboard}: ${query.panel} (${index + 1})`, query] as const);

type PrometheusAnswer = {
  status: string;
  error?: string;
  data?: { result: { values?: [number, string][]; value?: [number, string] }[] };
};

let prometheus: PortForward | undefined;
let ca = "";
let influx: TelemetryStore | undefined;
let logs: LogStore | undefined;

/** Number of finite values that Prometheus returns for a query. @throws Error with the message of Prometheus. */
async function numbersOf(query: PanelQuery): Promise<number> {
  const now = Date.now() / 1000;
  const parameters: Record<string, string> = query.instant
    ? { query: query.text, time: String(now) }
    : { query: query.text, start: String(now - RANGE_S), end: String(now), step: "15" };
  const path = query.instant ? "query" : "query_range";
  const response = await fetch(
    `https://localhost:${prometheus!.port}/api/v1/${path}?${new URLSearchParams(parameters)}`,
    { tls: { ca }, signal: AbortSignal.timeout(QUERY_LIMIT_MS) },
  );
  const answer = (await response.json()) as PrometheusAnswer;
  if (answer.status !== "success") throw new Error(answer.error ?? `Prometheus answered ${response.status}`);
  const values = (answer.data?.result ?? []).flatMap(({ values, value }) => values ?? (value ? [value] : []));
  return values.filter(([, text]) => Number.isFinite(Number(text))).length;
}

/** Waits until a query has data: after a deploy, rates need some scrapes. */
async function awaitData(query: PanelQuery, count: (query: PanelQuery) => Promise<number>): Promise<number> {
  return await waitFor(
    async () => {
      const found = await count(query);
      return found > 0 ? { done: true, value: found } : { done: false, state: `no data for ${query.text}` };
    },
    { what: `data of ${query.dashboard}: ${query.panel}`, limitMs: DATA_LIMIT_MS, intervalMs: 5000 },
  );
}

describeOnCluster("panels", () => {
  beforeAll(async () => {
    if (hasPrometheus) {
      ca = (await readSecret(target!, "prometheus-tls"))["ca.crt"] ?? "";
      prometheus = await target!.portForward("svc/prometheus", 9090, NAMESPACE);
    }
    influx = await TelemetryStore.open(target!);
    if (hasLogs) logs = await openLogStore(target!);
  });
  afterAll(async () => {
    await Promise.all([prometheus?.close(), influx?.close(), logs?.close()]);
  });

  const promql = queries.filter(({ language }) => language === "promql");
  describe.skipIf(!hasPrometheus)("Prometheus", () => {
    test.each(names(promql.filter((query) => !isAboutLogs(query))))(
      "%s",
      async (_, query) => {
        expect(await awaitData(query, numbersOf)).toBeGreaterThan(0);
      },
      DATA_LIMIT_MS + 60_000,
    );
  });

  describe("InfluxDB", () => {
    test.each(names(queries.filter(({ language }) => language === "flux")))(
      "%s",
      async (_, query) => {
        const count = async () => (await influx!.query(query.text)).length;
        expect(await awaitData(query, count)).toBeGreaterThan(0);
      },
      DATA_LIMIT_MS + 60_000,
    );
  });

  describe.skipIf(!hasLogs)("log store, and metrics of the log tier", () => {
    test.each(names(queries.filter(isAboutLogs)))(
      "%s",
      async (_, query) => {
        if (query.language === "promql") {
          expect(await awaitData(query, numbersOf)).toBeGreaterThan(0);
          return;
        }
        const count = async () => {
          const toMs = Date.now();
          const period = { fromMs: toMs - RANGE_S * 1000, toMs };
          const signal = AbortSignal.timeout(QUERY_LIMIT_MS);
          if (parseLogQl(query.text).by === undefined) {
            return (await logLines(logs!, query.text, period, signal)).entries.length;
          }
          const { series } = await logRates(logs!, query.text, period, signal);
          return series.flatMap(({ values }) => values).filter((value) => value !== null).length;
        };
        expect(await awaitData(query, count)).toBeGreaterThan(0);
      },
      DATA_LIMIT_MS + 60_000,
    );
  });
});
