import { beforeAll, describe, expect, test } from "bun:test";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Cluster, KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { type ExternalStores, serviceOf } from "../../../scripts/cluster/external-stores.ts";
import { adaptStages, isApiServerRule } from "../../../scripts/deploy/adapt.ts";
import { type ExternalSettings, openPorts, readExternalFile, withExternal } from "../../../scripts/deploy/external.ts";
import { containersOf, podTemplateOf, withHashes } from "../../../scripts/deploy/manifests.ts";
import { contentsOf, fillSecrets } from "../../../scripts/deploy/secrets.ts";
import { loadStages, type Stage } from "../../../scripts/deploy/stages.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

/** A cluster with one Service, whose pods listen on another port. */
const cluster = {
  get: async (kind: string, name: string, namespace: string) =>
    kind === "service" && name === "kafka" && namespace === "data"
      ? { spec: { ports: [{ port: 9094, targetPort: "external" }] } }
      : undefined,
} as unknown as Cluster;

const folder = await temporaryFolder();

async function settingsOf(yaml: string): Promise<ExternalSettings> {
  await mkdir(folder, { recursive: true });
  for (const [name, text] of Object.entries({
    "ca.pem": PEM,
    password: "secret-value\n",
    token: "token-value\n",
    two: "a b",
  })) {
    await writeFile(join(folder, name), text);
  }
  const path = join(folder, "external.yaml");
  await writeFile(path, yaml);
  return await readExternalFile(path, cluster);
}

const BOTH = `
kafka:
  brokers: ["kafka.data.svc:9094"]
  auth: scram-sha-512
  user: conveyor
  passwordFile: password
  caFile: ca.pem
influxdb:
  url: https://influx.example.org
  org: plant
  bucket: belts
  tokenFile: token
`;

describe("the file of --external", () => {
  test("becomes settings without secrets, and Secrets", async () => {
    const { stores, secrets } = await settingsOf(BOTH);
    expect(stores).toEqual({
      kafka: {
        brokers: ["kafka.data.svc:9094"],
        auth: "scram-sha-512",
        user: "conveyor",
        files: ["ca.crt", "password"],
        egress: ["9094", "external"].map((port) => ({
          to: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "data" } } }],
          ports: [{ protocol: "TCP", port: port === "9094" ? 9094 : port }],
        })),
      },
      influxdb: {
        url: "https://influx.example.org",
        org: "plant",
        bucket: "belts",
        hasCa: false,
        hasReadToken: false,
        egress: [
          {
            to: [{ ipBlock: { cidr: "0.0.0.0/0" } }, { ipBlock: { cidr: "::/0" } }],
            ports: [{ protocol: "TCP", port: 443 }],
          },
        ],
      },
    });
    expect(JSON.stringify(stores)).not.toMatch(/secret-value|token-value/);
    expect(secrets["external-kafka"]!.password).toBe("secret-value");
    expect(openPorts(stores)).toEqual([443]);
  });

  test("cidrs and addresses restrict the policies", async () => {
    const { stores } = await settingsOf(
      BOTH.replace("kafka.data.svc:9094", "10.1.2.3:9094").replace("org: plant", "org: plant\n  cidrs: [10.9.0.0/16]"),
    );
    expect(stores.kafka!.egress.map(({ to }) => to)).toEqual([[{ ipBlock: { cidr: "10.1.2.3/32" } }]]);
    expect(stores.influxdb!.egress.map(({ to }) => to)).toEqual([[{ ipBlock: { cidr: "10.9.0.0/16" } }]]);
    expect(openPorts(stores)).toEqual([]);
  });

  const problem = async (yaml: string) => String(await settingsOf(yaml).catch((error: unknown) => error));

  test.each([
    ["an unknown section", "kafak: {}", "kafak: is not a section (kafka, influxdb, prometheus)"],
    ["an empty file", "", "must have one or more of the sections kafka, influxdb, prometheus"],
    ["an unknown field", BOTH.replace("user:", "username:"), "kafka.username: is not a field (brokers, auth, user"],
    [
      "a broker without a port",
      BOTH.replace(":9094", ""),
      'kafka.brokers: must be a list of host:port; got ["kafka.data.svc"]',
    ],
    [
      "an unknown mechanism",
      BOTH.replace("scram-sha-512", "gssapi"),
      'kafka.auth: must be one of tls, plain, scram-sha-256, scram-sha-512, oauthbearer; got "gssapi"',
    ],
    ["no password", BOTH.replace(/ *passwordFile.*\n/, ""), "kafka.passwordFile: is required"],
    [
      "a password with whitespace",
      BOTH.replace("passwordFile: password", "passwordFile: two"),
      'kafka.passwordFile: must name a file with one value and no whitespace in it; got "two"',
    ],
    [
      "no such file",
      BOTH.replace("tokenFile: token", "tokenFile: nowhere"),
      'influxdb.tokenFile: must name a readable file (ENOENT); got "nowhere"',
    ],
    [
      "a CA that is no PEM",
      BOTH.replace("caFile: ca.pem", "caFile: token"),
      'kafka.caFile: must name a PEM file; got "token"',
    ],
    [
      "plain HTTP",
      BOTH.replace("https://influx", "http://influx"),
      'influxdb.url: must be https://HOST or https://HOST:PORT; got "http://influx.example.org"',
    ],
    ["no organization", BOTH.replace(/ *org:.*\n/, ""), "influxdb.org: is required"],
    [
      "tokens of OAuth without their address",
      BOTH.replace("scram-sha-512", "oauthbearer"),
      "kafka.tokenUrl: is required",
    ],
    [
      "a user with certificates",
      BOTH.replace("auth: scram-sha-512", "auth: tls"),
      'kafka.user: needs auth: plain, scram-sha-256, scram-sha-512 or oauthbearer; got "conveyor"',
    ],
  ])("%s is refused", async (_what, yaml, message) => {
    expect(await problem(yaml)).toContain(message);
  });

  test("all problems are reported together, without a secret", async () => {
    const found = await problem(BOTH.replace("scram-sha-512", "gssapi").replace("https://influx", "http://influx"));
    expect(found).toContain("kafka.auth");
    expect(found).toContain("influxdb.url");
    expect(found).not.toMatch(/secret-value|token-value/);
  });
});

test("serviceOf finds namespace and Service of a name of the cluster", () => {
  expect(serviceOf("kafka.data.svc")).toEqual({ service: "kafka", namespace: "data" });
  expect(serviceOf("kafka-0.brokers.data.svc.example.local")).toEqual({ service: "brokers", namespace: "data" });
  expect(serviceOf("broker.svc-host.example.org")).toBeUndefined();
});

describe("the stages with external stores", () => {
  let own: Stage[];
  let settings: ExternalSettings;
  beforeAll(async () => {
    own = await loadStages();
    settings = await settingsOf(BOTH);
  });
  const objectsOf = (stages: readonly Stage[]) => stages.flatMap(({ objects }) => objects);
  const find = (objects: readonly KubernetesObject[], kind: string, name: string) =>
    objects.find((object) => object.kind === kind && object.metadata.name === name);
  const only = (tier: keyof ExternalStores): ExternalSettings => ({
    ...settings,
    stores: { [tier]: settings.stores[tier] },
  });

  test("without external stores nothing changes", () => {
    expect(withExternal(own, { stores: {}, secrets: {} })).toEqual(own);
  });

  test("have no server of the replaced tiers, and no stage without objects", () => {
    const both = withExternal(own, settings);
    expect(both.map(({ name }) => name)).toEqual(own.map(({ name }) => name).filter((name) => name !== "stores"));
    const names = objectsOf(both).map(({ kind, metadata }) => `${kind}/${metadata.name}`);
    expect(names.filter((name) => /^\w+\/(kafka|influxdb)/.test(name)).sort()).toEqual([
      "Secret/influxdb-token-processor",
      "Secret/influxdb-token-reader",
    ]);
    const kafkaOnly = withExternal(own, only("kafka"));
    expect(kafkaOnly.find(({ name }) => name === "stores")?.title).toBe("InfluxDB");
    expect(find(objectsOf(kafkaOnly), "StatefulSet", "influxdb")).toBeDefined();
    expect(find(objectsOf(kafkaOnly), "StatefulSet", "kafka")).toBeUndefined();
  });

  test("no pod names an own server, and each client has its access", () => {
    const objects = objectsOf(withExternal(own, settings));
    for (const object of objects) {
      const template = podTemplateOf(object);
      if (!template) continue;
      const where = `${object.kind}/${object.metadata.name}`;
      for (const { env = [], name } of containersOf(template.spec)) {
        const values = Object.fromEntries(env.map((entry) => [entry.name, entry.value]));
        expect([where, name, JSON.stringify(values)]).not.toEqual([
          where,
          name,
          expect.stringMatching(/(kafka|influxdb)[a-z0-9.-]*\.conveyor\.svc/),
        ]);
        if ("KAFKA_BROKERS" in values) {
          expect(values).toMatchObject({
            KAFKA_BROKERS: "kafka.data.svc:9094",
            KAFKA_AUTH: "scram-sha-512",
            KAFKA_TLS_CA: "/external/kafka/ca.crt",
            KAFKA_PASSWORD_FILE: "/external/kafka/password",
          });
          expect(values.KAFKA_TLS_CERT).toBeUndefined();
          expect(template.spec.volumes!.map((volume) => volume.secret?.secretName)).toContain("external-kafka");
        }
        if ("INFLUX_URL" in values) {
          expect(values).toMatchObject({
            INFLUX_URL: "https://influx.example.org",
            INFLUX_CA: "system",
            INFLUX_ORG: "plant",
            INFLUX_BUCKET: "belts",
          });
        }
        if (name === "producer") expect(values).toMatchObject({ INTAKE_ORG: "plant", INTAKE_BUCKET: "belts" });
      }
    }
    const setup = podTemplateOf(find(objects, "Job", "setup")!)!.spec;
    const values = Object.fromEntries(setup.containers[0]!.env!.map(({ name, value }) => [name, value]));
    expect(values).toMatchObject({ KAFKA_STORE: "external", INFLUX_STORE: "external" });
    expect(setup.volumes!.map(({ name }) => name)).not.toContain("influxdb-admin");
  });

  test("policies allow exactly the external servers, also beside the API server's rule", () => {
    const facts = {
      apiServers: [{ address: "10.0.0.1", port: 6443 }],
      dnsAddresses: [],
      isCilium: false,
    } as unknown as Parameters<typeof adaptStages>[1];
    const objects = objectsOf(adaptStages(withExternal(own, settings), facts));
    const rules = (name: string) =>
      (find(objects, "NetworkPolicy", name)!.spec as { egress: { to?: unknown; ports: unknown }[] }).egress;
    const { kafka, influxdb } = settings.stores as Required<Pick<ExternalStores, "kafka" | "influxdb">>;
    expect(rules("producer")).toEqual(kafka.egress);
    expect(rules("ingest")).toEqual(kafka.egress);
    expect(rules("processor")).toEqual([...kafka.egress, ...influxdb.egress]);
    expect(rules("setup").slice(0, 3)).toEqual([...kafka.egress, ...influxdb.egress]);
    expect(rules("setup").at(-1)).toMatchObject({ to: [{ ipBlock: { cidr: "10.0.0.1/32" } }] });
    expect(rules("setup").some((rule) => isApiServerRule(rule as never))).toBe(false);
    expect(rules("observer")).toEqual(expect.arrayContaining(influxdb.egress));
  });

  test("no alert waits for a target that cannot exist, and Prometheus starts without the rules of the brokers", () => {
    const objects = objectsOf(withExternal(own, settings));
    const rules = (find(objects, "ConfigMap", "prometheus-rules-monitoring")!.data as Record<string, string>)[
      "monitoring.yml"
    ]!;
    expect(rules).not.toMatch(/job="(kafka|influxdb)"/);
    expect(rules).toContain(
      'absent(up{job="lag-exporter"})\n          or\n          absent(up{job="kube-state-metrics"})',
    );
    expect(find(objects, "ConfigMap", "prometheus-rules-kafka")).toBeUndefined();
    expect(find(objects, "PrometheusRule", "prometheus-rules-kafka")).toBeUndefined();
    const operatorRules = JSON.stringify(find(objects, "PrometheusRule", "prometheus-rules-monitoring")!.spec);
    expect(operatorRules).toContain(String.raw`absent(up{job=\"lag-exporter\"`);
    expect(operatorRules).not.toMatch(/job=.."(kafka|influxdb)/);
    expect(JSON.stringify(podTemplateOf(find(objects, "Deployment", "prometheus")!))).not.toContain(
      "prometheus-rules-kafka",
    );
  });

  test("Grafana reads the external database", () => {
    const objects = objectsOf(withExternal(own, settings));
    const text = (find(objects, "ConfigMap", "grafana")!.data as Record<string, string>)["datasources.yaml"]!;
    const [, influx = ""] = text.split("- name: InfluxDB");
    expect(influx).toContain("url: https://influx.example.org");
    expect(influx).toContain('organization: "plant"');
    expect(influx).not.toContain("tlsCACert");
    expect(text.split("tlsCACert").length - 1).toBe(2);
  });

  test("the Secrets are filled from the file, and every hash can be computed", async () => {
    const objects = objectsOf(withExternal(own, settings));
    const filled = await fillSecrets(objects, { file: async () => "x", live: async () => undefined });
    const secrets = contentsOf(filled);
    expect(secrets["external-kafka"]).toEqual({ "ca.crt": PEM.trim(), password: "secret-value" });
    expect(secrets["influxdb-token-processor"]).toEqual({ token: "token-value" });
    const grafana = { "grafana-dashboards": {} };
    expect(() => withHashes(filled, { configuration: filled, secrets: { ...grafana, ...secrets } })).not.toThrow();
  });
});
