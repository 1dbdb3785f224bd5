/**
 * A Kafka with SASL over TLS and an InfluxDB in their own namespace, as other people may run them, and the steps that
 * prove that the pipeline works against them: deploy, validate, audit.
 *
 * The servers are those of k8s/ with another client listener, so that nothing but the images of the pipeline is needed.
 */
import { randomBytes } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createAuthority, issueCertificate } from "../cli/pki.ts";
import type { Cluster, KubernetesObject } from "../cluster/cluster.ts";
import { awaitRollout } from "../cluster/rollout.ts";
import { loadManifestFiles, MANIFEST_FOLDER } from "../deploy/manifests.ts";
import { fillSecrets } from "../deploy/secrets.ts";
import type { Case } from "./case.ts";
import { commandStep, DOWN, UP } from "./commands.ts";
import { optionalRows } from "./variants.ts";

/** Namespaces of the servers and of the pipeline that uses them. */
const SERVERS = "external-stores";
const PIPELINE = "conveyor-external";
const USER = "conveyor";
const ORGANIZATION = "plant";
const BUCKET = "belts";
const BROKERS = [0, 1, 2];
const CERTIFICATE_DAYS = 2;
/** Three brokers start in 16 s on two idle cores; several times that on a busy machine. */
const START_LIMIT_MS = 300_000;
const REQUEST_LIMIT_MS = 15_000;

const LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule";

/** @throws Error when the manifests no longer have what is replaced */
function replaced(text: string, from: string, to: string): string {
  if (!text.includes(from)) throw new Error(`scripts/conformance/external-stores.ts: the manifests have no "${from}"`);
  return text.replace(from, () => to);
}

/** The brokers' configuration with SASL on the clients' listener, and the user. */
function withSasl(data: Record<string, string>, password: string): Record<string, string> {
  let properties = replaced(data["server.properties"]!, "CLIENT:SSL", "CLIENT:SASL_SSL");
  properties = replaced(
    properties,
    "listener.name.client.ssl.client.auth=required",
    "listener.name.client.ssl.client.auth=none",
  );
  properties = replaced(properties, "super.users=", `super.users=User:${USER};`);
  const sasl = [
    "listener.name.client.sasl.enabled.mechanisms=SCRAM-SHA-512",
    `listener.name.client.scram-sha-512.sasl.jaas.config=${LOGIN} required;`,
  ];
  const user = `--add-scram 'SCRAM-SHA-512=[name=${USER},password=${password}]'`;
  const start = replaced(data["start.sh"]!, "format --ignore-formatted", `format --ignore-formatted ${user}`);
  return { ...data, "server.properties": `${properties}\n${sasl.join("\n")}\n`, "start.sh": start };
}

/** Files of certs/ for the servers' Secrets, by name. */
async function certificates(): Promise<Record<string, string>> {
  const options = { days: CERTIFICATE_DAYS };
  const authority = await createAuthority("external-stores-ca", options);
  const files: Record<string, string> = { "ca.crt": authority.certificate };
  const names = (service: string) => [`DNS:${service}.${SERVERS}.svc`, "DNS:localhost"];
  for (const broker of BROKERS) {
    const subject = { commonName: `kafka-${broker}`, names: names(`kafka-${broker}.kafka-headless`) };
    const { key, certificate } = await issueCertificate(authority, subject, options);
    files[`kafka-${broker}.pem`] = `${key}${certificate}`;
  }
  const database = { commonName: "influxdb", names: names("influxdb") };
  const { key, certificate } = await issueCertificate(authority, database, options);
  return { ...files, "influxdb.key": key, "influxdb.crt": certificate };
}

const KINDS = new Set(["ConfigMap", "PodDisruptionBudget", "Secret", "Service", "ServiceAccount", "StatefulSet"]);

/** The objects of the servers, filled. */
async function serverObjects(files: Record<string, string>, password: string): Promise<KubernetesObject[]> {
  const manifests = (await loadManifestFiles(MANIFEST_FOLDER, SERVERS)).flatMap(({ objects }) => objects);
  const own = manifests.filter(({ kind, metadata }) => {
    const tier = metadata.labels?.["app.kubernetes.io/name"];
    return KINDS.has(kind) && (tier === "kafka" || tier === "influxdb");
  });
  const objects = own.map((object) =>
    object.kind === "ConfigMap" && object.metadata.name === "kafka"
      ? { ...object, data: withSasl(object.data as Record<string, string>, password) }
      : object,
  );
  const filled = await fillSecrets(objects, { file: async (name) => files[name], live: async () => undefined });
  return [{ apiVersion: "v1", kind: "Namespace", metadata: { name: SERVERS } }, ...filled];
}

/** Makes organization, bucket and a token that may read and write the bucket alone. */
async function onboard(cluster: Cluster, ca: string): Promise<string> {
  await using forward = await cluster.portForward("svc/influxdb", 8086, SERVERS);
  const admin = randomBytes(24).toString("hex");
  const request = async <T>(path: string, body: object): Promise<T> => {
    const answer = await fetch(`https://localhost:${forward.port}${path}`, {
      method: "POST",
      headers: { authorization: `Token ${admin}`, "content-type": "application/json" },
      body: JSON.stringify(body),
      tls: { ca },
      signal: AbortSignal.timeout(REQUEST_LIMIT_MS),
    });
    if (!answer.ok) throw new Error(`InfluxDB: POST ${path} answered ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  };
  const password = randomBytes(12).toString("hex");
  const account = { username: "owner", password, token: admin, org: ORGANIZATION, bucket: BUCKET };
  const { org, bucket } = await request<Record<"org" | "bucket", { id: string }>>("/api/v2/setup", account);
  const resource = { type: "buckets", id: bucket.id, orgID: org.id };
  const permissions = ["read", "write"].map((action) => ({ action, resource }));
  return (await request<{ token: string }>("/api/v2/authorizations", { orgID: org.id, permissions })).token;
}

/**
 * Starts the servers and writes the file of `deploy --external` with its secrets.
 * @param folder for the file; private to the caller
 * @returns the path of the file
 */
async function startServers(cluster: Cluster, folder: string, signal: AbortSignal): Promise<string> {
  const password = randomBytes(16).toString("hex");
  const files = await certificates();
  await cluster.apply(await serverObjects(files, password), { signal });
  const options = { limitMs: START_LIMIT_MS, signal, namespace: SERVERS };
  await Promise.all(["kafka", "influxdb"].map((name) => awaitRollout(cluster, "StatefulSet", name, options)));
  const token = await onboard(cluster, files["ca.crt"]!);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const write = (name: string, text: string) => writeFile(join(folder, name), text, { mode: 0o600 });
  const brokers = BROKERS.map((broker) => `kafka-${broker}.kafka-headless.${SERVERS}.svc:9092`);
  await Promise.all([
    write("ca.pem", files["ca.crt"]!),
    write("password", password),
    write("token", token),
    write(
      "external.yaml",
      [
        "kafka:",
        `  brokers: [${brokers.join(", ")}]`,
        "  auth: scram-sha-512",
        `  user: ${USER}`,
        "  passwordFile: password",
        "  caFile: ca.pem",
        "influxdb:",
        `  url: https://influxdb.${SERVERS}.svc:8086`,
        `  org: ${ORGANIZATION}`,
        `  bucket: ${BUCKET}`,
        "  tokenFile: token",
        "  caFile: ca.pem",
        "",
      ].join("\n"),
    ),
  ]);
  return join(folder, "external.yaml");
}

/**
 * The case of external servers: servers, deploy, validate, audit, destroy.
 * @param folder for the certificates and the file of the servers
 */
export function externalStoresCase(cluster: Cluster, folder: string): Case {
  const file = join(folder, "external.yaml");
  const target = ["--local", "--namespace", PIPELINE];
  return {
    name: "external",
    title: `Kafka with SASL_SSL and InfluxDB in namespace ${SERVERS}, pipeline in namespace ${PIPELINE}`,
    steps: [
      UP,
      {
        name: "servers",
        command: `StatefulSets in namespace ${SERVERS}`,
        limitMs: START_LIMIT_MS,
        run: async (signal) => ({ ok: (await startServers(cluster, folder, signal)) === file, detail: "" }),
      },
      commandStep("deploy", ["deploy.ts", ...target, "--external", file, "--certs", join(folder, "certs")]),
      commandStep("validate", ["validate.ts", ...target], undefined, (stdout) => ({ optional: optionalRows(stdout) })),
      commandStep("audit", ["audit.ts", ...target]),
      commandStep("destroy", ["destroy.ts", ...target, "--yes"]),
    ],
    removal: DOWN,
  };
}
