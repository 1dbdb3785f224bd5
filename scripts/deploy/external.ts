/**
 * Deploys against a Kafka, an InfluxDB or a Prometheus that other people run: the file of `deploy --external`, and the stages
 * without the own servers. Settings are kept in the cluster (scripts/cluster/external-stores.ts), so that later deploys and the other
 * commands know them.
 */
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { dirname, resolve } from "node:path";
import { parse } from "yaml";
import { KAFKA_AUTHS, type KafkaAuth } from "../../services/domain/kafka-layout.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import {
  type EgressRule,
  EXTERNAL_CONFIG,
  type ExternalStores,
  endpointOf,
  INFLUXDB_SECRET,
  influxdbAccess,
  KAFKA_SECRET,
  kafkaAccess,
  PROMETHEUS_FOLDER,
  PROMETHEUS_SECRET,
  readExternalStores,
  SETTINGS_KEY,
  type StoreAccess,
  serviceOf,
} from "../cluster/external-stores.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { adaptScaling, hasSecret, isScaling, SCRAPE_LABEL, withScopedDashboards } from "./external-prometheus.ts";
import { type Container, containersOf, type PodSpec, podTemplateOf } from "./manifests.ts";
import { type SecretContents, WITH_VALUES } from "./secrets.ts";

/** Value of `--external` with which the pipeline gets its own servers again. */
const NO_EXTERNAL = "none";

/** Secrets of the tokens, also where deploy fills them instead of setup. */
export const WRITE_TOKEN = "influxdb-token-processor";
export const READ_TOKEN = "influxdb-token-reader";

export interface ExternalSettings {
  stores: ExternalStores;
  /** Entries of the Secrets; empty where only the stages' form matters. */
  secrets: SecretContents;
}

// ── file ─────────────────────────────────────────────────────────────────────────────────────────────────────────

type Fields = Record<string, unknown>;

const KAFKA_FIELDS = [
  "brokers",
  "auth",
  "user",
  "passwordFile",
  "tokenUrl",
  "scope",
  "caFile",
  "certFile",
  "keyFile",
  "cidrs",
];
const INFLUXDB_FIELDS = ["url", "org", "bucket", "tokenFile", "readTokenFile", "caFile", "cidrs"];
const PROMETHEUS_FIELDS = ["url", "caFile", "tokenFile", "cidrs"];

/** Reads one section of the file and collects its problems. */
class Section {
  constructor(
    readonly name: string,
    readonly fields: Fields,
    private readonly folder: string,
    readonly problems: string[],
    known: readonly string[],
  ) {
    for (const field of Object.keys(fields)) {
      if (!known.includes(field)) this.problem(field, `is not a field (${known.join(", ")})`);
    }
  }

  problem(field: string, rule: string): void {
    const value = this.fields[field];
    this.problems.push(`${this.name}.${field}: ${rule}${value === undefined ? "" : `; got ${JSON.stringify(value)}`}`);
  }

  /** @param pattern what the value must match, and the rule in words */
  text(field: string, [pattern, rule]: readonly [RegExp, string] = [/./, "must be text"]): string | undefined {
    const value = this.fields[field];
    if (value === undefined) return undefined;
    if (typeof value === "string" && pattern.test(value)) return value;
    this.problem(field, rule);
    return undefined;
  }

  required(field: string, form?: readonly [RegExp, string]): string {
    if (this.fields[field] === undefined) this.problem(field, "is required");
    return this.text(field, form) ?? "";
  }

  refuse(field: string, rule: string): void {
    if (this.fields[field] !== undefined) this.problem(field, rule);
  }

  list(field: string, [pattern, rule]: readonly [RegExp, string]): string[] {
    const value = this.fields[field];
    const values = Array.isArray(value) ? value : [];
    if (values.length > 0 && values.every((one) => typeof one === "string" && pattern.test(one)))
      return values as string[];
    this.problem(field, rule);
    return [];
  }

  /** Content of a file; paths are relative to the folder of the settings' file. */
  async file(field: string, form?: readonly [RegExp, string]): Promise<string | undefined> {
    const path = this.text(field);
    if (path === undefined) return undefined;
    try {
      const content = (await readFile(resolve(this.folder, path), "utf8")).trim();
      const [pattern, rule] = form ?? [/./, "must name a file that is not empty"];
      // The content may be a secret: only the path is reported.
      if (!pattern.test(content)) this.problem(field, rule);
      return content;
    } catch (error) {
      this.problem(field, `must name a readable file (${(error as { code?: string }).code ?? error})`);
      return undefined;
    }
  }
}

const HOST_PORT = [/^([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}$/, "must be a list of host:port"] as const;
const HTTPS = [/^https:\/\/[^/?#@\s]+\/?$/, "must be https://HOST or https://HOST:PORT"] as const;
/** kube-prometheus-stack serves plain HTTP; elsewhere than inside the cluster a token or a metric could be read on the way. */
const HTTPS_OR_SERVICE = [
  /^(https:\/\/[^/?#@\s]+|http:\/\/[a-z0-9-]+\.[a-z0-9-]+\.svc(:\d{1,5})?)\/?$/,
  "must be https://HOST:PORT, or http://SERVICE.NAMESPACE.svc:PORT for a Service of the cluster, without a path",
] as const;
const HTTPS_PATH = [/^https:\/\/[^?#@\s]+$/, "must be an https:// address"] as const;
const CIDRS = [/^[0-9a-fA-F.:]+\/\d{1,3}$/, "must be a list of address blocks, for example [10.20.0.0/16]"] as const;
const PEM = [/-----BEGIN [A-Z ]+-----/, "must name a PEM file"] as const;
const ONE_VALUE = [/^\S+$/, "must name a file with one value and no whitespace in it"] as const;

/**
 * The settings of a file (docs/external-stores.md).
 * @throws OperatorError (exit 2) that names every field, its rule and its value
 */
export async function readExternalFile(path: string, cluster: Cluster): Promise<ExternalSettings> {
  const problems: string[] = [];
  const usage = (found: readonly string[]) =>
    new OperatorError(`--external ${path}: ${found.join("; ")}`, {
      exitCode: EXIT.usage,
      hint: "docs/external-stores.md",
    });
  let document: unknown;
  try {
    document = parse(await readFile(path, "utf8"));
  } catch (error) {
    throw usage([`must be a readable YAML file (${(error as { code?: string }).code ?? (error as Error).message})`]);
  }
  const sections = (document ?? {}) as Record<string, Fields>;
  const names = typeof sections === "object" && !Array.isArray(sections) ? Object.keys(sections) : [];
  const known: readonly string[] = TIERS;
  if (names.length === 0) throw usage([`must have one or more of the sections ${known.join(", ")}`]);
  for (const name of names) {
    if (!known.includes(name)) problems.push(`${name}: is not a section (${known.join(", ")})`);
    else if (sections[name] === null || typeof sections[name] !== "object") problems.push(`${name}: must be a section`);
  }
  if (problems.length > 0) throw usage(problems);
  const folder = dirname(resolve(path));
  const settings: ExternalSettings = { stores: {}, secrets: {} };
  const section = (name: Tier, fields: readonly string[]) =>
    sections[name] && new Section(name, sections[name], folder, problems, fields);
  const kafka = section("kafka", KAFKA_FIELDS);
  const influxdb = section("influxdb", INFLUXDB_FIELDS);
  const prometheus = section("prometheus", PROMETHEUS_FIELDS);
  if (kafka) await readKafka(kafka, settings, cluster);
  if (influxdb) await readInfluxdb(influxdb, settings, cluster);
  if (prometheus) await readPrometheus(prometheus, settings, cluster);
  if (problems.length > 0) throw usage(problems);
  return settings;
}

const withoutUndefined = <T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as never;

async function readKafka(section: Section, { stores, secrets }: ExternalSettings, cluster: Cluster): Promise<void> {
  const brokers = section.list("brokers", HOST_PORT);
  const auth = (section.text("auth", [
    new RegExp(`^(${KAFKA_AUTHS.join("|")})$`),
    `must be one of ${KAFKA_AUTHS.join(", ")}`,
  ]) ?? "tls") as KafkaAuth;
  const isTls = auth === "tls";
  const onlyFor = (fields: readonly string[], rule: string) => {
    for (const field of fields) section.refuse(field, rule);
  };
  if (isTls) onlyFor(["user", "passwordFile"], "needs auth: plain, scram-sha-256, scram-sha-512 or oauthbearer");
  if (auth !== "oauthbearer") onlyFor(["tokenUrl", "scope"], "needs auth: oauthbearer");
  const user = isTls ? undefined : section.required("user");
  const tokenUrl = auth === "oauthbearer" ? section.required("tokenUrl", HTTPS_PATH) : undefined;
  if (!isTls && section.fields.passwordFile === undefined) section.problem("passwordFile", "is required");
  const needsCertificate = isTls || section.fields.certFile !== undefined || section.fields.keyFile !== undefined;
  for (const field of needsCertificate ? ["certFile", "keyFile"] : []) {
    if (section.fields[field] === undefined) section.problem(field, "is required");
  }
  const entries = withoutUndefined({
    "ca.crt": await section.file("caFile", PEM),
    "tls.crt": await section.file("certFile", PEM),
    "tls.key": await section.file("keyFile", PEM),
    password: isTls ? undefined : await section.file("passwordFile", ONE_VALUE),
  });
  const egress = await egressOf(section, [...brokers, ...(tokenUrl ? [tokenUrl] : [])], cluster);
  const files = Object.keys(entries) as (keyof typeof entries)[];
  stores.kafka = withoutUndefined({ brokers, auth, user, tokenUrl, scope: section.text("scope"), files, egress });
  secrets[KAFKA_SECRET] = entries;
}

async function readInfluxdb(section: Section, { stores, secrets }: ExternalSettings, cluster: Cluster): Promise<void> {
  const url = section.required("url", HTTPS).replace(/\/$/, "");
  const org = section.required("org");
  const bucket = section.required("bucket");
  if (section.fields.tokenFile === undefined) section.problem("tokenFile", "is required");
  const token = (await section.file("tokenFile", ONE_VALUE)) ?? "";
  const readToken = await section.file("readTokenFile", ONE_VALUE);
  const ca = await section.file("caFile", PEM);
  const egress = await egressOf(section, url === "" ? [] : [url], cluster);
  stores.influxdb = { url, org, bucket, hasCa: ca !== undefined, hasReadToken: readToken !== undefined, egress };
  if (ca !== undefined) secrets[INFLUXDB_SECRET] = { "ca.crt": ca };
  secrets[WRITE_TOKEN] = { token };
  secrets[READ_TOKEN] = { token: readToken ?? token };
}

async function readPrometheus(section: Section, { stores, secrets }: ExternalSettings, cluster: Cluster) {
  const url = section.required("url", HTTPS_OR_SERVICE).replace(/\/$/, "");
  if (url.startsWith("http://")) section.refuse("caFile", "needs an https:// address");
  const entries = withoutUndefined({
    "ca.crt": await section.file("caFile", PEM),
    token: await section.file("tokenFile", ONE_VALUE),
  });
  const egress = await egressOf(section, url === "" ? [] : [url], cluster);
  stores.prometheus = { url, hasCa: "ca.crt" in entries, hasToken: "token" in entries, egress };
  secrets[PROMETHEUS_SECRET] = entries;
}

// ── network ──────────────────────────────────────────────────────────────────────────────────────────────────────

const EVERY_ADDRESS = ["0.0.0.0/0", "::/0"];

type Service = KubernetesObject & { spec: { ports?: { port: number; targetPort?: number | string }[] } };

/**
 * The rules that allow connections to servers. Policies know addresses, not names: a Service of the cluster becomes its
 * namespace, an address its block. The addresses of other names change without a deploy, so that their ports are allowed
 * to every address, or to the blocks that the file names (`cidrs`).
 */
async function egressOf(section: Section, servers: readonly string[], cluster: Cluster): Promise<EgressRule[]> {
  const cidrs = section.fields.cidrs === undefined ? [] : section.list("cidrs", CIDRS);
  const rules = new Map<string, EgressRule>();
  for (const server of servers) {
    const { host, port } = endpointOf(server);
    const ofCluster = serviceOf(host);
    // Policies apply behind the Service: to the port of its pods.
    const ports = ofCluster ? await targetPorts(cluster, ofCluster, port) : [port];
    const block = (cidr: string) => ({ ipBlock: { cidr } });
    const to = ofCluster
      ? [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": ofCluster.namespace } } }]
      : isIP(host)
        ? [block(`${host}/${isIP(host) === 4 ? 32 : 128}`)]
        : (cidrs.length > 0 ? cidrs : EVERY_ADDRESS).map(block);
    for (const target of ports) {
      const rule: EgressRule = { to, ports: [{ protocol: "TCP", port: target }] };
      rules.set(JSON.stringify(rule), rule);
    }
  }
  return [...rules.values()];
}

async function targetPorts(
  cluster: Cluster,
  { service, namespace }: { service: string; namespace: string },
  port: number,
): Promise<(number | string)[]> {
  const found = await cluster.get<Service>("service", service, namespace);
  const target = found?.spec.ports?.find((one) => one.port === port)?.targetPort;
  return [...new Set([port, target ?? port])];
}

/** Ports that are allowed to every address, for a warning; empty where the addresses are known. */
export const openPorts = (stores: ExternalStores): (number | string)[] => [
  ...new Set(
    TIERS.flatMap((tier) => stores[tier]?.egress ?? [])
      .filter(({ to }) => to.some(({ ipBlock }) => ipBlock?.cidr === EVERY_ADDRESS[0]))
      .flatMap(({ ports }) => ports.map(({ port }) => port)),
  ),
];

// ── cluster ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** The settings of the last deploy. */
async function readDeployedExternal(cluster: Cluster): Promise<ExternalSettings> {
  const stores = await readExternalStores(cluster);
  const names = [
    ...(stores.kafka ? [KAFKA_SECRET] : []),
    ...(stores.influxdb ? [WRITE_TOKEN, READ_TOKEN] : []),
    ...(stores.influxdb?.hasCa ? [INFLUXDB_SECRET] : []),
    ...(hasSecret(stores.prometheus) ? [PROMETHEUS_SECRET] : []),
  ];
  const contents = await Promise.all(names.map(async (name) => [name, await readSecret(cluster, name)] as const));
  return { stores, secrets: Object.fromEntries(contents) };
}

/** The settings that a deploy uses: those of the file, or else those of the last deploy. */
export async function externalSettings(cluster: Cluster, path: string | undefined): Promise<ExternalSettings> {
  if (path === NO_EXTERNAL) return { stores: {}, secrets: {} };
  return path === undefined ? await readDeployedExternal(cluster) : await readExternalFile(path, cluster);
}

// ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────────

interface StageObjects {
  name: string;
  needsStage?: string | undefined;
  title: string;
  objects: KubernetesObject[];
}

const TITLES = { kafka: "Kafka", influxdb: "InfluxDB" } as const;
/** Values of app.kubernetes.io/name of what a section of the file replaces. */
const REPLACED = { kafka: ["kafka"], influxdb: ["influxdb"], prometheus: ["prometheus", "alertmanager"] } as const;
type Tier = keyof typeof REPLACED;
const TIERS = Object.keys(REPLACED) as Tier[];

/** Secrets of a replaced server that clients of others need too: tokens, and the CA with which a Prometheus scrapes. */
const KEPT_SECRETS = [WRITE_TOKEN, READ_TOKEN, "prometheus-tls"];
/** Objects of prometheus-operator have the label of Prometheus, and are for that of others. */
const isForOperator = ({ kind }: KubernetesObject) => kind === "ServiceMonitor" || kind === "PrometheusRule";

/** Rules of alerts on the brokers' own metrics, which an external Kafka does not serve. */
const KAFKA_RULES = "prometheus-rules-kafka";

const MONITORING_RULES = "prometheus-rules-monitoring";

const nameOf = ({ metadata }: KubernetesObject) => metadata.labels?.["app.kubernetes.io/name"];

/** Stages without the servers that other people run; the clients connect to those. */
export function withExternal<S extends StageObjects>(stages: readonly S[], { stores, secrets }: ExternalSettings): S[] {
  const tiers: string[] = TIERS.filter((tier) => stores[tier]).flatMap((tier) => REPLACED[tier]);
  if (tiers.length === 0) return [...stages];
  const isReplaced = (object: KubernetesObject) => {
    const { kind, metadata } = object;
    const tier = isForOperator(object) ? metadata.name : nameOf(object);
    const isKept = kind === "Secret" && KEPT_SECRETS.includes(metadata.name);
    return !isKept && tiers.some((replaced) => replaced === tier);
  };
  const adapted = stages.map((stage): S => {
    const kept = stage.objects.filter(
      (object) => !isReplaced(object) && !(stores.kafka && object.metadata.name === KAFKA_RULES),
    );
    return {
      ...stage,
      title: titleOf(stage, stores),
      objects: [
        ...kept.flatMap((object) => adaptObject(object, stores, tiers, secrets) ?? []),
        ...(stage.name === "secrets" ? ownObjects(stores, secrets) : []),
      ],
    };
  });
  const left = adapted.filter(({ objects }) => objects.length > 0);
  // A stage that depends on one that has nothing to apply depends on what that one depends on.
  const present = (name: string | undefined): string | undefined =>
    name === undefined || left.some((stage) => stage.name === name)
      ? name
      : present(adapted.find((stage) => stage.name === name)?.needsStage);
  return left.map((stage) => ({ ...stage, needsStage: present(stage.needsStage) }));
}

function titleOf({ name, title }: StageObjects, stores: ExternalStores): string {
  if (name === "stores") {
    return (["kafka", "influxdb"] as const)
      .filter((tier) => !stores[tier])
      .map((tier) => TITLES[tier])
      .join(" and ");
  }
  return name === "metrics" && stores.prometheus ? "metrics: kube-state-metrics" : title;
}

const metadataOf = (name: string, more: object = {}) => ({
  name,
  namespace: NAMESPACE,
  labels: {
    "app.kubernetes.io/name": "external",
    "app.kubernetes.io/instance": "external",
    "app.kubernetes.io/component": "settings",
    "app.kubernetes.io/part-of": "conveyor",
    "app.kubernetes.io/managed-by": "conveyor-deploy",
  },
  ...more,
});

const base64 = (entries: Record<string, string>) =>
  Object.fromEntries(Object.entries(entries).map(([key, value]) => [key, Buffer.from(value).toString("base64")]));

function ownObjects(stores: ExternalStores, secrets: SecretContents): KubernetesObject[] {
  const names = [
    ...(stores.kafka?.files.length ? [KAFKA_SECRET] : []),
    ...(stores.influxdb?.hasCa ? [INFLUXDB_SECRET] : []),
    ...(hasSecret(stores.prometheus) ? [PROMETHEUS_SECRET] : []),
  ];
  return [
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: metadataOf(EXTERNAL_CONFIG),
      data: { [SETTINGS_KEY]: `${JSON.stringify(stores, undefined, 2)}\n` },
    },
    ...names.map((name) => ({
      apiVersion: "v1",
      kind: "Secret",
      metadata: metadataOf(name, { annotations: { [WITH_VALUES]: "true" } }),
      type: "Opaque",
      data: base64(secrets[name] ?? {}),
    })),
  ];
}

/** The object for clients of the external servers; undefined for one that has no use with them. */
function adaptObject(
  object: KubernetesObject,
  stores: ExternalStores,
  tiers: readonly string[],
  secrets: SecretContents,
): KubernetesObject | undefined {
  const { name } = object.metadata;
  if (stores.prometheus && isScaling(object))
    return adaptScaling(object, stores.prometheus, secrets[PROMETHEUS_SECRET]?.["ca.crt"]);
  if (object.kind === "Secret" && stores.influxdb && (name === WRITE_TOKEN || name === READ_TOKEN)) {
    const metadata = { ...object.metadata, annotations: { [WITH_VALUES]: "true" } };
    return { ...object, metadata, data: base64(secrets[name] ?? {}) };
  }
  if (object.kind === "NetworkPolicy") return adaptPolicy(object as Policy, stores, tiers);
  if (object.kind === "ConfigMap") return adaptConfigMap(object, stores, tiers);
  if (object.kind === "PrometheusRule" && name === MONITORING_RULES) return adaptRules(object, tiers);
  const copy = structuredClone(object);
  const template = podTemplateOf(copy);
  if (!template) return object;
  if (stores.kafka) connect(template.spec, "KAFKA_BROKERS", kafkaAccess(stores.kafka));
  if (stores.influxdb) {
    connect(template.spec, "INFLUX_URL", influxdbAccess(stores.influxdb));
    const { org, bucket } = stores.influxdb;
    connect(template.spec, "INTAKE_BUCKET", { environment: { INTAKE_ORG: org, INTAKE_BUCKET: bucket }, secrets: {} });
  }
  if (object.kind === "Job") adaptSetup(template.spec, stores);
  if (stores.kafka) withoutRules(template.spec);
  for (const container of containersOf(template.spec)) withoutEndpoints(container, tiers);
  trustOfGrafana(template.spec, stores);
  return copy;
}

function setVariables(container: Container, variables: StoreAccess["environment"]): void {
  const env = (container.env ?? []).filter(({ name }) => !(name in variables));
  for (const [name, value] of Object.entries(variables)) if (value !== undefined) env.push({ name, value });
  container.env = env;
}

interface Mounts {
  volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[];
}

function mount(spec: PodSpec, container: Container & Mounts, secret: string, mountPath: string): void {
  spec.volumes ??= [];
  if (!spec.volumes.some((volume) => volume.name === secret)) {
    spec.volumes.push({ name: secret, secret: { secretName: secret, defaultMode: 0o440 } as { secretName: string } });
  }
  container.volumeMounts = [...(container.volumeMounts ?? []), { name: secret, mountPath, readOnly: true }];
}

/** Points the containers that have a variable to an external server. */
function connect(spec: PodSpec, variable: string, { environment, secrets }: StoreAccess): void {
  for (const container of containersOf(spec)) {
    if (!container.env?.some(({ name }) => name === variable)) continue;
    setVariables(container, environment);
    for (const [secret, folder] of Object.entries(secrets)) mount(spec, container, secret, folder);
  }
}

/** Setup checks an external server instead of setting it up, and has no administrator's token for it. */
function adaptSetup(spec: PodSpec, { kafka, influxdb }: ExternalStores): void {
  const [container] = spec.containers as (Container & Mounts)[];
  if (!container) return;
  if (kafka) setVariables(container, { KAFKA_STORE: "external" });
  if (!influxdb) return;
  const admin = "influxdb-admin";
  spec.volumes = spec.volumes?.filter(({ name }) => name !== admin);
  container.volumeMounts = container.volumeMounts?.filter(({ name }) => name !== admin);
  for (const secret of [WRITE_TOKEN, READ_TOKEN]) mount(spec, container, secret, `/secrets/${secret}`);
  setVariables(container, {
    INFLUX_STORE: "external",
    INFLUX_TOKEN_FILE: `/secrets/${WRITE_TOKEN}/token`,
    INFLUX_READ_TOKEN_FILE: `/secrets/${READ_TOKEN}/token`,
    INFLUX_ADMIN_USERNAME_FILE: undefined,
    INFLUX_ADMIN_PASSWORD_FILE: undefined,
    INFLUX_ADMIN_TOKEN_FILE: undefined,
  });
}

function withoutRules(spec: PodSpec): void {
  for (const { projected } of spec.volumes ?? []) {
    if (projected) projected.sources = projected.sources.filter(({ configMap }) => configMap?.name !== KAFKA_RULES);
  }
}

/** The lag exporter watches no certificate of a server that does not exist. */
function withoutEndpoints(container: Container, tiers: readonly string[]): void {
  for (const variable of container.env ?? []) {
    if (variable.name !== "CERTIFICATE_ENDPOINTS") continue;
    const endpoints = variable.value
      ?.split(",")
      .filter((endpoint) => !tiers.some((tier) => endpoint.startsWith(`${tier}.`)));
    variable.value = endpoints?.join(",");
  }
}

/** Grafana reads its sources through its own settings; CA and token of external ones are mounted for them. */
function trustOfGrafana(spec: PodSpec, { influxdb, prometheus }: ExternalStores): void {
  const container = spec.containers.find(({ name }) => name === "grafana");
  if (!container) return;
  const secrets = {
    ...(influxdb && influxdbAccess(influxdb).secrets),
    ...(hasSecret(prometheus) && { [PROMETHEUS_SECRET]: PROMETHEUS_FOLDER }),
  };
  for (const [secret, folder] of Object.entries(secrets)) mount(spec, container, secret, folder);
}

interface Peer {
  namespaceSelector?: { matchLabels?: Record<string, string> };
  podSelector?: { matchLabels?: Record<string, string> };
}
interface Rule {
  to?: Peer[];
  from?: Peer[];
  ports?: unknown[];
}
type Policy = KubernetesObject & {
  spec: { podSelector?: { matchLabels?: Record<string, string> }; egress?: Rule[]; ingress?: Rule[] };
};

const tierOf = ({ podSelector }: Peer) => podSelector?.matchLabels?.["app.kubernetes.io/name"];

/** A rule to the pods of a tier becomes the rules to the external server; one from its pods is left out. */
function adaptPolicy(policy: Policy, stores: ExternalStores, tiers: readonly string[]): Policy {
  const { egress, ingress } = policy.spec;
  const replaced = egress?.flatMap((rule): Rule[] => {
    const target = rule.to?.length === 1 ? tierOf(rule.to[0]!) : undefined;
    const external = TIERS.find((tier) => tier === target && stores[tier]);
    return external ? stores[external]!.egress : [rule];
  });
  // The observer reads the newest point, and relays to what commands query; its rule names several workloads.
  const relayed = nameOf(policy) === "observer" ? [stores.influxdb, stores.prometheus] : [];
  const added = relayed.flatMap((store) => store?.egress ?? []);
  const isGone = (peer: Peer) =>
    tiers.includes(tierOf(peer) ?? "") && peer.namespaceSelector?.matchLabels?.[SCRAPE_LABEL] === undefined;
  const allowed = ingress?.flatMap((rule): Rule[] => {
    const from = rule.from?.filter((peer) => !isGone(peer));
    // A rule without peers would allow everything.
    return from === undefined ? [rule] : from.length > 0 ? [{ ...rule, from }] : [];
  });
  const rules = { ...(replaced && { egress: [...replaced, ...added] }), ...(allowed && { ingress: allowed }) };
  return { ...policy, spec: { ...policy.spec, ...rules } };
}

type Data = Record<string, string>;

/** A rule without the targets that cannot exist: it would fire for ever. */
const withoutTargets = (text: string, tiers: readonly string[]): string =>
  tiers.reduce((rest, tier) => cut(rest, new RegExp(`\\n *or\\n *absent\\(up\\{job="${tier}"[^}]*\\}\\)`)), text);

interface RuleGroups {
  groups: { rules: { expr: string }[] }[];
}

/** The same rules for prometheus-operator. */
function adaptRules(object: KubernetesObject, tiers: readonly string[]): KubernetesObject {
  const spec = structuredClone(object.spec) as RuleGroups;
  for (const rule of spec.groups.flatMap(({ rules }) => rules)) {
    if (rule.expr.includes("absent(up{")) rule.expr = withoutTargets(rule.expr, tiers);
  }
  return { ...object, spec };
}

function adaptConfigMap(object: KubernetesObject, stores: ExternalStores, tiers: readonly string[]): KubernetesObject {
  const { influxdb, prometheus } = stores;
  const change = (key: string, edit: (text: string) => string): KubernetesObject => {
    const data = object.data as Data;
    return { ...object, data: { ...data, [key]: edit(data[key]!) } };
  };
  const { name } = object.metadata;
  if (name === MONITORING_RULES) return change("monitoring.yml", (text) => withoutTargets(text, tiers));
  if (name === "grafana") {
    return change("datasources.yaml", (text) => {
      const edited = influxdb ? influxdbDatasource(text, influxdb) : text;
      return prometheus ? prometheusDatasource(edited, prometheus) : edited;
    });
  }
  return name === "grafana-dashboards" && prometheus ? withScopedDashboards(object) : object;
}

/** @throws Error when the manifests no longer have what is cut: nothing may stay by accident */
function cut(text: string, pattern: RegExp, replacement = ""): string {
  if (!pattern.test(text)) throw new Error(`scripts/deploy/external.ts: the manifests do not contain ${pattern}`);
  return text.replace(pattern, () => replacement);
}

function prometheusDatasource(
  text: string,
  { url, hasCa, hasToken }: NonNullable<ExternalStores["prometheus"]>,
): string {
  const [start, end] = [text.indexOf("- name: Prometheus"), text.indexOf("- name: Loki")];
  let edited = cut(text.slice(start, end), /url: \S+/, `url: ${url}`);
  if (hasCa) edited = cut(edited, /\$__file\{\/certs\/ca\.crt\}/, `$__file{${PROMETHEUS_FOLDER}/ca.crt}`);
  else edited = cut(cut(edited, /\n *tlsAuthWithCACert: true/), /\n *tlsCACert: \S+/);
  if (hasToken) {
    const header = [
      "      httpHeaderName1: Authorization",
      "    secureJsonData:",
      `      httpHeaderValue1: Bearer $__file{${PROMETHEUS_FOLDER}/token}`,
    ];
    edited = cut(edited, / *secureJsonData:/, header.join("\n"));
  } else if (!hasCa) edited = cut(edited, /\n *secureJsonData:/);
  return text.slice(0, start) + edited + text.slice(end);
}

function influxdbDatasource(
  text: string,
  { url, org, bucket, hasCa }: NonNullable<ExternalStores["influxdb"]>,
): string {
  const start = text.indexOf("- name: InfluxDB");
  const [before, section] = [text.slice(0, start), text.slice(start)];
  let edited = cut(section, /url: \S+/, `url: ${url}`);
  edited = cut(edited, /organization: \S+/, `organization: ${JSON.stringify(org)}`);
  edited = cut(edited, /defaultBucket: \S+/, `defaultBucket: ${JSON.stringify(bucket)}`);
  if (hasCa) edited = cut(edited, /\$__file\{\/certs\/ca\.crt\}/, "$__file{/external/influxdb/ca.crt}");
  else edited = cut(cut(edited, /\n *tlsAuthWithCACert: true/), /\n *tlsCACert: \S+/);
  return before + edited;
}
