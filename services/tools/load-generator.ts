/**
 * The load generator: sends events to the producers' intake and records the outcome of each. What it prints is in
 * services/protocol/load-generator.ts. Two schedules:
 *
 *   open      events are sent on schedule whatever the answers; a ledger per conveyor and a summary at the end
 *   ordered   one batch per conveyor at a time, repeated until acknowledged; each attempt and outcome as it happens
 *
 * SIGTERM ends an open load within a second and an ordered load when what is due is acknowledged; either prints its end.
 */
import { NAME_PATTERN, NAME_RULE } from "../domain/event.ts";
import { formatStages, type LoadStage, parseStages } from "../domain/load-stages.ts";
import { ACK_LIMIT_MS } from "../producer/write-api.ts";
import { type GeneratorLine, LOAD_EVENTS } from "../protocol/load-generator.ts";
import { type ConfigReader, readCommon } from "../runtime/config.ts";
import { addressesOf } from "../runtime/pod-addresses.ts";
import { runService, type ServiceFrame } from "../runtime/service.ts";
import type { Send } from "./delivery.ts";
import { sendEvents } from "./intake-client.ts";
import { LOAD_SERIALIZERS } from "./load-events.ts";
import { OpenLoad } from "./open-load.ts";
import { DRAIN_LIMIT_MS, OrderedLoad } from "./ordered-load.ts";

/** Interval of name resolution: pods are added and removed while the producer scales. */
const RESOLVE_MS = 1000;
/** A pod that refused a connection is skipped for this long while there is another. */
const AVOID_MS = 1000;
const FIRST_RESOLVE_LIMIT_MS = 10_000;
/** Above the intake's own limit, so that its answer is received. */
const REQUEST_LIMIT_MS = ACK_LIMIT_MS + 5000;
/** Below the intake's own limit: a frozen producer never answers, and another one may be available. */
const ORDERED_REQUEST_LIMIT_MS = 5000;
/** An open load needs a moment to print its ledger. */
const OPEN_END_LIMIT_MS = 5000;
/** Shorter than a conveyor's name: a hyphen and a number of up to seven digits follow. */
const PREFIX_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,55}$/;
const PREFIX_RULE = "must be 1 to 56 of A-Z a-z 0-9 . _ -, first a letter or digit";

const readStages = (reader: ConfigReader): LoadStage[] => {
  try {
    return parseStages(reader.text("STAGES"));
  } catch (error) {
    reader.problem("STAGES", (error as Error).message);
    return [];
  }
};

/** Names of the conveyors: CONVEYOR_NAMES, or PREFIX-1, PREFIX-2, … */
function readConveyors(reader: ConfigReader): string[] {
  if (reader.has("CONVEYOR_NAMES")) {
    const names = reader.text("CONVEYOR_NAMES").split(",");
    for (const name of names) if (!NAME_PATTERN.test(name)) reader.problem("CONVEYOR_NAMES", NAME_RULE, name);
    return names;
  }
  const prefix = reader.pattern("CONVEYOR_PREFIX", PREFIX_PATTERN, PREFIX_RULE, "");
  const count = reader.integer("CONVEYORS", { least: 1, most: 1000, fallback: 60 });
  return Array.from({ length: count }, (_, index) => `${prefix}-${index + 1}`);
}

const read = (reader: ConfigReader) => {
  const schedule = reader.choice("SCHEDULE", ["open", "ordered"], "open");
  return {
    common: readCommon(reader),
    schedule,
    load: {
      stages: readStages(reader),
      run: reader.pattern("RUN_ID", NAME_PATTERN, NAME_RULE, ""),
      conveyors: readConveyors(reader),
      seed: reader.integer("SEED", { least: 0, most: 4_294_967_295, fallback: 1 }),
      serialize: LOAD_SERIALIZERS[reader.choice("EVENTS", LOAD_EVENTS, "v1")],
    },
    host: reader.text("TARGET_HOST"),
    intake: {
      port: reader.integer("TARGET_PORT", { least: 1, most: 65_535, fallback: 8443 }),
      ca: reader.file("TARGET_CA"),
      serverName: reader.text("TARGET_SERVER_NAME"),
      token: reader.secretFile("INTAKE_TOKEN_FILE"),
      timeoutMs: schedule === "open" ? REQUEST_LIMIT_MS : ORDERED_REQUEST_LIMIT_MS,
    },
  };
};
type Config = ReturnType<typeof read>;

/** The addresses that accept events, in turn. */
class IntakeAddresses {
  #addresses: string[] = [];
  #turn = 0;
  readonly #avoidUntil = new Map<string, number>();

  constructor(private readonly host: string) {}

  get count(): number {
    return this.#addresses.length;
  }

  async refresh(): Promise<void> {
    try {
      this.#addresses = await addressesOf(this.host);
      for (const address of this.#avoidUntil.keys()) {
        if (!this.#addresses.includes(address)) this.#avoidUntil.delete(address);
      }
    } catch {
      // The name server does not answer or knows no pod: the last addresses stay.
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

const print = (line: GeneratorLine) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** @throws Error when the host has no address within the limit. */
async function resolveFirst(addresses: IntakeAddresses, host: string): Promise<void> {
  const deadline = performance.now() + FIRST_RESOLVE_LIMIT_MS;
  for (;;) {
    await addresses.refresh();
    if (addresses.count > 0) return;
    if (performance.now() > deadline) throw new Error(`${host}: has no address`);
    await Bun.sleep(200);
  }
}

function openLoad({ load }: Config, send: Send, targets: () => number) {
  let cpu = process.cpuUsage();
  const open = new OpenLoad({
    ...load,
    send,
    onStage: (index, stage, timeMs) => print({ stage: { t: timeMs, index, ...stage } }),
    onSecond: (report) => {
      const used = process.cpuUsage(cpu);
      cpu = process.cpuUsage();
      const cores = Math.round((used.user + used.system) / 1000) / 1000;
      print({ second: { ...report, targets: targets(), cpu_cores: cores } });
    },
  });
  const run = async () => {
    const summary = await open.run();
    for (const ledger of open.ledger()) print({ ledger });
    print({ summary });
  };
  return { stop: () => open.stop(), run, endLimitMs: OPEN_END_LIMIT_MS };
}

function orderedLoad({ load }: Config, send: Send) {
  const ordered = new OrderedLoad({ ...load, send, onLine: print });
  return { stop: () => ordered.stop(), run: () => ordered.run(), endLimitMs: DRAIN_LIMIT_MS + 2000 };
}

async function start(config: Config, { log, shutdown }: ServiceFrame): Promise<void> {
  const addresses = new IntakeAddresses(config.host);
  await resolveFirst(addresses, config.host);
  const refresh = setInterval(() => void addresses.refresh(), RESOLVE_MS);
  const send: Send = async (body, signal, isRepeat) => {
    const address = addresses.next();
    if (!address) return { kind: "not_taken", afterMs: RESOLVE_MS, why: "no producer" };
    const outcome = await sendEvents(address, body, { ...config.intake, isFresh: isRepeat }, signal);
    if (outcome.kind === "not_taken" || outcome.kind === "unknown") addresses.avoid(address);
    return outcome;
  };
  const { schedule, load } = config;
  const sender = schedule === "open" ? openLoad(config, send, () => addresses.count) : orderedLoad(config, send);
  shutdown.signal.addEventListener("abort", () => sender.stop(), { once: true });
  log.info("loading", { schedule, run: load.run, stages: formatStages(load.stages), targets: addresses.count });
  const finished = sender.run();
  // A signal ends the load; the process exits when its last line is printed.
  shutdown.step("ledger", sender.endLimitMs, () => finished);
  await finished;
  clearInterval(refresh);
  await shutdown.begin("stages done", 0);
}

if (import.meta.main) await runService("load-generator", read, start);
