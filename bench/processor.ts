/**
 * The processor's benchmark: the processor as a process, between a real broker and a real InfluxDB over TLS.
 *
 * The servers are pinned to one core and the measured process to another. The topic is filled first; then the processor
 * reads it from the beginning. The floor is the same consumer without the work. The first tenth warms up the engine and
 * is not measured.
 */
import { readFile, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { Fleet } from "../services/domain/fleet.ts";
import { EVENTS_TOPIC, TOPIC_TABLE } from "../services/domain/kafka-layout.ts";
import { createKafka, withAdmin } from "../services/kafka/client.ts";
import { EventProducer } from "../services/kafka/event-producer.ts";
import { Logger } from "../services/runtime/log.ts";
import { freePort } from "../tests/servers/free-ports.ts";
import { RealServers, unavailable } from "../tests/servers/real-servers.ts";
import { cpuSeconds } from "./cpu-seconds.ts";
import { FORMS, type Form, recordOf } from "./forms.ts";

export const DEFAULT_EVENTS = 1_000_000;
const WARM_UP_SHARE = 0.1;
const POLL_MS = 200;
/** The benchmark fails after this time without progress. */
const STALL_LIMIT_MS = 60_000;
const IDLE_MS = 10_000;

/** The log of the benchmark's own clients is dropped; their errors are thrown. */
const silent = new Logger("bench", "error", {}, () => {});

interface ConsumerFigures {
  events: number;
  eventsPerSecond: number;
  cpuSecondsPerMillion: number;
  /** Largest resident memory while busy. */
  maxRssMb: number;
}

interface ProcessorFigures {
  /** The consumer alone, with kafkajs' decoder and with our own. */
  kafkajsFloor: ConsumerFigures;
  floor: ConsumerFigures;
  /** By the form of the events. */
  processor: Record<Form, ConsumerFigures>;
  idleCpuPercent: number;
  points: number;
}

/** A topic for each form. */
const topicOf = (form: Form) => (form === "version 1" ? EVENTS_TOPIC : `bench.${form.replace(" ", "-")}`);

async function rssMb(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(text)?.[1] ?? 0) / 1024;
}

/** Samples a consumer's count until it has all events. */
async function measure(pid: number, total: number, count: () => Promise<number>): Promise<ConsumerFigures> {
  let first: { at: number; count: number; cpu: number } | undefined;
  let last: typeof first;
  let maxRssMb = 0;
  let progressAt = performance.now();
  let before = 0;
  for (;;) {
    const counted = await count().catch(() => before);
    const now = { at: performance.now(), count: counted, cpu: await cpuSeconds(pid) };
    maxRssMb = Math.max(maxRssMb, await rssMb(pid));
    if (counted >= total * WARM_UP_SHARE && counted < total) {
      first ??= now;
      last = now;
    }
    if (counted >= total) {
      // The end is between two samples; the rate is that of the last sample before it.
      if (!first || !last || first === last) throw new Error("too few events to measure: pass more with --events");
      const events = last.count - first.count;
      return {
        events: total,
        eventsPerSecond: (events * 1000) / (last.at - first.at),
        cpuSecondsPerMillion: ((last.cpu - first.cpu) * 1e6) / events,
        maxRssMb,
      };
    }
    if (counted > before) progressAt = now.at;
    if (now.at - progressAt > STALL_LIMIT_MS) throw new Error(`stalled at ${counted} of ${total} events`);
    before = counted;
    await Bun.sleep(POLL_MS);
  }
}

const onCore = (core: number | undefined, command: string[]) =>
  core === undefined ? command : ["taskset", "-c", String(core), ...command];

async function fill(servers: RealServers, events: number): Promise<void> {
  const kafka = { brokers: servers.brokers, tls: await servers.tlsFiles("admin") };
  const { partitions: numPartitions } = TOPIC_TABLE.find(({ name }) => name === EVENTS_TOPIC)!;
  const topics = [
    ...TOPIC_TABLE.map(({ name: topic, partitions }) => ({ topic, numPartitions: partitions, replicationFactor: 1 })),
    ...FORMS.map(topicOf)
      .filter((topic) => topic !== EVENTS_TOPIC)
      .map((topic) => ({ topic, numPartitions, replicationFactor: 1 })),
  ];
  await withAdmin(createKafka(kafka, "bench", silent), (admin) => admin.createTopics({ topics, waitForLeaders: true }));
  const producer = new EventProducer({
    kafka,
    clientId: "fill",
    log: silent,
    topics: FORMS.map(topicOf),
    maxBufferedEvents: 20_000,
    maxBufferedBytes: 64 * 1024 * 1024,
  });
  producer.start();
  // 60 conveyors are distributed evenly over six partitions.
  const fleet = new Fleet({ ordinal: 0, count: 60, run: "bench", seed: 1 });
  const startMs = Date.now() - 3_600_000;
  for (let index = 0; index < events; index++) {
    const event = fleet.next(startMs + Math.floor(index / 600));
    for (const form of FORMS) {
      const outgoing = { topic: topicOf(form), ...recordOf(form, event), settled: () => {} };
      while (!producer.offer(outgoing)) await producer.whenRoom();
    }
  }
  await producer.flush();
  await producer.stop();
}

/** Runs the benchmark; `report` is called with one line per step. */
export async function benchProcessor(events: number, report: (line: string) => void): Promise<ProcessorFigures> {
  const missing = await unavailable();
  if (missing) throw new Error(`the benchmark cannot run here: ${missing}`);
  const pin = cpus().length >= 2 && Bun.which("taskset") !== null;
  const [serverCore, clientCore] = pin ? [0, 1] : [undefined, undefined];
  const servers = await RealServers.start({ brokers: 1, ...(pin ? { cpu: serverCore } : {}) });
  const children = new Set<Bun.Subprocess>();
  try {
    const startedAt = performance.now();
    await fill(servers, events);
    const rate = ((events * FORMS.length) / (performance.now() - startedAt)) * 1000;
    report(
      `filled ${events} events in each of ${FORMS.length} forms over TLS, acknowledged, at ${Math.round(rate)} events/s`,
    );

    const env = servers.environment("admin");
    const measureFloor = async (decoder: string): Promise<ConsumerFigures> => {
      const child = Bun.spawn(onCore(clientCore, ["bun", join(import.meta.dir, "floor-consumer.ts")]), {
        env: { ...env, PATH: process.env.PATH, DECODER: decoder },
        stdout: "pipe",
        stderr: "inherit",
      });
      children.add(child);
      let count = 0;
      void (async () => {
        const decoder = new TextDecoder();
        for await (const chunk of child.stdout) count = Number(decoder.decode(chunk).trim().split("\n").at(-1));
      })();
      const figures = await measure(child.pid, events, async () => count);
      child.kill("SIGKILL");
      await child.exited;
      await deleteGroup(servers);
      return figures;
    };
    const kafkajsFloor = await measureFloor("kafkajs");
    const floor = await measureFloor("own");

    const token = await servers.onboardInflux();
    const tokenFile = join(servers.folder, "bench-token");
    await writeFile(tokenFile, token);
    const ca = (await servers.tlsFiles("admin")).ca;
    const measureProcessor = async (form: Form) => {
      const opsPort = await freePort();
      const child = Bun.spawn(onCore(clientCore, ["bun", join(import.meta.dir, "../services/processor.ts")]), {
        env: {
          ...env,
          TOPIC: topicOf(form),
          INFLUX_TOKEN_FILE: tokenFile,
          OPS_PORT: String(opsPort),
          LOG_LEVEL: "warn",
        },
        stdout: "inherit",
        stderr: "inherit",
      });
      children.add(child);
      const written = async () => {
        const text = await (await fetch(`https://localhost:${opsPort}/metrics`, { tls: { ca } })).text();
        return Number(/^conveyor_processor_points_written_total (\d+)/m.exec(text)?.[1] ?? 0);
      };
      const figures = await measure(child.pid, events, written);
      const idleFrom = await cpuSeconds(child.pid);
      await Bun.sleep(IDLE_MS);
      const idleCpuPercent = (((await cpuSeconds(child.pid)) - idleFrom) * 100_000) / IDLE_MS;
      child.kill("SIGTERM");
      const exitCode = await child.exited;
      if (exitCode !== 0) throw new Error(`the processor ended with exit ${exitCode}`);
      await deleteGroup(servers);
      return { figures, idleCpuPercent };
    };
    const processor = {} as Record<Form, ConsumerFigures>;
    let idleCpuPercent = 0;
    for (const form of FORMS) {
      ({ figures: processor[form], idleCpuPercent } = await measureProcessor(form));
    }
    const points = await servers.countPoints();
    if (points !== events) throw new Error(`${points} points of version 1 in InfluxDB for ${events} events`);
    return { kafkajsFloor, floor, processor, idleCpuPercent, points };
  } finally {
    for (const child of children) child.kill("SIGKILL");
    await servers.stop();
  }
}

/** Deletes the group's offsets, so that the next consumer starts at the beginning. */
async function deleteGroup(servers: RealServers): Promise<void> {
  const tls = await servers.tlsFiles("admin");
  await withAdmin(createKafka({ brokers: servers.brokers, tls }, "bench", silent), async (admin) => {
    // The session of the killed member must expire first.
    for (let attempt = 0; ; attempt++) {
      try {
        return await admin.deleteGroups(["processor"]);
      } catch (error) {
        if (attempt >= 60) throw error;
        await Bun.sleep(500);
      }
    }
  });
}
