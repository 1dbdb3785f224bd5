import { beforeAll, describe, expect, test } from "bun:test";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { type Cluster, KubectlError, type KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { type ExternalSettings, openPorts, readExternalFile, withExternal } from "../../../scripts/deploy/external.ts";
import { namespaceOfPrometheus, prometheusWarnings } from "../../../scripts/deploy/external-prometheus.ts";
import { containersOf, podTemplateOf, withHashes } from "../../../scripts/deploy/manifests.ts";
import { contentsOf, fillSecrets } from "../../../scripts/deploy/secrets.ts";
import { loadStages, type Stage } from "../../../scripts/deploy/stages.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----";
const folder = temporaryFolder();

/** A cluster with one Service, whose pods name their port. */
const cluster = {
  get: async (kind: string, name: string, namespace: string) =>
    kind === "service" && name === "prometheus" && namespace === "monitoring"
      ? { spec: { ports: [{ port: 9090, targetPort: "web" }] } }
      : undefined,
} as unknown as Cluster;

async function settingsOf(yaml: string): Promise<ExternalSettings> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "ca.pem"), PEM);
  await writeFile(join(folder, "token"), "token-value\n");
  const path = join(folder, "external.yaml");
  await writeFile(path, yaml);
  return await readExternalFile(path, cluster);
}

const PLAIN = "prometheus:\n  url: http://prometheus.monitoring.svc:9090/\n";
const VERIFIED = "prometheus:\n  url: https://metrics.example.org\n  caFile: ca.pem\n";
const SECURED = `${VERIFIED}  tokenFile: token\n`;
const NAMESPACES = 'namespace=~"conveyor|conveyor-logging"';

describe("the section prometheus", () => {
  test("may be plain HTTP for a Service of the cluster", async () => {
    const { stores } = await settingsOf(PLAIN);
    expect(stores.prometheus).toEqual({
      url: "http://prometheus.monitoring.svc:9090",
      hasCa: false,
      hasToken: false,
      egress: [9090, "web"].map((port) => ({
        to: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "monitoring" } } }],
        ports: [{ protocol: "TCP", port }],
      })),
    });
    expect(openPorts(stores)).toEqual([]);
  });

  test("keeps CA and token apart from the settings", async () => {
    const { stores, secrets } = await settingsOf(SECURED);
    expect(stores.prometheus).toMatchObject({ url: "https://metrics.example.org", hasCa: true, hasToken: true });
    expect(JSON.stringify(stores)).not.toContain("token-value");
    expect(secrets["external-prometheus"]).toEqual({ "ca.crt": PEM, token: "token-value" });
    expect(openPorts(stores)).toEqual([443]);
  });

  const rule =
    "prometheus.url: must be https://HOST:PORT, or http://SERVICE.NAMESPACE.svc:PORT for a Service of the cluster, without a path; got";
  test.each([
    ["plain HTTP to another host", "prometheus: { url: http://metrics.example.org }", rule],
    ["plain HTTP to a name like a Service's", "prometheus: { url: http://a.b.svc.example.org:9090 }", rule],
    ["a path", "prometheus: { url: https://metrics.example.org/prometheus }", rule],
    ["no address", "prometheus: { tokenFile: token }", "prometheus.url: is required"],
    ["a CA without TLS", `${PLAIN}  caFile: ca.pem\n`, "prometheus.caFile: needs an https:// address"],
    ["an unknown field", `${PLAIN}  user: x\n`, "prometheus.user: is not a field (url, caFile, tokenFile, cidrs)"],
  ])("%s is refused", async (_what, yaml, message) => {
    expect(String(await settingsOf(yaml).catch((error: unknown) => error))).toContain(message);
  });
});

describe("the stages with an external Prometheus", () => {
  let own: Stage[];
  beforeAll(async () => {
    own = await loadStages();
  });
  const stagesWith = async (yaml: string) => withExternal(own, await settingsOf(yaml));
  const objectsOf = (stages: readonly Stage[]) => stages.flatMap(({ objects }) => objects);
  const find = (objects: readonly KubernetesObject[], kind: string, name: string) =>
    objects.find((object) => object.kind === kind && object.metadata.name === name);
  const dataOf = (objects: readonly KubernetesObject[], name: string) =>
    find(objects, "ConfigMap", name)!.data as Record<string, string>;

  test("have neither Prometheus nor Alertmanager, and what prometheus-operator reads", async () => {
    const stages = await stagesWith(PLAIN);
    const gone = ["node-metrics", "node-alerts", "logging-alerts"];
    expect(stages.map(({ name }) => name)).toEqual(own.map(({ name }) => name).filter((name) => !gone.includes(name)));
    // Without the log tier there are no rules about it.
    expect(stages.find(({ name }) => name === "operator-rules-logging")?.needsStage).toBe("logging");
    const objects = objectsOf(stages);
    const ofTiers = objects
      .filter(({ metadata }) => /^(prometheus|alertmanager)$/.test(metadata.labels?.["app.kubernetes.io/name"] ?? ""))
      .filter(({ kind }) => kind !== "ServiceMonitor" && kind !== "PrometheusRule");
    expect(ofTiers.map(({ kind, metadata }) => `${kind}/${metadata.name}`)).toEqual(["Secret/prometheus-tls"]);
    const monitors = objects.filter(({ kind }) => kind === "ServiceMonitor").map(({ metadata }) => metadata.name);
    expect(monitors).toEqual(expect.arrayContaining(["producer", "kafka", "kube-state-metrics", "promtail"]));
    expect(monitors.filter((name) => name === "prometheus" || name === "alertmanager")).toEqual([]);
    expect(objects.filter(({ kind }) => kind === "PrometheusRule").length).toBeGreaterThan(5);
    expect(find(objects, "Deployment", "kube-state-metrics")).toBeDefined();
    const rules = JSON.stringify(find(objects, "PrometheusRule", "prometheus-rules-monitoring")!.spec);
    expect(rules).toContain(String.raw`absent(up{job=\"kube-state-metrics\"`);
    expect(rules).not.toMatch(/absent\(up\{job=.."(prometheus|alertmanager)/);
  });

  test("no pod connects to the own servers", async () => {
    for (const object of objectsOf(await stagesWith(PLAIN))) {
      const template = podTemplateOf(object);
      const environment = template ? JSON.stringify(containersOf(template.spec).map(({ env }) => env)) : "";
      expect(environment).not.toMatch(/(prometheus|alertmanager)\.conveyor\.svc/);
    }
  });

  test("policies let no pod of the own servers in, and Grafana and the relay out to the external one", async () => {
    const objects = objectsOf(await stagesWith(PLAIN));
    const { egress: rules } = (await settingsOf(PLAIN)).stores.prometheus!;
    const spec = (name: string) =>
      find(objects, "NetworkPolicy", name)!.spec as { egress: unknown[]; ingress: { from: unknown[] }[] };
    expect(spec("grafana").egress).toEqual(expect.arrayContaining(rules));
    expect(spec("observer").egress).toEqual(expect.arrayContaining(rules));
    expect(spec("producer").egress).not.toEqual(expect.arrayContaining(rules));
    expect(spec("allow-scrape").ingress[0]!.from).toEqual([
      {
        namespaceSelector: { matchLabels: { "conveyor.dev/scrape": "true" } },
        podSelector: { matchLabels: { "app.kubernetes.io/name": "prometheus" } },
      },
    ]);
    for (const policy of objects.filter(({ kind }) => kind === "NetworkPolicy")) {
      for (const { from } of (policy.spec as { ingress?: { from?: unknown[] }[] }).ingress ?? []) {
        expect(from).not.toEqual([]);
      }
    }
  });

  interface Trigger {
    authenticationRef?: { name: string };
    metadata: Record<string, string>;
  }
  const triggersOf = (objects: readonly KubernetesObject[]) =>
    (find(objects, "ScaledObject", "processor")!.spec as { triggers: Trigger[] }).triggers;
  const authenticationOf = (objects: readonly KubernetesObject[]) =>
    find(objects, "TriggerAuthentication", "processor-scaling")?.spec;

  test("KEDA queries the external server, for this pipeline alone", async () => {
    const objects = objectsOf(await stagesWith(PLAIN));
    for (const { metadata, authenticationRef } of triggersOf(objects)) {
      expect(metadata.serverAddress).toBe("http://prometheus.monitoring.svc:9090");
      expect([metadata.authModes, authenticationRef]).toEqual([undefined, undefined]);
      expect(metadata.query).toContain(`conveyor_processor_write_pending_seconds{${NAMESPACES}}[30s]`);
      expect(metadata.query).toContain('kube_deployment_spec_replicas{namespace="conveyor",deployment="processor"}');
    }
    expect(triggersOf(objects)[0]!.metadata.query).toContain(
      `kafka_consumergroup_lag_sum{group="processor",topic="conveyor.events", ${NAMESPACES}}[15s]`,
    );
    expect(authenticationOf(objects)).toBeUndefined();
    expect(find(objects, "ConfigMap", "processor-scaling")).toBeUndefined();
  });

  test("KEDA has the CA and the token that are given", async () => {
    const verified = objectsOf(await stagesWith(VERIFIED));
    expect(triggersOf(verified)[0]).toMatchObject({
      authenticationRef: { name: "processor-scaling" },
      metadata: { authModes: "custom" },
    });
    expect(authenticationOf(verified)).toEqual(authenticationOf(objectsOf(own)));
    const secured = objectsOf(await stagesWith(SECURED));
    expect(triggersOf(secured)[1]!.metadata.authModes).toBe("bearer");
    expect(authenticationOf(secured)).toEqual({
      configMapTargetRef: [{ parameter: "ca", name: "processor-scaling", key: "ca.crt" }],
      secretTargetRef: [{ parameter: "bearerToken", name: "external-prometheus", key: "token" }],
    });
    const filled = await fillSecrets(secured, { file: async () => "own", live: async () => undefined });
    expect(dataOf(filled, "processor-scaling")["ca.crt"]).toBe(PEM);
    expect(contentsOf(filled)["external-prometheus"]).toEqual({ "ca.crt": PEM, token: "token-value" });
    const tokens = { "influxdb-token-processor": {}, "influxdb-token-reader": {}, "kafka-cluster-id": {} };
    const secrets = { ...tokens, ...contentsOf(filled) };
    expect(() => withHashes(filled, { configuration: filled, secrets })).not.toThrow();
  });

  interface Source {
    url: string;
    jsonData: object;
    secureJsonData?: object;
  }
  test.each([
    ["plain", PLAIN, "http://prometheus.monitoring.svc:9090", {}, undefined],
    [
      "with a CA",
      VERIFIED,
      "https://metrics.example.org",
      { tlsAuthWithCACert: true },
      { tlsCACert: "$__file{/external/prometheus/ca.crt}" },
    ],
    [
      "with CA and token",
      SECURED,
      "https://metrics.example.org",
      { tlsAuthWithCACert: true, httpHeaderName1: "Authorization" },
      {
        tlsCACert: "$__file{/external/prometheus/ca.crt}",
        httpHeaderValue1: "Bearer $__file{/external/prometheus/token}",
      },
    ],
    [
      "with a token",
      `${PLAIN}  tokenFile: token\n`,
      "http://prometheus.monitoring.svc:9090",
      { httpHeaderName1: "Authorization" },
      { httpHeaderValue1: "Bearer $__file{/external/prometheus/token}" },
    ],
  ])("Grafana reads it: %s", async (_what, yaml, url, json, secure) => {
    const objects = objectsOf(await stagesWith(yaml));
    const sources = (parse(dataOf(objects, "grafana")["datasources.yaml"]!) as { datasources: Source[] }).datasources;
    expect(sources[0]).toMatchObject({ url, jsonData: { httpMethod: "POST", timeInterval: "15s", ...json } });
    expect(sources[0]!.secureJsonData).toEqual(secure);
    expect(sources[1]).toMatchObject({ url: "https://loki.conveyor.svc:3100" });
    const volumes = podTemplateOf(find(objects, "Deployment", "grafana")!)!.spec.volumes!.map(({ name }) => name);
    expect(volumes.includes("external-prometheus")).toBe(secure !== undefined);
  });

  test("dashboards query this pipeline alone; queries of logs stay", async () => {
    const [before, after] = [own, await stagesWith(PLAIN)].map((stages) =>
      dataOf(objectsOf(stages), "grafana-dashboards"),
    );
    const overview = after!["pipeline-overview.json"]!;
    expect(overview).toContain(String.raw`namespace=~\"conveyor|conveyor-logging\"`);
    expect(Object.keys(after!)).toEqual(Object.keys(before!));
    const queriesOf = (text: string) => [...text.matchAll(/"expr": "([^\n]*)"/g)].map(([, query]) => query!);
    const isLog = (query: string) => query.includes("|=") || query.includes("| json");
    for (const [file, text] of Object.entries(before!)) {
      expect(queriesOf(after![file]!).filter(isLog)).toEqual(queriesOf(text).filter(isLog));
      expect(queriesOf(after![file]!)).toHaveLength(queriesOf(text).length);
    }
  });
});

describe("the preflight of an external Prometheus", () => {
  const namespace = (labels: Record<string, string>) =>
    ({ kind: "Namespace", metadata: { name: "monitoring", labels } }) as unknown as KubernetesObject;
  const operator = new Set(["monitoring.coreos.com/v1"]);

  test("names what keeps it from scraping, with the way out", () => {
    expect(prometheusWarnings(operator, namespace({ "conveyor.dev/scrape": "true" }))).toEqual([]);
    expect(prometheusWarnings(operator, undefined)).toEqual([]);
    expect(prometheusWarnings(new Set(), namespace({}))).toEqual([
      expect.stringContaining("the cluster has no monitoring.coreos.com/v1"),
      expect.stringContaining("kubectl label namespace monitoring conveyor.dev/scrape=true"),
    ]);
  });

  test("reads the namespace of a Service where this account may", async () => {
    const { stores } = await settingsOf(PLAIN);
    const live = namespace({});
    const asked: string[] = [];
    const reads = async (...names: string[]) => {
      asked.push(names.join(" "));
      return live;
    };
    expect(await namespaceOfPrometheus({ get: reads } as unknown as Cluster, stores)).toBe(live);
    expect(asked).toEqual(["namespace monitoring"]);
    const refused = async () => {
      throw new KubectlError(["get"], { exitCode: 1, stderr: "forbidden" });
    };
    expect(await namespaceOfPrometheus({ get: refused } as unknown as Cluster, stores)).toBeUndefined();
    const outside = (await settingsOf(VERIFIED)).stores;
    expect(await namespaceOfPrometheus({ get: refused } as unknown as Cluster, outside)).toBeUndefined();
  });
});
