/** The reader of Prometheus against a server that keeps what was asked. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { isPrometheusExternal, PrometheusReader } from "../../../scripts/clients/prometheus.ts";
import type { Cluster } from "../../../scripts/cluster/cluster.ts";

const ANSWERS: Record<string, unknown> = {
  "/api/v1/query": {
    resultType: "vector",
    result: [
      { metric: { job: "producer", instance: "10.0.0.1:9464" }, value: [0, "1"] },
      { metric: { job: "kafka", instance: "10.0.0.2:9404" }, value: [0, "0"] },
    ],
  },
  "/api/v1/query_range": { resultType: "matrix", result: [] },
  "/api/v1/targets": { activeTargets: [{ labels: { job: "own" }, health: "up", lastError: "", scrapeUrl: "u" }] },
  "/api/v1/alerts": {
    alerts: [
      { labels: { alertname: "Ours", namespace: "conveyor" }, annotations: { runbook_url: "docs/runbooks/Ours.md" } },
      { labels: { alertname: "Sum" }, annotations: { runbook_url: "docs/runbooks/Sum.md" } },
      { labels: { alertname: "Other", namespace: "other" }, annotations: { runbook_url: "docs/runbooks/Ours.md" } },
      { labels: { alertname: "Stack" }, annotations: { runbook_url: "https://runbooks.example.org/Stack" } },
    ],
  },
};

let server: Bun.Server<undefined>;
let asked: { path: string; query: string | null; token: string | null; host: string | null }[] = [];
beforeAll(() => {
  server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const { pathname, searchParams } = new URL(request.url);
      const { headers } = request;
      asked.push({
        path: pathname,
        query: searchParams.get("query"),
        token: headers.get("authorization"),
        host: headers.get("host"),
      });
      return Response.json({ status: "success", data: ANSWERS[pathname] });
    },
  });
});
beforeEach(() => {
  asked = [];
});
afterAll(() => server.stop(true));

const reader = (isExternal: boolean) => {
  const headers = { host: "prometheus.monitoring.svc:9090", authorization: "Bearer t" };
  return new PrometheusReader({ port: server.port!, headers }, async () => {}, isExternal);
};
const SCOPE = 'namespace=~"conveyor|conveyor-logging"';

test("queries of an external Prometheus are limited to the pipeline, with its token and name", async () => {
  const external = reader(true);
  expect(await external.query("sum(a)")).toHaveLength(2);
  await external.range('b{x="y"}', [0, 1000]);
  expect(asked.map(({ query }) => query)).toEqual([`sum(a{${SCOPE}})`, `b{x="y", ${SCOPE}}`]);
  expect(asked[0]).toMatchObject({ token: "Bearer t", host: "prometheus.monitoring.svc:9090" });
  await reader(false).query("sum(a)");
  expect(asked.at(-1)!.query).toBe("sum(a)");
});

test("its targets are read by a query: a token may have no other right", async () => {
  const targets = await reader(true).targets();
  expect(asked).toMatchObject([{ path: "/api/v1/query", query: `up{${SCOPE}}` }]);
  expect(targets).toMatchObject([
    { labels: { job: "producer" }, health: "up", lastError: "" },
    { labels: { job: "kafka" }, health: "down", lastError: expect.stringContaining("external Prometheus") },
  ]);
  expect((await reader(false).targets()).map(({ labels }) => labels.job)).toEqual(["own"]);
});

test("its alerts are those of the pipeline", async () => {
  const names = async (isExternal: boolean) =>
    (await reader(isExternal).alerts()).map(({ labels }) => labels.alertname);
  expect(await names(true)).toEqual(["Ours", "Sum"]);
  expect(await names(false)).toEqual(["Ours", "Sum", "Other", "Stack"]);
});

test("an external Prometheus counts as deployed", async () => {
  const clusterWith = (stores: object, deployment?: object) =>
    ({
      get: async (kind: string) =>
        kind === "configmap" ? { data: { "stores.json": JSON.stringify(stores) } } : deployment,
    }) as unknown as Cluster;
  const external = { prometheus: { url: "https://m.example.org", hasCa: false, hasToken: false, egress: [] } };
  expect(await PrometheusReader.isDeployed(clusterWith(external))).toBe(true);
  expect(await isPrometheusExternal(clusterWith(external))).toBe(true);
  expect(await PrometheusReader.isDeployed(clusterWith({}, {}))).toBe(true);
  expect(await PrometheusReader.isDeployed(clusterWith({}))).toBe(false);
});
