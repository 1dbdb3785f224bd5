/**
 * The pipeline without Kubernetes: real brokers and a real InfluxDB on loopback (tests/servers/real-servers.ts), the real
 * services as processes, bundled as for their image. Only the API server of setup's two Secrets is a fake.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Admin, PartitionMetadata } from "kafkajs";
import { bundle } from "../../services/bundle.ts";
import { textLines } from "../../services/domain/ndjson.ts";
import type { Range } from "../../services/domain/sequence.ts";
import { createKafka, RETRY_BRIEFLY } from "../../services/kafka/client.ts";
import { BY_ENVIRONMENT, type KafkaAccess } from "../../services/protocol/kafka.ts";
import type { ProbeData, ProbeResult, ProbeSpec } from "../../services/protocol/probe.ts";
import type { KafkaConfig, SaslConfig } from "../../services/runtime/config.ts";
import { Logger } from "../../services/runtime/log.ts";
import { freePort } from "../servers/free-ports.ts";
import { type Principal, RealServers, type ServerOptions, unavailable } from "../servers/real-servers.ts";

const POLL_MS = 100;
/** A graceful shutdown takes up to 25 s; more on a busy machine. */
const STOP_LIMIT_MS = 60_000;
/** A response takes milliseconds; much longer while three brokers start on the machine. */
const ANSWER_LIMIT_MS = 30_000;

/** The process ended that was expected to reach the awaited state: `until` stops at once. */
class Ended extends Error {}

/** The reason to skip, or undefined. The servers take cores and minutes, so a run must enable them, as npm test does. */
export async function skipReason(): Promise<string | undefined> {
  if (process.env.CONVEYOR_INTEGRATION_TESTS !== "1") return "CONVEYOR_INTEGRATION_TESTS=1 is not set";
  return await unavailable();
}

export interface LogLine {
  level: string;
  event: string;
  [field: string]: unknown;
}

/** One service as a process; its log lines are kept. */
export class ServiceProcess {
  readonly lines: LogLine[] = [];
  readonly raw: string[] = [];
  readonly process: Bun.Subprocess<"ignore" | Blob, "pipe", "inherit">;

  constructor(
    folder: string,
    readonly entry: string,
    readonly environment: Record<string, string>,
    readonly opsPort: number | undefined,
    private readonly ca: string,
    input?: Blob,
  ) {
    this.process = Bun.spawn([process.execPath, join(folder, `${entry}.js`)], {
      env: environment,
      stdin: input ?? "ignore",
      stdout: "pipe",
      stderr: "inherit",
    }) as Bun.Subprocess<"ignore" | Blob, "pipe", "inherit">;
    void this.#read();
  }

  async #read(): Promise<void> {
    for await (const line of textLines(this.process.stdout)) {
      this.raw.push(line);
      try {
        this.lines.push(JSON.parse(line) as LogLine);
      } catch {
        this.lines.push({ level: "none", event: "not_json", text: line });
      }
    }
  }

  find(event: string): LogLine | undefined {
    return this.lines.find((line) => line.event === event);
  }

  /** Waits for the first log line with this event. */
  async logged(event: string, limitMs: number): Promise<LogLine> {
    return await until(`${this.entry} to log ${event}`, limitMs, () => {
      if (this.process.exitCode !== null && !this.find(event)) {
        throw new Ended(`${this.entry} ended (exit ${this.process.exitCode}) without ${event}:\n${this.tail()}`);
      }
      return this.find(event);
    });
  }

  tail(lines = 15): string {
    return this.raw.slice(-lines).join("\n");
  }

  /** GET on the ops port. */
  async get(path: string): Promise<{ status: number; text: string }> {
    const answer = await fetch(`https://localhost:${this.opsPort}${path}`, {
      tls: { ca: this.ca },
      signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
    });
    return { status: answer.status, text: await answer.text() };
  }

  async metric(name: string): Promise<number> {
    const { text } = await this.get("/metrics");
    let sum = 0;
    for (const line of text.split("\n")) {
      const match = /^([a-z0-9_]+)(?:\{[^}]*\})? (\S+)$/.exec(line);
      if (match?.[1] === name) sum += Number(match[2]);
    }
    return sum;
  }

  async ready(limitMs: number): Promise<void> {
    await until(`${this.entry} to be ready`, limitMs, async () => {
      if (this.process.exitCode !== null) throw new Ended(`${this.entry} ended:\n${this.tail()}`);
      return (await this.get("/readyz").catch(() => ({ status: 0 }))).status === 200 ? true : undefined;
    });
  }

  /**
   * Sends a signal and returns the exit code.
   * @throws Error with the last log lines when it had to be killed after STOP_LIMIT_MS
   */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number> {
    if (this.process.exitCode !== null) return this.process.exitCode;
    this.process.kill(signal);
    let killed = false;
    const timer = setTimeout(() => {
      killed = true;
      this.process.kill("SIGKILL");
    }, STOP_LIMIT_MS);
    const code = await this.process.exited;
    clearTimeout(timer);
    if (killed) throw new Error(`${this.entry} did not end within ${STOP_LIMIT_MS} ms of ${signal}:\n${this.tail()}`);
    return code;
  }
}

/**
 * Polls until `poll` returns a value. A failed poll counts as no value, since servers are killed and started meanwhile.
 * @throws Error with the awaited state and the last failure; at once when the process in question has ended
 */
export async function until<T>(
  what: string,
  limitMs: number,
  poll: () => Promise<T | undefined> | T | undefined,
): Promise<T> {
  const limit = performance.now() + limitMs;
  let failure: unknown;
  for (;;) {
    try {
      const value = await poll();
      if (value !== undefined) return value;
      failure = undefined;
    } catch (error) {
      if (error instanceof Ended) throw error;
      failure = error;
    }
    if (performance.now() > limit) throw new Error(`waited ${limitMs} ms for ${what}`, { cause: failure });
    await Bun.sleep(POLL_MS);
  }
}

export interface Ledger {
  run: string;
  attempted: number;
  acknowledged: number;
  refused: number;
  buffered: number;
  dropped_from_ledger: number;
  runs: Record<string, Record<string, Range[]>>;
}

export class Pipeline {
  readonly #children = new Set<ServiceProcess>();
  readonly #secrets: Record<string, Record<string, string>> = {
    "influxdb-token-processor": {},
    "influxdb-token-reader": {},
    "kafka-cluster-id": {},
  };
  #api: ReturnType<typeof Bun.serve> | undefined;
  #tokens = 0;

  private constructor(readonly servers: RealServers) {}

  static async start(brokers: number, options: Partial<ServerOptions> = {}): Promise<Pipeline> {
    return new Pipeline(await RealServers.start({ brokers, brokerHeapMb: brokers > 1 ? 320 : 512, ...options }));
  }

  /** How the harness itself connects to Kafka, where the administrator's certificate is not enough. */
  saslOfAdmin: SaslConfig | undefined;

  /** The administrator's connection to Kafka. */
  async connection(): Promise<KafkaConfig> {
    const { ca, ...own } = await this.servers.tlsFiles("admin");
    const { saslOfAdmin: sasl } = this;
    return { brokers: this.servers.brokers, ...(sasl ? { tls: { ca }, sasl } : { tls: { ca, ...own } }) };
  }

  /** A Secret written by setup, decoded. */
  secret(name: string, key = "token"): string {
    return Buffer.from(this.#secrets[name]?.[key] ?? "", "base64").toString();
  }

  setSecret(name: string, key: string, value: string): void {
    this.#secrets[name]![key] = Buffer.from(value).toString("base64");
  }

  /** Runs the setup service to its end. Returns its closing log line. */
  async setup(environment: Record<string, string> = {}): Promise<LogLine> {
    const { servers } = this;
    const { cert, key } = await servers.tlsFiles("influxdb");
    this.#api ??= Bun.serve({
      port: 0,
      tls: { cert, key },
      fetch: async (request) => {
        const name = new URL(request.url).pathname.split("/").at(-1)!;
        const secret = this.#secrets[name];
        if (!secret || request.headers.get("authorization") !== "Bearer account") {
          return new Response("{}", { status: 403 });
        }
        if (request.method === "PATCH") {
          Object.assign(secret, ((await request.json()) as { data: Record<string, string> }).data);
        }
        return Response.json({ data: secret });
      },
    });
    const file = async (name: string, text: string) => {
      const path = join(servers.folder, name);
      await writeFile(path, text);
      return path;
    };
    const { username, password, token } = servers.influxAdmin;
    const replicas = Math.min(3, servers.brokers.length);
    const setup = this.spawn("setup", "admin", {
      REPLICATION_FACTOR: String(replicas),
      MIN_INSYNC_REPLICAS: String(Math.max(1, replicas - 1)),
      INFLUX_ADMIN_USERNAME_FILE: await file("admin-username", username),
      INFLUX_ADMIN_PASSWORD_FILE: await file("admin-password", password),
      INFLUX_ADMIN_TOKEN_FILE: await file("admin-token", token),
      KUBERNETES_SERVICE_HOST: "localhost",
      KUBERNETES_SERVICE_PORT: String(this.#api.port),
      KUBE_TOKEN_FILE: await file("account-token", "account"),
      KUBE_CA_FILE: servers.tlsPaths("admin").ca,
      ...environment,
    });
    const code = await setup.process.exited;
    if (code !== 0) throw new Error(`setup ended with exit ${code}:\n${setup.tail()}`);
    return await setup.logged("setup_done", 1000);
  }

  spawn(
    entry: string,
    principal: Principal,
    environment: Record<string, string>,
    opsPort?: number,
    input?: Blob,
    folder = this.bundled,
  ): ServiceProcess {
    const { servers } = this;
    const child = new ServiceProcess(
      folder,
      entry,
      {
        ...servers.environment(principal),
        ...(opsPort ? { OPS_PORT: String(opsPort) } : {}),
        ...environment,
      },
      opsPort,
      this.#ca,
      input,
    );
    this.#children.add(child);
    return child;
  }

  #ca = "";

  /** Folder of the services that `prepare` bundles. */
  get bundled(): string {
    return join(this.servers.folder, "services");
  }

  async prepare(): Promise<void> {
    await bundle(this.bundled);
    this.#ca = await readFile(this.servers.tlsPaths("admin").ca, "utf8");
  }

  async producer(environment: Record<string, string>, input?: Blob): Promise<ServiceProcess> {
    const port = await freePort();
    return this.spawn("producer", "producer", environment, port, input);
  }

  async processor(environment: Record<string, string> = {}): Promise<ServiceProcess> {
    const port = await freePort();
    const tokenFile = join(this.servers.folder, `token-${this.#tokens++}`);
    await writeFile(tokenFile, this.secret("influxdb-token-processor"));
    return this.spawn("processor", "processor", { INFLUX_TOKEN_FILE: tokenFile, ...environment }, port);
  }

  /** Environment of tools that connect to Kafka by it; requests then name no brokers. */
  toolEnvironment: Record<string, string> | undefined;

  /** Kafka's address and the administrator's certificate, for requests to tools. */
  get kafka(): KafkaAccess {
    return this.toolEnvironment
      ? { brokers: BY_ENVIRONMENT }
      : { brokers: [...this.servers.brokers], tls: this.servers.tlsPaths("admin") };
  }

  /** Runs a program of services/tools with a request. Returns the lines of its output. */
  runTool(program: "probe" | "log-reader", request: unknown): AsyncIterable<string> {
    const child = Bun.spawn([process.execPath, join(this.bundled, `${program}.js`)], {
      stdin: new Blob([JSON.stringify(request)]),
      env: { ...process.env, ...this.toolEnvironment },
      stdout: "pipe",
      stderr: "inherit",
    });
    return textLines(child.stdout);
  }

  async probe<const P extends ProbeSpec>(probe: P): Promise<ProbeData<P>> {
    const output = (await Array.fromAsync(this.runTool("probe", [{ ...probe, id: "probe" }]))).join("\n");
    const [result] = JSON.parse(output) as [ProbeResult<ProbeData<P>>];
    if (!result.ok) throw new Error(`probe: ${result.detail}`);
    return result.data;
  }

  async #adminClient(): Promise<Admin> {
    const log = new Logger("harness", "error", {}, () => {});
    return createKafka(await this.connection(), "harness", log, { retry: RETRY_BRIEFLY }).admin();
  }

  /** A connected admin client; the caller disconnects it. */
  async admin(): Promise<Admin> {
    const admin = await this.#adminClient();
    await admin.connect();
    return admin;
  }

  /** Number of the broker that coordinates a group: the leader of the group's partition in __consumer_offsets. */
  async coordinatorOf(group: string): Promise<number> {
    const admin = await this.admin();
    try {
      const { topics } = await admin.fetchTopicMetadata({ topics: ["__consumer_offsets"] });
      const { partitions } = topics[0]!;
      // Kafka's Utils.abs(groupId.hashCode()) % partitions.
      let hash = 0;
      for (let index = 0; index < group.length; index++) hash = (hash * 31 + group.charCodeAt(index)) | 0;
      const partition = (hash & 0x7fff_ffff) % partitions.length;
      return partitions.find(({ partitionId }) => partitionId === partition)!.leader;
    } finally {
      await admin.disconnect();
    }
  }

  /** Waits until every replica of every partition is in sync, before the next broker is killed. */
  async inSync(limitMs: number): Promise<void> {
    await this.#partitions(
      "all replicas to be in sync",
      limitMs,
      ({ isr, replicas }) => isr.length === replicas.length,
    );
  }

  /** Waits until a broker leads no partition and is in no ISR. */
  async removedFromIsr(node: number, limitMs: number): Promise<void> {
    await this.#partitions(
      `kafka-${node} to lead no partition and be in no ISR`,
      limitMs,
      ({ leader, isr }) => leader !== node && !isr.includes(node),
    );
  }

  /** Waits until a condition holds for all partitions of all topics. */
  async #partitions(what: string, limitMs: number, isAsWanted: (partition: PartitionMetadata) => boolean) {
    const admin = await this.#adminClient();
    let isConnected = false;
    try {
      await until(what, limitMs, async () => {
        if (!isConnected) await admin.connect();
        isConnected = true;
        const { topics } = await admin.fetchTopicMetadata();
        const partitions = topics.flatMap((topic) => topic.partitions);
        return partitions.length > 0 && partitions.every(isAsWanted) ? true : undefined;
      });
    } finally {
      await admin.disconnect();
    }
  }

  /** Sequence numbers of one run in InfluxDB, by conveyor. */
  async stored(run: string): Promise<Map<string, Set<number>>> {
    const csv = await this.servers.query(
      `from(bucket: "telemetry") |> range(start: 0) |> filter(fn: (r) => r._measurement == "conveyor_telemetry" and (r._field == "seq" or r._field == "run"))` +
        ` |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value") |> filter(fn: (r) => r.run == "${run}") |> keep(columns: ["conveyor", "seq"])`,
    );
    const found = new Map<string, Set<number>>();
    let columns: string[] = [];
    for (const line of csv.split("\r\n")) {
      const cells = line.split(",");
      if (cells.includes("conveyor") && cells.includes("seq")) columns = cells;
      else if (line !== "" && columns.length > 0 && cells.length === columns.length) {
        const conveyor = cells[columns.indexOf("conveyor")]!;
        const sequences = found.get(conveyor) ?? new Set<number>();
        sequences.add(Number(cells[columns.indexOf("seq")]));
        found.set(conveyor, sequences);
      }
    }
    return found;
  }

  async stop(): Promise<void> {
    for (const child of this.#children) child.process.kill("SIGKILL");
    this.#api?.stop(true);
    await this.servers.stop();
  }
}

/** "conveyor/seq" of acknowledged events that are not in the database. */
export function missingFrom(stored: Map<string, Set<number>>, conveyors: Record<string, Range[]>): string[] {
  const missing: string[] = [];
  for (const [conveyor, ranges] of Object.entries(conveyors)) {
    for (const [first, last] of ranges) {
      for (let seq = first; seq <= last; seq++) {
        if (!stored.get(conveyor)?.has(seq)) missing.push(`${conveyor}/${seq}`);
      }
    }
  }
  return missing;
}
