/**
 * Real senders that write known points with the recipes of docs/senders.md: as a user starts them, configured by the recipes'
 * text alone, apart from ports and folders.
 */
import { appendFile, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Report } from "../../scripts/cli/report.ts";
import { textLines } from "../../services/domain/ndjson.ts";
import type { KnownPoints } from "./known-points.ts";
import { mosquitto, telegraf } from "./programs.ts";
import { recipe } from "./recipes.ts";

const ROOT = join(import.meta.dir, "..", "..");
const POLL_MS = 50;
/** Telegraf and Mosquitto start within a second; more on a busy machine. */
const START_LIMIT_MS = 60_000;
/** Lines that are handed to a program at once. */
const LINES_PER_WRITE = 1000;

/** What the recipes read from the environment. */
export interface IntakeAddress {
  url: string;
  token: string;
  /** Path of the CA's certificate. */
  caFile: string;
}

/** Environment of a recipe. */
export const recipeEnvironment = ({ url, token, caFile }: IntakeAddress): Record<string, string> => ({
  PATH: process.env.PATH ?? "",
  CONVEYOR_URL: url,
  CONVEYOR_TOKEN: token,
  CONVEYOR_CA: caFile,
});

/** A program whose output is kept. */
class SenderProcess {
  readonly lines: string[] = [];
  readonly process: Bun.Subprocess<"pipe", "pipe", "pipe">;

  constructor(
    readonly name: string,
    command: readonly string[],
    env: Record<string, string>,
    cwd: string,
  ) {
    this.process = Bun.spawn([...command], { env, cwd, stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    for (const stream of [this.process.stdout, this.process.stderr]) void this.#read(stream);
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    for await (const line of textLines(stream)) this.lines.push(line);
  }

  /** Writes lines to its standard input, no faster than it reads them. @throws Error with the end of the output */
  async write(lines: readonly string[]): Promise<void> {
    try {
      for (let start = 0; start < lines.length; start += LINES_PER_WRITE) {
        this.process.stdin.write(`${lines.slice(start, start + LINES_PER_WRITE).join("\n")}\n`);
        await this.process.stdin.flush();
      }
    } catch (error) {
      await this.process.exited;
      throw new Error(`${this.name} reads no more:\n${this.#tail()}`, { cause: error });
    }
  }

  #tail(): string {
    return this.lines.slice(-15).join("\n");
  }

  /** Waits until `poll` returns a value. @throws Error with the end of the output when it ends before, or at the limit */
  async until<T>(what: string, limitMs: number, poll: () => T | undefined): Promise<T> {
    const limit = performance.now() + limitMs;
    for (;;) {
      const value = poll();
      if (value !== undefined) return value;
      const { exitCode } = this.process;
      if (exitCode !== null || performance.now() > limit) {
        const state = exitCode === null ? `not within ${limitMs} ms` : `it ended with exit ${exitCode}`;
        throw new Error(`${this.name}: ${what}: ${state}:\n${this.#tail()}`);
      }
      await Bun.sleep(POLL_MS);
    }
  }

  /** Closes its input and waits for exit 0. @throws Error with the end of the output */
  async finish(limitMs: number): Promise<void> {
    await this.process.stdin.end();
    const timer = setTimeout(() => this.process.kill("SIGKILL"), limitMs);
    const exitCode = await this.process.exited;
    clearTimeout(timer);
    if (exitCode !== 0) {
      throw new Error(`${this.name} ended with exit ${exitCode}:\n${this.#tail()}`);
    }
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.process.kill(signal);
    await this.process.exited;
  }
}

/** A running sender of known points. */
export interface Sender extends AsyncDisposable {
  /** Hands points to it; returns when it has them, not when they are acknowledged. */
  feed(from: number, to: number): Promise<void>;
  /** No more points follow: waits until all are acknowledged. Returns how many the sender has seen acknowledged. */
  finish(limitMs: number): Promise<number>;
}

const linesOf = (points: KnownPoints, from: number, to: number) =>
  Array.from({ length: to - from }, (_, place) => points.line(from + place));

/** Telegraf with an output of the recipes and an input of the test. */
class Telegraf implements AsyncDisposable {
  #process: SenderProcess;
  #earlier: string[] = [];

  private constructor(private readonly start: () => SenderProcess) {
    this.#process = start();
  }

  /** @param configs texts of its configuration files */
  static async open(
    address: IntakeAddress,
    folder: string,
    configs: readonly string[],
    report: Report,
  ): Promise<Telegraf> {
    const program = await telegraf(report);
    // Tags of known points are compared one by one: the machine's name is none of them. Telegraf decides at its first file.
    const agent = "[agent]\n  omit_hostname = true\n";
    const files: string[] = [];
    for (const text of [agent, ...configs]) {
      const file = join(folder, `telegraf-${files.length}.conf`);
      await writeFile(file, text);
      files.push("--config", file);
    }
    const environment = recipeEnvironment(address);
    return new Telegraf(() => new SenderProcess("telegraf", [program, "--debug", ...files], environment, folder));
  }

  get #lines(): readonly string[] {
    return [...this.#earlier, ...this.#process.lines];
  }

  /** Points in batches that the intake has acknowledged, as its log says. */
  get acknowledged(): number {
    let sum = 0;
    for (const line of this.#lines) sum += Number(/ Wrote batch of (\d+) metrics /.exec(line)?.[1] ?? 0);
    return sum;
  }

  /** Lines of its log about points that it gives up. */
  get losses(): string[] {
    return this.#lines.filter((line) => /have been dropped|will be dropped|Metrics are lost/.test(line));
  }

  async logged(pattern: RegExp, limitMs = START_LIMIT_MS): Promise<void> {
    await this.#process.until(`no line ${pattern}`, limitMs, () =>
      this.#process.lines.some((line) => pattern.test(line)) ? true : undefined,
    );
  }

  /** Kills it and starts it again with the same configuration. */
  async restart(): Promise<void> {
    await this.#process.kill();
    this.#earlier.push(...this.#process.lines);
    this.#process = this.start();
  }

  /** Waits until it has seen so many points acknowledged. @throws Error also when it gives up a point */
  async wrote(count: number, limitMs: number): Promise<number> {
    return await this.#process.until(`${count} acknowledged points`, limitMs, () => {
      const [loss] = this.losses;
      if (loss) throw new Error(`telegraf gave up points: ${loss}`);
      return this.acknowledged >= count ? this.acknowledged : undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.kill();
  }
}

/** Telegraf that follows a file. @param output a recipe's text */
export async function telegrafOfFile(
  points: KnownPoints,
  address: IntakeAddress,
  folder: string,
  output: string,
  report: Report,
): Promise<Sender> {
  await mkdir(folder, { recursive: true });
  const file = join(folder, "points.lp");
  await writeFile(file, "");
  const input = `[[inputs.tail]]
  files = ["${file}"]
  initial_read_offset = "beginning"
  watch_method = "poll"
  max_undelivered_lines = 20000
  path_tag = ""
  data_format = "influx"
`;
  const running = await Telegraf.open(address, folder, [output, input], report);
  return {
    feed: async (from, to) => await appendFile(file, `${linesOf(points, from, to).join("\n")}\n`),
    finish: (limitMs) => running.wrote(points.count, limitMs),
    [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
  };
}

/** Replaces a text that occurs once. @throws Error when the recipe has changed */
function replaced(text: string, from: string, to: string): string {
  if (text.split(from).length !== 2) throw new Error(`the recipe must contain "${from}" once`);
  return text.replace(from, () => to);
}

export interface MqttSender extends Sender {
  /** Kills Telegraf and starts it again. */
  restartTelegraf(): Promise<void>;
}

/** Machines that publish to Mosquitto, and Telegraf that subscribes to it. @param port a free one */
export async function machinesOverMqtt(
  points: KnownPoints,
  address: IntakeAddress,
  folder: string,
  port: number,
  report: Report,
): Promise<MqttSender> {
  const store = join(folder, "mosquitto");
  await mkdir(store, { recursive: true });
  const listening = replaced(await recipe("mosquitto"), "listener 1883 localhost", `listener ${port} localhost`);
  const stored = replaced(listening, "/var/lib/mosquitto/", `${store}/`);
  const configuration = join(folder, "mosquitto.conf");
  // As root it would change to a user who cannot read the folder.
  await writeFile(
    configuration,
    `${stored}user root\nlog_dest stderr\nlog_type subscribe\nlog_type information\nlog_type error\n`,
  );
  const [broker, publisher] = await Promise.all([mosquitto("mosquitto", report), mosquitto("mosquitto_pub", report)]);
  const environment = recipeEnvironment(address);
  const server = new SenderProcess("mosquitto", [...broker, "-c", configuration], environment, folder);
  const input = replaced(await recipe("telegraf-mqtt"), "localhost:1883", `localhost:${port}`);
  const hasLogged = (text: string) => () => (server.lines.some((line) => line.includes(text)) ? true : undefined);
  await server.until("not running", START_LIMIT_MS, hasLogged(" running"));
  const running = await Telegraf.open(address, folder, [await recipe("telegraf-influxdb"), input], report);
  // Messages of machines are kept from the first subscription on.
  await server.until("no subscription", START_LIMIT_MS, hasLogged("telegraf-conveyor 1 plants/+/+"));
  const machines = new Map<string, SenderProcess>();
  const machine = (topic: string) => {
    let found = machines.get(topic);
    if (!found) {
      const command = [...publisher, "-h", "localhost", "-p", String(port), "-q", "1", "-t", topic, "-l"];
      found = new SenderProcess(topic, command, environment, folder);
      machines.set(topic, found);
    }
    return found;
  };
  return {
    async feed(from, to) {
      const byTopic = new Map<string, string[]>();
      for (let index = from; index < to; index++) {
        const { topic, payload } = points.message(index);
        const payloads = byTopic.get(topic);
        if (payloads) payloads.push(payload);
        else byTopic.set(topic, [payload]);
      }
      await Promise.all([...byTopic].map(([topic, payloads]) => machine(topic).write(payloads)));
    },
    restartTelegraf: () => running.restart(),
    async finish(limitMs) {
      await Promise.all([...machines.values()].map((one) => one.finish(limitMs)));
      return await running.wrote(points.count, limitMs);
    },
    async [Symbol.asyncDispose]() {
      await running[Symbol.asyncDispose]();
      await Promise.all([server, ...machines.values()].map((one) => one.kill()));
    },
  };
}

/** A recipe that reads lines from its standard input and ends with exit 0 when all are acknowledged. */
async function programOfLines(
  points: KnownPoints,
  started: SenderProcess,
  acknowledged: (lines: readonly string[]) => number,
): Promise<Sender> {
  return {
    feed: async (from, to) => await started.write(linesOf(points, from, to)),
    async finish(limitMs) {
      await started.finish(limitMs);
      return acknowledged(started.lines);
    },
    [Symbol.asyncDispose]: () => started.kill(),
  };
}

/** InfluxDB's client for JavaScript, on Node.js. */
export async function javascriptClient(points: KnownPoints, address: IntakeAddress, folder: string): Promise<Sender> {
  await mkdir(folder, { recursive: true });
  await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"));
  const file = join(folder, "send.mjs");
  await writeFile(file, await recipe("javascript-influxdb"));
  const started = new SenderProcess("send.mjs", ["node", file], recipeEnvironment(address), folder);
  return await programOfLines(points, started, (lines) => {
    const counts = lines.find((line) => line.startsWith('{"written":'));
    return (JSON.parse(counts ?? "{}") as { acknowledged?: number }).acknowledged ?? 0;
  });
}

/** InfluxDB's client for Python. @param path the folder with its packages */
export async function pythonClient(
  points: KnownPoints,
  address: IntakeAddress,
  folder: string,
  path: string,
): Promise<Sender> {
  await mkdir(folder, { recursive: true });
  const file = join(folder, "send.py");
  await writeFile(file, await recipe("python-influxdb"));
  const environment = { ...recipeEnvironment(address), PYTHONPATH: path };
  const started = new SenderProcess("send.py", ["python3", file], environment, folder);
  // It raises, and ends with another exit code, when a batch is not acknowledged.
  return await programOfLines(points, started, () => points.count);
}
