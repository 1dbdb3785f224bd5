/**
 * Real Kafka brokers and a real InfluxDB on loopback, over TLS, without Kubernetes, for the benchmark and the integration
 * tests. The programs come from the cache of the local cluster's images; nothing is downloaded or built here. All files
 * are in a temporary folder; `stop` ends all processes by id.
 */
import { closeSync, existsSync, openSync, statSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAuthority, issueCertificate } from "../../scripts/cli/pki.ts";
import { must } from "../../scripts/cli/process.ts";
import { loadManifests } from "../../scripts/deploy/manifests.ts";
import { KAFKA_JARS } from "../../scripts/images/kafka.ts";
import { isBuilt, PARTS, partDir } from "../../scripts/local-cluster/index.ts";
import type { ClientTls } from "../../services/runtime/config.ts";
import { freePorts } from "./free-ports.ts";

/** Time for three JVMs to start on a busy two-core machine. */
const START_LIMIT_MS = 180_000;
const POLL_MS = 100;
/** Brokers flush and transfer leadership; InfluxDB closes its files. */
const STOP_LIMIT_MS = 15_000;
const CLUSTER_ID = "bG9vcGJhY2stYmVuY2gxMQ";

const PRINCIPALS = ["producer", "processor", "lag-exporter", "admin"] as const;
export type Principal = (typeof PRINCIPALS)[number];

/** Why the servers cannot run on this machine; undefined when they can. */
export async function unavailable(): Promise<string | undefined> {
  if (Bun.which("java") === null) return "java is not installed";
  if (Bun.which("openssl") === null) return "openssl is not installed";
  if (!(await isBuilt(KAFKA_JARS)))
    return "Kafka's jars are not in the cache (bun scripts/build-images.ts fetches them)";
  if (!(await isBuilt(PARTS.influxd!)))
    return "influxd is not in the cache (bun scripts/local-cluster.ts up builds it)";
  return undefined;
}

async function configMapEntry(name: string, key: string): Promise<string> {
  const map = (await loadManifests()).find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === name);
  const text = (map?.data as Record<string, string> | undefined)?.[key];
  if (!text) throw new Error(`k8s has no ConfigMap ${name} with ${key}`);
  return text;
}

/** The start script of InfluxDB's pod. */
export const influxStartScript = (): Promise<string> => configMapEntry("influxdb", "start.sh");

/**
 * The configuration of one broker: that of the brokers' pods (k8s/kafka), with other addresses and paths, and with at
 * most as many replicas as there are brokers.
 * @param settings replace those of the pods
 */
export async function brokerProperties(
  node: number,
  ports: readonly BrokerPorts[],
  folder: string,
  settings: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { client, replication, controller } = ports[node]!;
  const placed: Record<string, string | number> = {
    "node.id": node,
    "controller.quorum.voters": ports.map((other, id) => `${id}@localhost:${other.controller}`).join(","),
    listeners: `CLIENT://127.0.0.1:${client},REPLICATION://127.0.0.1:${replication},CONTROLLER://127.0.0.1:${controller}`,
    "advertised.listeners": `CLIENT://localhost:${client},REPLICATION://localhost:${replication}`,
    "ssl.keystore.location": join(folder, `kafka-${node}.pem`),
    "ssl.truststore.location": join(folder, "ca.crt"),
    "log.dirs": join(folder, `kafka-${node}-data`),
    ...settings,
  };
  const lines = (await configMapEntry("kafka", "server.properties")).split("\n").flatMap((line) => {
    const [name, value] = line.split(/=(.*)/s);
    if (!name || value === undefined || line.startsWith("#") || name in placed) return [];
    if (name.endsWith("replication.factor")) return [`${name}=${Math.min(Number(value), ports.length)}`];
    if (name.endsWith("min.isr") || name === "min.insync.replicas") {
      return [`${name}=${Math.max(1, Math.min(Number(value), ports.length - 1))}`];
    }
    return [line];
  });
  return [...lines, ...Object.entries(placed).map(([name, value]) => `${name}=${value}`), ""].join("\n");
}

async function makeCertificates(folder: string, names: readonly string[]): Promise<void> {
  const options = { days: 2 };
  const authority = await createAuthority("bench-ca", options);
  await writeFile(join(folder, "ca.crt"), authority.certificate);
  const hosts = ["DNS:localhost", "IP:127.0.0.1"];
  for (const name of names) {
    const { key, certificate } = await issueCertificate(authority, { commonName: name, names: hosts }, options);
    await writeFile(join(folder, `${name}.key`), key);
    await writeFile(join(folder, `${name}.crt`), certificate);
    await writeFile(join(folder, `${name}.pem`), `${key}${certificate}`);
  }
}

interface Managed {
  name: string;
  process: Bun.Subprocess;
  /** Bytes of the log of earlier starts. */
  logStart: number;
}

interface BrokerPorts {
  client: number;
  replication: number;
  controller: number;
}

export interface ServerOptions {
  brokers: number;
  /** Pins the servers to this core, so that a measured client has the other one. */
  cpu?: number;
  brokerHeapMb?: number;
  influx?: boolean;
  /** Settings of the brokers that differ from those of their pods. */
  settings?: Readonly<Record<string, string>>;
  /** Users of SCRAM, as the format command takes them: SCRAM-SHA-512=[name=…,password=…]. */
  scram?: readonly string[];
}

export class RealServers {
  readonly #running = new Map<string, Managed>();
  #ports: BrokerPorts[] = [];
  #influxPort = 0;
  readonly influxAdmin = { username: "admin", password: "bench-password", token: "bench-admin-token-0123456789abcdef" };

  private constructor(
    readonly folder: string,
    private readonly options: ServerOptions & { brokerHeapMb: number },
  ) {}

  /**
   * Starts `brokers` combined KRaft nodes and InfluxDB.
   * @throws Error with the last log lines of the server that did not start
   */
  static async start(options: ServerOptions) {
    const folder = await mkdtemp(join(tmpdir(), "conveyor-servers-"));
    const servers = new RealServers(folder, { brokerHeapMb: 512, ...options });
    try {
      const brokerNames = Array.from({ length: options.brokers }, (_, node) => `kafka-${node}`);
      await makeCertificates(folder, [...brokerNames, "influxdb", ...PRINCIPALS]);
      await servers.#startAll(options.influx ?? true);
      return servers;
    } catch (error) {
      await servers.stop();
      throw error;
    }
  }

  get brokers(): string[] {
    return this.#ports.map(({ client }) => `localhost:${client}`);
  }

  get influxUrl(): string {
    return `https://localhost:${this.#influxPort}`;
  }

  /** Paths of a principal's TLS files. */
  tlsPaths(name: string): Required<ClientTls> {
    return {
      ca: join(this.folder, "ca.crt"),
      cert: join(this.folder, `${name}.crt`),
      key: join(this.folder, `${name}.key`),
    };
  }

  async tlsFiles(name: string): Promise<Required<ClientTls>> {
    const { ca, cert, key } = this.tlsPaths(name);
    const [caText, certText, keyText] = await Promise.all([ca, cert, key].map((path) => readFile(path, "utf8")));
    return { ca: caText!, cert: certText!, key: keyText! };
  }

  /** Environment of a service that connects to these servers as `principal`. */
  environment(principal: Principal): Record<string, string> {
    const { ca, cert, key } = this.tlsPaths(principal);
    return {
      PATH: process.env.PATH ?? "",
      HOME: this.folder,
      POD_NAME: `${principal}-0`,
      KAFKA_BROKERS: this.brokers.join(","),
      KAFKA_TLS_CA: ca,
      KAFKA_TLS_CERT: cert,
      KAFKA_TLS_KEY: key,
      INFLUX_URL: this.influxUrl,
      INFLUX_CA: ca,
      INFLUX_ORG: "conveyor",
      INFLUX_BUCKET: "telemetry",
    };
  }

  pid(name: string): number {
    const managed = this.#running.get(name);
    if (!managed) throw new Error(`${name} is not running`);
    return managed.process.pid;
  }

  /** Sends SIGKILL by default and waits for the end. */
  async kill(name: string, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const managed = this.#running.get(name);
    if (!managed) return;
    managed.process.kill(signal);
    const timer = setTimeout(() => managed.process.kill("SIGKILL"), STOP_LIMIT_MS);
    await managed.process.exited;
    clearTimeout(timer);
    this.#running.delete(name);
  }

  async startBroker(node: number): Promise<void> {
    const name = `kafka-${node}`;
    const libs = join(partDir(KAFKA_JARS), "libs");
    const jars = (await readdir(libs)).filter((jar) => jar.endsWith(".jar")).sort();
    const classPath = jars.map((jar) => join(libs, jar)).join(":");
    const properties = join(this.folder, `${name}.properties`);
    await writeFile(properties, await brokerProperties(node, this.#ports, this.folder, this.options.settings));
    const logging = join(this.folder, "log4j2.yaml");
    await writeFile(logging, LOGGING);
    if (!existsSync(join(this.folder, `${name}-data`, "meta.properties"))) {
      const scram = (this.options.scram ?? []).flatMap((user) => ["--add-scram", user]);
      const format = ["format", "--cluster-id", CLUSTER_ID, "--config", properties, ...scram];
      await must(["java", "-Xmx256m", "-cp", classPath, "kafka.tools.StorageTool", ...format]);
    }
    const heap = [`-Xms256m`, `-Xmx${this.options.brokerHeapMb}m`, "-XX:+UseSerialGC"];
    this.#spawn(name, [
      "java",
      ...heap,
      `-Dlog4j2.configurationFile=${logging}`,
      "-cp",
      classPath,
      "kafka.Kafka",
      properties,
    ]);
    await this.#untilLogged(name, "Kafka Server started");
  }

  /** Folder of InfluxDB's files. */
  get influxData(): string {
    return join(this.folder, "influxdb-data");
  }

  /**
   * Starts InfluxDB like its pod, with k8s/influxdb's start script.
   * @param options.bare without that script, for tests of its purpose
   */
  async startInflux(options: { bare?: boolean } = {}): Promise<void> {
    const { cert, key } = this.tlsPaths("influxdb");
    const data = this.influxData;
    await mkdir(data, { recursive: true });
    const program = partDir(PARTS.influxd!);
    const command = options.bare ? [join(program, "influxd")] : ["bash", "-c", await influxStartScript()];
    this.#spawn("influxdb", command, {
      PATH: `${program}:${process.env.PATH}`,
      INFLUXD_BOLT_PATH: join(data, "influxd.bolt"),
      INFLUXD_SQLITE_PATH: join(data, "influxd.sqlite"),
      INFLUXD_ENGINE_PATH: join(data, "engine"),
      INFLUXD_HTTP_BIND_ADDRESS: `127.0.0.1:${this.#influxPort}`,
      INFLUXD_TLS_CERT: cert,
      INFLUXD_TLS_KEY: key,
      INFLUXD_REPORTING_DISABLED: "true",
      INFLUXD_LOG_LEVEL: "error",
      INFLUXD_UI_DISABLED: "true",
    });
    await this.#until("influxdb", async () => (await this.influx("/health").catch(() => undefined))?.status === 200);
  }

  /** Sends a request to InfluxDB's API, by default as administrator. */
  async influx(path: string, init: RequestInit = {}, token: string = this.influxAdmin.token): Promise<Response> {
    const ca = await readFile(join(this.folder, "ca.crt"), "utf8");
    return await fetch(`${this.influxUrl}${path}`, {
      ...init,
      headers: { authorization: `Token ${token}`, ...(init.headers as Record<string, string>) },
      tls: { ca },
    });
  }

  /** Onboards InfluxDB with a bucket of this retention (0: unlimited). Returns a token that may write and read it. */
  async onboardInflux(retentionPeriodSeconds = 0): Promise<string> {
    const { username, password, token } = this.influxAdmin;
    const answer = await this.influx("/api/v2/setup", {
      method: "POST",
      body: JSON.stringify({
        ...{ username, password, token, org: "conveyor", bucket: "telemetry" },
        retentionPeriodSeconds,
      }),
    });
    if (!answer.ok) throw new Error(`InfluxDB's setup: ${answer.status} ${await answer.text()}`);
    return token;
  }

  /** Result of a Flux query as CSV. */
  async query(flux: string): Promise<string> {
    const answer = await this.influx("/api/v2/query?org=conveyor", {
      method: "POST",
      headers: { "content-type": "application/vnd.flux", accept: "application/csv" },
      body: flux,
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`query: ${answer.status} ${text}`);
    return text;
  }

  /** Number of points in the bucket, by counting one field. */
  async countPoints(filter = ""): Promise<number> {
    const csv = await this.query(
      `from(bucket: "telemetry") |> range(start: 0) |> filter(fn: (r) => r._measurement == "conveyor_telemetry" and r._field == "seq"${filter}) |> group() |> count()`,
    );
    const row = csv.split("\r\n").find((line) => line.startsWith(",,0,") || /^,_result,/.test(line));
    return Number(row?.split(",").at(-1) ?? 0);
  }

  /** The last lines of a server's log. */
  async log(name: string, lines = 20): Promise<string> {
    const text = await readFile(join(this.folder, `${name}.log`), "utf8").catch(() => "");
    return text.split("\n").slice(-lines).join("\n");
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((name) => this.kill(name)));
    await rm(this.folder, { recursive: true, force: true });
  }

  async #startAll(influx: boolean): Promise<void> {
    const ports = await freePorts(this.options.brokers * 3 + 1);
    this.#influxPort = ports.pop()!;
    this.#ports = Array.from({ length: this.options.brokers }, (_, node) => ({
      client: ports[node * 3]!,
      replication: ports[node * 3 + 1]!,
      controller: ports[node * 3 + 2]!,
    }));
    await Promise.all([
      ...this.#ports.map((_, node) => this.startBroker(node)),
      influx ? this.startInflux() : Promise.resolve(),
    ]);
  }

  #spawn(name: string, command: string[], environment: Record<string, string> = {}): void {
    const pinned = this.options.cpu === undefined ? command : ["taskset", "-c", String(this.options.cpu), ...command];
    // Appended, with the position where this start begins: a text of an earlier start must not be taken for one of this.
    const path = join(this.folder, `${name}.log`);
    const logStart = existsSync(path) ? statSync(path).size : 0;
    const log = openSync(path, "a");
    const child = Bun.spawn(pinned, {
      cwd: this.folder,
      env: { PATH: process.env.PATH, HOME: this.folder, ...environment },
      stdin: "ignore",
      stdout: log,
      stderr: log,
    });
    closeSync(log);
    this.#running.set(name, { name, process: child, logStart });
  }

  async #untilLogged(name: string, text: string): Promise<void> {
    const path = join(this.folder, `${name}.log`);
    const start = this.#running.get(name)!.logStart;
    await this.#until(name, async () => (await Bun.file(path).slice(start).text()).includes(text));
  }

  async #until(name: string, condition: () => Promise<boolean>): Promise<void> {
    const limit = performance.now() + START_LIMIT_MS;
    while (!(await condition())) {
      const exitCode = this.#running.get(name)?.process.exitCode ?? null;
      if (exitCode !== null || performance.now() > limit) {
        throw new Error(`${name} did not start (exit ${exitCode}):\n${await this.log(name)}`);
      }
      await Bun.sleep(POLL_MS);
    }
  }
}

const LOGGING = `Configuration:
  Appenders:
    Console: { name: console, PatternLayout: { pattern: "%d %p %m (%c)%n" } }
  Loggers:
    Root: { level: INFO, AppenderRef: { ref: console } }
`;
