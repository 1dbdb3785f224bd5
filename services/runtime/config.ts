/**
 * Reads the environment once, at start, into one flat typed value. All problems are reported together, each with the
 * variable, the rule and the received value (never the value of a secret).
 */
import { readFileSync } from "node:fs";
import { KAFKA_AUTHS } from "../domain/kafka-layout.ts";

export class ConfigError extends Error {
  constructor(readonly problems: readonly string[]) {
    super(`configuration: ${problems.join("; ")}`);
    this.name = "ConfigError";
  }
}

type Environment = Record<string, string | undefined>;
type NumberRange = { least: number; most: number; fallback: number };

/** Reads variables and collects problems; `done` throws them. */
export class ConfigReader {
  readonly problems: string[] = [];

  constructor(
    private readonly environment: Environment = process.env,
    private readonly readFile: (path: string) => string = (path) => readFileSync(path, "utf8"),
  ) {
    // With it, Bun and Node accept any certificate, also of a client.
    if (environment.NODE_TLS_REJECT_UNAUTHORIZED === "0") {
      this.problems.push('NODE_TLS_REJECT_UNAUTHORIZED: must not be "0" (certificates are always verified)');
    }
  }

  #raw(name: string): string | undefined {
    const value = this.environment[name];
    return value === undefined || value === "" ? undefined : value;
  }

  has(name: string): boolean {
    return this.#raw(name) !== undefined;
  }

  problem(name: string, rule: string, value?: string): void {
    this.problems.push(`${name}: ${rule}${value === undefined ? "" : `; got ${JSON.stringify(value)}`}`);
  }

  text(name: string, fallback?: string): string {
    const value = this.#raw(name) ?? fallback;
    if (value === undefined) this.problem(name, "is required");
    return value ?? "";
  }

  choice<T extends string>(name: string, choices: readonly T[], fallback: T): T {
    const value = this.#raw(name) ?? fallback;
    if (!choices.includes(value as T)) this.problem(name, `must be one of ${choices.join(", ")}`, value);
    return value as T;
  }

  /** A comma list of different choices. */
  choices<T extends string>(name: string, choices: readonly T[], fallback: string): T[] {
    const values = (this.#raw(name) ?? fallback).split(",").map((part) => part.trim());
    for (const value of values) {
      if (!choices.includes(value as T)) this.problem(name, `must be a comma list of ${choices.join(", ")}`, value);
    }
    return [...new Set(values)] as T[];
  }

  integer(name: string, range: NumberRange): number {
    return this.number(name, range, "whole number");
  }

  number(name: string, { least, most, fallback }: NumberRange, kind: "number" | "whole number" = "number"): number {
    const text = this.#raw(name);
    if (text === undefined) return fallback;
    const value = Number(text);
    if (!(value >= least && value <= most) || (kind === "whole number" && !Number.isInteger(value))) {
      this.problem(name, `must be a ${kind} from ${least} to ${most}`, text);
    }
    return value;
  }

  brokers(name: string): string[] {
    const list = this.text(name)
      .split(",")
      .map((part) => part.trim())
      .filter(Boolean);
    for (const broker of list) {
      if (!/^[A-Za-z0-9.-]+:\d{1,5}$/.test(broker)) this.problem(name, "must be a comma list of host:port", broker);
    }
    return list;
  }

  httpsUrl(name: string): string {
    const text = this.text(name);
    if (text !== "" && (!URL.canParse(text) || new URL(text).protocol !== "https:")) {
      this.problem(name, "must be an https:// address", text);
    }
    return text.replace(/\/+$/, "");
  }

  pattern(name: string, pattern: RegExp, rule: string, fallback: string): string {
    const value = this.#raw(name) ?? fallback;
    if (!pattern.test(value)) this.problem(name, rule, value);
    return value;
  }

  /** Contents of the file that the variable names, not empty. `fallback` is another path. */
  file(name: string, fallback?: string): string {
    const path = this.#raw(name) ?? fallback;
    if (path === undefined) {
      this.problem(name, "is required (a path)");
      return "";
    }
    try {
      const contents = this.readFile(path);
      if (contents.trim() === "") this.problem(name, "must name a file that is not empty", path);
      return contents;
    } catch (error) {
      this.problem(name, `must name a readable file (${(error as { code?: string }).code ?? error})`, path);
      return "";
    }
  }

  /** The CA of a server, a file; undefined for "system": the trusted CAs of the system. */
  authority(name: string): string | undefined {
    return this.#raw(name) === "system" ? undefined : this.file(name);
  }

  /** A secret kept in a file: one line, trimmed. The value never appears in a message. */
  secretFile(name: string): string {
    const value = this.file(name).trim();
    if (/\s/.test(value)) this.problem(name, "must name a file with one value and no whitespace in it");
    return value;
  }

  /** The path of a secret's file that is read again later; its content is checked now. */
  secretPath(name: string): string {
    this.secretFile(name);
    return this.#raw(name) ?? "";
  }

  /** @throws ConfigError with every problem found. */
  done(): void {
    if (this.problems.length > 0) throw new ConfigError(this.problems);
  }
}

/** PEM texts of a client. */
export interface ClientTls {
  /** The CA of the server's certificate; the system's trusted ones when absent. */
  ca?: string;
  /** Certificate and key of the client, both or neither. */
  cert?: string;
  key?: string;
}

export interface CommonConfig {
  podName: string;
  logLevel: "debug" | "info" | "warn" | "error";
}

export function readCommon(reader: ConfigReader): CommonConfig {
  return {
    podName: reader.text("POD_NAME", "local"),
    logLevel: reader.choice("LOG_LEVEL", ["debug", "info", "warn", "error"], "info"),
  };
}

export interface Credentials {
  username: string;
  password: string;
}

export type SaslConfig =
  | ({ mechanism: "plain" | "scram-sha-256" | "scram-sha-512" } & Credentials)
  /** The credentials are those of an OAuth client: tokens come from tokenUrl by the client credentials grant. */
  | ({ mechanism: "oauthbearer"; tokenUrl: string; scope?: string } & Credentials);

export interface KafkaConfig {
  brokers: string[];
  tls: ClientTls;
  /** Without it the client's certificate is its identity. */
  sasl?: SaslConfig;
}

export function readKafka(reader: ConfigReader): KafkaConfig {
  const auth = reader.choice("KAFKA_AUTH", KAFKA_AUTHS, "tls");
  const needsCertificate = auth === "tls" || reader.has("KAFKA_TLS_CERT") || reader.has("KAFKA_TLS_KEY");
  const kafka: KafkaConfig = {
    brokers: reader.brokers("KAFKA_BROKERS"),
    tls: {
      ca: reader.authority("KAFKA_TLS_CA"),
      ...(needsCertificate ? { cert: reader.file("KAFKA_TLS_CERT"), key: reader.file("KAFKA_TLS_KEY") } : {}),
    },
  };
  if (auth === "tls") return kafka;
  const credentials = {
    username: reader.text("KAFKA_USERNAME"),
    password: reader.secretFile("KAFKA_PASSWORD_FILE"),
  };
  if (auth !== "oauthbearer") return { ...kafka, sasl: { mechanism: auth, ...credentials } };
  const scope = reader.text("KAFKA_OAUTH_SCOPE", "");
  const tokenUrl = reader.httpsUrl("KAFKA_OAUTH_TOKEN_URL");
  return { ...kafka, sasl: { mechanism: auth, tokenUrl, ...(scope ? { scope } : {}), ...credentials } };
}

/** Kafka's configuration in the environment, for programs without another one. @throws ConfigError */
export function kafkaOfEnvironment(): KafkaConfig {
  const reader = new ConfigReader();
  const kafka = readKafka(reader);
  reader.done();
  return kafka;
}

export interface OpsConfig {
  port: number;
  /** Port of the liveness thread (liveness.ts); without it there is none. */
  livenessPort?: number;
  tls: { cert: string; key: string };
}

const DEFAULT_OPS_PORT = 9464;

/** The certificate is that of the Kafka client unless another one is named. */
export function readOps(reader: ConfigReader, kafka: KafkaConfig): OpsConfig {
  return {
    port: reader.integer("OPS_PORT", { least: 1, most: 65_535, fallback: DEFAULT_OPS_PORT }),
    ...(reader.has("LIVENESS_PORT")
      ? { livenessPort: reader.integer("LIVENESS_PORT", { least: 1, most: 65_535, fallback: 0 }) }
      : {}),
    tls: {
      cert: reader.has("OPS_TLS_CERT") ? reader.file("OPS_TLS_CERT") : (kafka.tls.cert ?? reader.file("OPS_TLS_CERT")),
      key: reader.has("OPS_TLS_KEY") ? reader.file("OPS_TLS_KEY") : (kafka.tls.key ?? reader.file("OPS_TLS_KEY")),
    },
  };
}

export interface InfluxConfig {
  url: string;
  /** The CA of the server's certificate; the system's trusted ones when absent. */
  ca?: string;
  org: string;
  bucket: string;
  token: string;
}

export function readInflux(reader: ConfigReader, tokenVariable = "INFLUX_TOKEN_FILE"): InfluxConfig {
  return {
    url: reader.httpsUrl("INFLUX_URL"),
    ca: reader.authority("INFLUX_CA"),
    org: reader.text("INFLUX_ORG", "conveyor"),
    bucket: reader.text("INFLUX_BUCKET", "telemetry"),
    token: reader.secretFile(tokenVariable),
  };
}

/** The `tls` option of fetch for a CA; without one the system's trusted CAs count. */
export const caOption = (ca: string | undefined) => (ca ? { ca } : {});

const TOPIC_PATTERN = /^[A-Za-z0-9._-]{1,249}$/;

export function readTopic(reader: ConfigReader, name: string, fallback: string): string {
  return reader.pattern(name, TOPIC_PATTERN, "must be a topic name (A-Z a-z 0-9 . _ -)", fallback);
}
