/**
 * The load generator: sends events to the producers' intake on a schedule that nothing slows, from a pod of its own, and
 * accounts for each of them. One JSON line per second, one per conveyor at the end, and a summary:
 *
 *   {"second":{…}}  {"ledger":{"conveyor":"load-…-1","acknowledged":[[0,99]],…}}  {"summary":{…}}
 *
 * SIGTERM ends the load within a second, and the ledger and the summary are printed all the same.
 */
import { resolve4 } from "node:dns/promises";
import { NAME_PATTERN, NAME_RULE } from "../domain/event.ts";
import { formatStages, type LoadStage, parseStages } from "../domain/load-stages.ts";
import { ACK_LIMIT_MS } from "../producer/intake.ts";
import { type ConfigReader, readCommon } from "../runtime/config.ts";
import { runService, type ServiceFrame } from "../runtime/service.ts";
import { type IntakeClientOptions, type SendOutcome, sendEvents } from "./intake-client.ts";
import { OpenLoad } from "./open-load.ts";

/** Pods come and go while the producer scales: their names are asked for this often. */
const RESOLVE_MS = 1000;
/** A pod that refused a connection is left alone for this long, as long as there is another. */
const AVOID_MS = 1000;
/** The first answer of the name server; without a single pod there is nobody to send to. */
const FIRST_RESOLVE_LIMIT_MS = 10_000;
/** Above the intake's own limit, so that its answer is heard. */
const REQUEST_LIMIT_MS = ACK_LIMIT_MS + 5000;
/** Shorter than a conveyor's name: a hyphen and a number of up to seven digits follow. */
const PREFIX_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,55}$/;
const PREFIX_RULE = "must be 1 to 56 of A-Z a-z 0-9 . _ -, first a letter or digit";

const read = (reader: ConfigReader) => {
  let stages: LoadStage[] = [];
  try {
    stages = parseStages(reader.text("STAGES"));
  } catch (error) {
    reader.problem("STAGES", (error as Error).message);
  }
  return {
    common: readCommon(reader),
    stages,
    run: reader.pattern("RUN_ID", NAME_PATTERN, NAME_RULE, ""),
    /** Conveyors are called PREFIX-1, PREFIX-2, … */
    prefix: reader.pattern("CONVEYOR_PREFIX", PREFIX_PATTERN, PREFIX_RULE, ""),
    conveyors: reader.integer("CONVEYORS", { least: 1, most: 1000, fallback: 60 }),
    seed: reader.integer("SEED", { least: 0, most: 4_294_967_295, fallback: 1 }),
    host: reader.text("TARGET_HOST"),
    intake: {
      port: reader.integer("TARGET_PORT", { least: 1, most: 65_535, fallback: 8443 }),
      ca: reader.file("TARGET_CA"),
      serverName: reader.text("TARGET_SERVER_NAME"),
      token: reader.secretFile("INTAKE_TOKEN_FILE"),
      timeoutMs: REQUEST_LIMIT_MS,
    } satisfies IntakeClientOptions,
  };
};
type Config = ReturnType<typeof read>;

/** The pods that take events, in turn. */
class Targets {
  #addresses: string[] = [];
  #turn = 0;
  readonly #avoidUntil = new Map<string, number>();

  constructor(private readonly host: string) {}

  get count(): number {
    return this.#addresses.length;
  }

  async refresh(): Promise<void> {
    try {
      this.#addresses = (await resolve4(this.host)).sort();
      for (const address of this.#avoidUntil.keys()) {
        if (!this.#addresses.includes(address)) this.#avoidUntil.delete(address);
      }
    } catch {
      // The name server is away or knows no pod: the last ones are still the best guess.
    }
  }

  avoid(address: string): void {
    this.#avoidUntil.set(address, performance.now() + AVOID_MS);
  }

  next(): string | undefined {
    const now = performance.now();
    const open = this.#addresses.filter((address) => (this.#avoidUntil.get(address) ?? 0) <= now);
    const choice = open.length > 0 ? open : this.#addresses;
    return choice[this.#turn++ % Math.max(1, choice.length)];
  }
}

const print = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`);

async function start(config: Config, { log, shutdown }: ServiceFrame): Promise<void> {
  const targets = new Targets(config.host);
  const deadline = performance.now() + FIRST_RESOLVE_LIMIT_MS;
  while (targets.count === 0) {
    await targets.refresh();
    if (targets.count > 0) break;
    if (performance.now() > deadline) throw new Error(`${config.host}: has no address`);
    await Bun.sleep(200);
  }
  const refresh = setInterval(() => void targets.refresh(), RESOLVE_MS);

  const send = async (body: string, signal: AbortSignal): Promise<SendOutcome> => {
    const address = targets.next();
    if (!address) return { kind: "not_taken", afterMs: RESOLVE_MS, why: "no producer" };
    const outcome = await sendEvents(address, body, config.intake, signal);
    if (outcome.kind === "not_taken" || outcome.kind === "unknown") targets.avoid(address);
    return outcome;
  };
  let cpu = process.cpuUsage();
  const load = new OpenLoad({
    stages: config.stages,
    run: config.run,
    conveyors: Array.from({ length: config.conveyors }, (_, index) => `${config.prefix}-${index + 1}`),
    seed: config.seed,
    send,
    onStage: (index, stage, timeMs) => print({ stage: { t: timeMs, index, ...stage } }),
    onSecond: (report) => {
      const used = process.cpuUsage(cpu);
      cpu = process.cpuUsage();
      const cores = Math.round((used.user + used.system) / 1000) / 1000;
      print({ second: { ...report, targets: targets.count, cpu_cores: cores } });
    },
  });
  shutdown.signal.addEventListener("abort", () => load.stop(), { once: true });
  log.info("loading", { run: config.run, stages: formatStages(config.stages), targets: targets.count });
  const finished = load.run().then((summary) => {
    for (const ledger of load.ledger()) print({ ledger });
    print({ summary });
  });
  // A signal ends the load; the process waits here until its account is printed.
  shutdown.step("account", 5000, () => finished);
  await finished;
  clearInterval(refresh);
  await shutdown.begin("stages done", 0);
}

if (import.meta.main) await runService("load-generator", read, start);
