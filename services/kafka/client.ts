/** Kafka clients: one way to configure them, their log in our format, their signs of life. */
import { Kafka, type KafkaConfig as KafkajsConfig, type logCreator, logLevel } from "kafkajs";
import Cluster from "kafkajs/src/cluster/index.js";
import loggers from "kafkajs/src/loggers/index.js";
import defaultSocketFactory from "kafkajs/src/network/socketFactory.js";
import type { KafkaConfig } from "../runtime/config.ts";
import { type Logger, LogThrottle } from "../runtime/log.ts";
import { installKafkajsPatches } from "./patches/index.ts";

/** A TLS handshake on a busy two-core machine takes longer than kafkajs' default of 1 s. */
export const CONNECTION_TIMEOUT_MS = 3000;
/**
 * Brokers answer within milliseconds. This is for one that is silent and still part of the cluster; one that the others have
 * given up is left sooner (patches/gone-broker.ts).
 */
export const REQUEST_TIMEOUT_MS = 5000;

/** Quick first retry, capped early: recovery within half a second of the broker, not of a grown back-off. */
export const RETRY = { initialRetryTime: 100, maxRetryTime: 500, multiplier: 1.5, factor: 0.2 } as const;
/** A consumer must outlast any outage; kafkajs' own default crashes it after five tries. */
export const RETRY_FOREVER = { ...RETRY, retries: 1_000_000 } as const;
/** Where the caller has a loop of its own that can log, report and stop. */
export const RETRY_BRIEFLY = { ...RETRY, retries: 3 } as const;

/** Leaders that moved are learned from errors at once; this finds added partitions. */
const METADATA_MAX_AGE_MS = 60_000;
/** One line of a kind per this time; see LogThrottle. */
const KAFKAJS_LOG_INTERVAL_MS = 5000;

const LEVELS: Record<number, "debug" | "info" | "warn" | "error"> = {
  [logLevel.DEBUG]: "debug",
  [logLevel.INFO]: "info",
  [logLevel.WARN]: "warn",
  [logLevel.ERROR]: "error",
};

/** kafkajs' log through our formatter, equal lines throttled. */
export function kafkajsLog(log: Logger): logCreator {
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

/** kafkajs' level for ours: its debug lines are costly to make even when nobody prints them. */
export const kafkajsLevel = (log: Logger): logLevel => (log.isOn("debug") ? logLevel.DEBUG : logLevel.INFO);

type SocketFactory = NonNullable<KafkajsConfig["socketFactory"]>;

/** kafkajs' connections to a cluster, below its producer and consumer. */
export type KafkaCluster = Cluster;

/** What every client of this project has in common. `onConnect` hears every attempt to connect: a sign of life. */
export function clientOptions(
  config: KafkaConfig,
  clientId: string,
  log: Logger,
  onConnect?: () => void,
): KafkajsConfig {
  installKafkajsPatches();
  const connect = defaultSocketFactory() as SocketFactory;
  return {
    clientId,
    brokers: config.brokers,
    ssl: { ca: [config.tls.ca], cert: config.tls.cert, key: config.tls.key, minVersion: "TLSv1.2" },
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

/** kafkajs' view of a cluster, below its producer and consumer; retries briefly: the caller has the patience. */
export function createCluster(config: KafkaConfig, clientId: string, log: Logger, onConnect?: () => void): Cluster {
  const { logLevel: _level, logCreator, ...common } = clientOptions(config, clientId, log, onConnect);
  return new Cluster({
    ...common,
    logger: loggers.createLogger({ level: kafkajsLevel(log), logCreator }),
    retry: RETRY_BRIEFLY,
    metadataMaxAge: METADATA_MAX_AGE_MS,
    allowAutoTopicCreation: false,
    maxInFlightRequests: null,
  });
}

/** Name of a value in one of kafkajs' enumerations, which at run time know only the other direction. */
export function nameOf(enumeration: Record<string, unknown>, value: number): string {
  return Object.keys(enumeration).find((name) => enumeration[name] === value) ?? `UNKNOWN_${value}`;
}
