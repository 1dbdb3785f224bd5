/** Configures all Kafka clients: TLS, SASL, timeouts, retries, and the log in the project's format. */
import {
  AclOperationTypes,
  AclPermissionTypes,
  AclResourceTypes,
  type Admin,
  Kafka,
  type KafkaConfig as KafkajsConfig,
  type logCreator,
  logLevel,
  ResourcePatternTypes,
  type SASLOptions,
} from "kafkajs";
import createKafkajsAdmin from "kafkajs/src/admin/index.js";
import Cluster from "kafkajs/src/cluster/index.js";
import InstrumentationEventEmitter from "kafkajs/src/instrumentation/emitter.js";
import loggers from "kafkajs/src/loggers/index.js";
import defaultSocketFactory from "kafkajs/src/network/socketFactory.js";
import type { ClientTls, KafkaConfig, SaslConfig } from "../runtime/config.ts";
import { type Logger, LogThrottle } from "../runtime/log.ts";
import { createTokenSource } from "./oauth-token.ts";
import { installKafkajsPatches } from "./patches/index.ts";

/** A TLS handshake on a busy two-core machine takes longer than kafkajs' default of 1 s. */
const CONNECTION_TIMEOUT_MS = 3000;
/** For a silent broker that is still part of the cluster; requests to another end earlier (patches/gone-broker.ts). */
export const REQUEST_TIMEOUT_MS = 5000;

/** Short pauses with a low cap, so that a client recovers within half a second of its broker. */
const RETRY = { initialRetryTime: 100, maxRetryTime: 500, multiplier: 1.5, factor: 0.2 } as const;
/** For consumers: kafkajs' default ends one after five tries. */
export const RETRY_FOREVER = { ...RETRY, retries: 1_000_000 } as const;
/** For callers with a retry loop that logs and can stop. */
export const RETRY_BRIEFLY = { ...RETRY, retries: 3 } as const;

/** Finds added partitions; moved leaders are detected at once by errors. */
const METADATA_MAX_AGE_MS = 60_000;
/** For the lag exporter: until then nothing reports the lag of an added partition. One small request. */
const ADMIN_METADATA_MAX_AGE_MS = 10_000;
const KAFKAJS_LOG_INTERVAL_MS = 5000;

const LEVELS: Record<number, "debug" | "info" | "warn" | "error"> = {
  [logLevel.DEBUG]: "debug",
  [logLevel.INFO]: "info",
  [logLevel.WARN]: "warn",
  [logLevel.ERROR]: "error",
};

function kafkajsLog(log: Logger): logCreator {
  const throttle = new LogThrottle(KAFKAJS_LOG_INTERVAL_MS);
  return () =>
    ({ namespace, level, log: entry }) => {
      const name = LEVELS[level] ?? "info";
      if (!log.isOn(name)) return;
      const suppressed = name === "debug" ? 0 : throttle.allow(`${namespace} ${entry.message}`);
      if (suppressed === undefined) return;
      log.log(name, "kafkajs", {
        component: namespace,
        message: entry.message,
        ...(entry.broker ? { broker: entry.broker } : {}),
        ...(typeof entry.error === "string" ? { cause: entry.error } : {}),
        ...(suppressed > 0 ? { suppressed } : {}),
      });
    };
}

/** kafkajs' log level for a logger; kafkajs builds debug lines even when they are not printed. */
const kafkajsLevel = (log: Logger): logLevel => (log.isOn("debug") ? logLevel.DEBUG : logLevel.INFO);

/** Absent parts are left out: an empty CA would trust nothing. */
const tlsOptions = ({ ca, cert, key }: ClientTls) => ({
  minVersion: "TLSv1.2" as const,
  ...(ca ? { ca: [ca] } : {}),
  ...(cert && key ? { cert, key } : {}),
});

function saslOptions(sasl: SaslConfig, ca: string | undefined): SASLOptions {
  if (sasl.mechanism === "oauthbearer") {
    return { mechanism: sasl.mechanism, oauthBearerProvider: createTokenSource({ ...sasl, ca }) };
  }
  const { mechanism, username, password } = sasl;
  return { mechanism, username, password } as SASLOptions;
}

type SocketFactory = NonNullable<KafkajsConfig["socketFactory"]>;

export type KafkaCluster = Cluster;

/** The options of all clients. `onConnect` is called for every connection attempt, as progress for the liveness check. */
function clientOptions(config: KafkaConfig, clientId: string, log: Logger, onConnect?: () => void): KafkajsConfig {
  installKafkajsPatches();
  const connect = defaultSocketFactory() as SocketFactory;
  return {
    clientId,
    brokers: config.brokers,
    ssl: tlsOptions(config.tls),
    ...(config.sasl ? { sasl: saslOptions(config.sasl, config.tls.ca) } : {}),
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    enforceRequestTimeout: true,
    retry: RETRY_FOREVER,
    logLevel: kafkajsLevel(log),
    logCreator: kafkajsLog(log),
    socketFactory: (options) => {
      onConnect?.();
      return connect(options);
    },
  };
}

export function createKafka(
  config: KafkaConfig,
  clientId: string,
  log: Logger,
  options: { onConnect?: () => void; retry?: KafkajsConfig["retry"] } = {},
): Kafka {
  const common = clientOptions(config, clientId, log, options.onConnect);
  return new Kafka(options.retry ? { ...common, retry: options.retry } : common);
}

/** The result of `work` with an administrator's client, which is closed afterwards. */
export async function withAdmin<T>(kafka: Kafka, work: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = kafka.admin();
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.disconnect();
  }
}

/** All ACLs, or those of a principal. `isPlain`: allowed from every host for exactly this name. */
export async function listAcls(admin: Admin, principal?: string) {
  const { resources } = await admin.describeAcls({
    principal,
    resourceType: AclResourceTypes.ANY,
    resourcePatternType: ResourcePatternTypes.ANY,
    operation: AclOperationTypes.ANY,
    permissionType: AclPermissionTypes.ANY,
  } as Parameters<Admin["describeAcls"]>[0]);
  return resources.flatMap(({ acls, ...resource }) =>
    acls.map((acl) => ({
      filter: { ...acl, ...resource },
      names: {
        principal: acl.principal,
        resourceType: nameOf(AclResourceTypes, resource.resourceType),
        resourceName: resource.resourceName,
        operation: nameOf(AclOperationTypes, acl.operation),
      },
      isPlain:
        resource.resourcePatternType === ResourcePatternTypes.LITERAL &&
        acl.permissionType === AclPermissionTypes.ALLOW &&
        acl.host === "*",
    })),
  );
}

/** Creates kafkajs' Cluster without a producer or consumer; it retries briefly, so the caller must retry. */
export function createCluster(
  config: KafkaConfig,
  clientId: string,
  log: Logger,
  onConnect?: () => void,
  metadataMaxAge = METADATA_MAX_AGE_MS,
): Cluster {
  const { logLevel: _level, logCreator, ...common } = clientOptions(config, clientId, log, onConnect);
  return new Cluster({
    ...common,
    logger: loggers.createLogger({ level: kafkajsLevel(log), logCreator }),
    retry: RETRY_BRIEFLY,
    metadataMaxAge,
    allowAutoTopicCreation: false,
    maxInFlightRequests: null,
  });
}

/**
 * An administrator's client for a program that polls. Upstream: https://github.com/tulios/kafkajs/issues/923. The one of
 * Kafka.admin() keeps its metadata for five minutes and has no setting for it.
 */
export function createPollingAdmin(
  config: KafkaConfig,
  clientId: string,
  log: Logger,
  onConnect?: () => void,
): { admin: Admin; cluster: Cluster } {
  const cluster = createCluster(config, clientId, log, onConnect, ADMIN_METADATA_MAX_AGE_MS);
  const admin = createKafkajsAdmin({
    retry: RETRY_BRIEFLY,
    logger: cluster.rootLogger,
    instrumentationEmitter: new InstrumentationEventEmitter(),
    cluster,
  });
  return { admin, cluster };
}

/** The name of a value of one of kafkajs' enumerations, which map names to values only. */
export function nameOf(enumeration: Record<string, unknown>, value: number): string {
  return Object.keys(enumeration).find((name) => enumeration[name] === value) ?? `UNKNOWN_${value}`;
}
