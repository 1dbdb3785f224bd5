/**
 * A Kafka, an InfluxDB and a Prometheus that other people run, which the pipeline uses instead of its own: what deploy has
 * stored about them in the cluster, and how pods connect to them.
 */
import type { KafkaAuth } from "../../services/domain/kafka-layout.ts";
import type { Cluster, KubernetesObject } from "./cluster.ts";

/** The ConfigMap with the settings, as JSON under this key. Secrets have the rest. */
export const EXTERNAL_CONFIG = "external";
export const SETTINGS_KEY = "stores.json";
export const KAFKA_SECRET = "external-kafka";
export const INFLUXDB_SECRET = "external-influxdb";
export const PROMETHEUS_SECRET = "external-prometheus";

const KAFKA_FOLDER = "/external/kafka";
const INFLUXDB_FOLDER = "/external/influxdb";
/** Where Grafana has the Secret of the external Prometheus. */
export const PROMETHEUS_FOLDER = "/external/prometheus";

/** A rule of a NetworkPolicy that allows the connections to a server. */
export interface EgressRule {
  to: { ipBlock?: { cidr: string }; namespaceSelector?: { matchLabels: Record<string, string> } }[];
  ports: { protocol: "TCP"; port: number | string }[];
}

/** Files of the Secrets. */
type KafkaFile = "ca.crt" | "tls.crt" | "tls.key" | "password";

export interface ExternalKafka {
  brokers: string[];
  auth: KafkaAuth;
  user?: string;
  tokenUrl?: string;
  scope?: string;
  /** Files that its Secret has. Without ca.crt the system's trusted CAs count. */
  files: KafkaFile[];
  egress: EgressRule[];
}

export interface ExternalInfluxdb {
  url: string;
  org: string;
  bucket: string;
  /** Its Secret has ca.crt; otherwise the system's trusted CAs count. */
  hasCa: boolean;
  /** Reading has a separate token, which cannot write. */
  hasReadToken: boolean;
  egress: EgressRule[];
}

export interface ExternalPrometheus {
  /** http:// only for a Service of the cluster. */
  url: string;
  /** Its Secret has ca.crt; otherwise the system's trusted CAs count. */
  hasCa: boolean;
  /** Its Secret has a bearer token. */
  hasToken: boolean;
  egress: EgressRule[];
}

/** Absent: the pipeline's own server. */
export interface ExternalStores {
  kafka?: ExternalKafka;
  influxdb?: ExternalInfluxdb;
  prometheus?: ExternalPrometheus;
}

/** The stores of the deployed pipeline. */
export async function readExternalStores(cluster: Cluster): Promise<ExternalStores> {
  const map = await cluster.get<KubernetesObject & { data?: Record<string, string> }>("configmap", EXTERNAL_CONFIG);
  const text = map?.data?.[SETTINGS_KEY];
  return text === undefined ? {} : (JSON.parse(text) as ExternalStores);
}

/** What a pod needs for a connection. An undefined variable must not be set. */
export interface StoreAccess {
  environment: Record<string, string | undefined>;
  /** Name of the Secret, and the folder where it is mounted. */
  secrets: Record<string, string>;
}

/** How a pod connects to the external Kafka. */
export function kafkaAccess({ brokers, auth, user, tokenUrl, scope, files }: ExternalKafka): StoreAccess {
  const path = (file: KafkaFile) => (files.includes(file) ? `${KAFKA_FOLDER}/${file}` : undefined);
  return {
    environment: {
      KAFKA_BROKERS: brokers.join(","),
      KAFKA_AUTH: auth,
      KAFKA_TLS_CA: path("ca.crt") ?? "system",
      KAFKA_TLS_CERT: path("tls.crt"),
      KAFKA_TLS_KEY: path("tls.key"),
      KAFKA_USERNAME: user,
      KAFKA_PASSWORD_FILE: path("password"),
      KAFKA_OAUTH_TOKEN_URL: tokenUrl,
      KAFKA_OAUTH_SCOPE: scope,
    },
    secrets: files.length > 0 ? { [KAFKA_SECRET]: KAFKA_FOLDER } : {},
  };
}

/** How a pod connects to Kafka: to the external one, or to the own brokers with the certificate in /certs. */
export function kafkaAccessOf({ kafka }: ExternalStores, ownBrokers: readonly string[]): StoreAccess {
  if (kafka) return kafkaAccess(kafka);
  const environment = {
    KAFKA_BROKERS: ownBrokers.join(","),
    KAFKA_TLS_CA: "/certs/ca.crt",
    KAFKA_TLS_CERT: "/certs/tls.crt",
    KAFKA_TLS_KEY: "/certs/tls.key",
  };
  return { environment, secrets: {} };
}

/** How a pod connects to the external InfluxDB; the tokens are in the same Secrets as those of an own one. */
export function influxdbAccess({ url, org, bucket, hasCa }: ExternalInfluxdb): StoreAccess {
  return {
    environment: {
      INFLUX_URL: url,
      INFLUX_CA: hasCa ? `${INFLUXDB_FOLDER}/ca.crt` : "system",
      INFLUX_ORG: org,
      INFLUX_BUCKET: bucket,
    },
    secrets: hasCa ? { [INFLUXDB_SECRET]: INFLUXDB_FOLDER } : {},
  };
}

/** The variables that are set. */
export const definedOnly = (environment: StoreAccess["environment"]): Record<string, string> =>
  Object.fromEntries(
    Object.entries(environment).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );

/** Host and port of an external server. */
export function endpointOf(address: string): { host: string; port: number } {
  if (/^https?:\/\//.test(address)) {
    const { protocol, hostname, port } = new URL(address);
    return { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || (protocol === "https:" ? 443 : 80)) };
  }
  const split = address.lastIndexOf(":");
  return { host: address.slice(0, split).replace(/^\[|\]$/g, ""), port: Number(address.slice(split + 1)) };
}

/** Namespace and name of the Service in a host name of the cluster: kafka-0.brokers.NAMESPACE.svc */
export function serviceOf(host: string): { service: string; namespace: string } | undefined {
  const [, service, namespace] = /(?:^|\.)([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.|$)/.exec(host) ?? [];
  return service && namespace ? { service, namespace } : undefined;
}
