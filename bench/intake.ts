/**
 * The intake's benchmark: a real producer and a real broker over TLS on loopback.
 *
 * Cost: requests of 1,000 events in each form, one after the other. Latency: a sender posts one event at a time, first alone,
 * then while four other senders, each in its own loop, are refused: above its rate, above its bound of series, with a
 * revoked token, with the source of another sender.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { serializeEvent } from "../services/domain/event.ts";
import { Fleet } from "../services/domain/fleet.ts";
import { serializeGenericEvent } from "../services/domain/generic-event.ts";
import { renderSenders, type SenderEntry, sha256 } from "../services/protocol/senders.ts";
import { Pipeline } from "../tests/integration/harness.ts";
import { freePort } from "../tests/servers/free-ports.ts";
import { cpuSeconds } from "./cpu-seconds.ts";
import { FORMS, type Form, genericOf, lineOf } from "./forms.ts";

export const EVENTS_PER_REQUEST = 1000;
/** The first tenth warms up the engine and is not measured. */
const REQUESTS = 220;
const WARM_UP_REQUESTS = 20;
/** Posts of the sender whose latency is measured. */
const POSTS = 2000;
const START_LIMIT_MS = 60_000;

interface Latency {
  p50Ms: number;
  p99Ms: number;
}

interface IntakeFigures {
  /** CPU of the producer, with its requests to Kafka. */
  cpuSecondsPerMillion: Record<Form, number>;
  alone: Latency;
  beside: Latency;
  /** Answers to the refused senders, by sender and status. */
  refused: Record<string, Record<number, number>>;
}

const token = (name: string) => `bench-token-of-${name}`;
/** Above what all forms together write. */
const LIMITS = { mostSources: 1000, mostSeries: 1000 };
const SENDERS: Record<string, Partial<SenderEntry>> = {
  good: { sources: ["*"] },
  fast: { limits: { ...LIMITS, requestsPerSecond: 1 } },
  wide: { sources: ["*"], limits: { ...LIMITS, mostSeries: 1 } },
  foreign: { sources: ["its-own"] },
};
/** Each sends what its own limit refuses. */
const REFUSED = ["fast", "wide", "revoked", "foreign"] as const;

const WRITE_PATH = "/api/v2/write?org=conveyor&bucket=telemetry";

type Post = (sender: string, path: string, body: string) => Promise<Response>;

const lineAt = (sender: string, index: number, source = sender) =>
  `bench_${sender},source=${source},series=${index} value=${index} ${Date.now()}${String(index % 1_000_000).padStart(6, "0")}`;

const bodyOf: Record<Form, (fleet: Fleet) => string> = {
  "version 1": (fleet) => serializeEvent(fleet.next(Date.now())),
  "version 2": (fleet) => serializeGenericEvent(genericOf(fleet.next(Date.now()))),
  line: (fleet) => lineOf(fleet.next(Date.now())),
};

async function costOf(form: Form, pid: number, post: Post): Promise<number> {
  const fleet = new Fleet({ ordinal: 0, count: 60, run: `bench-${form.replace(" ", "-")}`, seed: 1 });
  const path = form === "line" ? WRITE_PATH : "/events";
  let startedAt = 0;
  for (let request = 0; request < REQUESTS; request++) {
    if (request === WARM_UP_REQUESTS) startedAt = await cpuSeconds(pid);
    const body = Array.from({ length: EVENTS_PER_REQUEST }, () => bodyOf[form](fleet)).join("\n");
    const { ok, status } = await post("good", path, body);
    if (!ok) throw new Error(`${form}: the intake answered ${status}`);
  }
  return (((await cpuSeconds(pid)) - startedAt) * 1e6) / ((REQUESTS - WARM_UP_REQUESTS) * EVENTS_PER_REQUEST);
}

async function latencyOf(post: Post): Promise<Latency> {
  const durations: number[] = [];
  for (let index = 0; index < POSTS; index++) {
    const startedAt = performance.now();
    const { status } = await post("good", WRITE_PATH, lineAt("good", 0));
    if (status !== 204) throw new Error(`the measured sender got ${status}`);
    durations.push(performance.now() - startedAt);
  }
  durations.sort((a, b) => a - b);
  const quantile = (share: number) => durations[Math.floor(share * (POSTS - 1))]!;
  return { p50Ms: quantile(0.5), p99Ms: quantile(0.99) };
}

/** Posts as one of the refused senders until the signal. Returns the answers by status. */
async function postInLoop(sender: (typeof REFUSED)[number], post: Post, signal: AbortSignal) {
  const answers: Record<number, number> = {};
  for (let index = 0; !signal.aborted; index++) {
    const line = lineAt(sender, index, sender === "foreign" ? "good" : sender);
    const { status } = await post(sender, WRITE_PATH, line);
    answers[status] = (answers[status] ?? 0) + 1;
  }
  return answers;
}

/** Runs the benchmark. */
export async function benchIntake(): Promise<IntakeFigures> {
  const isPinned = cpus().length >= 2 && Bun.which("taskset") !== null;
  const pipeline = await Pipeline.start(1, isPinned ? { cpu: 0 } : {});
  try {
    await pipeline.prepare();
    await pipeline.setup();
    const secrets = join(pipeline.servers.folder, "bench-intake");
    await mkdir(secrets);
    await writeFile(join(secrets, "token"), token("shared"));
    const entries = Object.entries(SENDERS).map(([name, entry]) => ({
      ...{ name, digests: [sha256(token(name))], isPlain: false, sources: [name], limits: LIMITS },
      ...entry,
    }));
    await writeFile(join(secrets, "senders.json"), renderSenders(entries));
    const port = await freePort();
    const producer = await pipeline.producer({
      SOURCE: "http",
      INTAKE_PORT: String(port),
      INTAKE_TOKEN_FILE: join(secrets, "token"),
      INTAKE_ORG: "conveyor",
      INTAKE_BUCKET: "telemetry",
      LOG_LEVEL: "error",
    });
    await producer.ready(START_LIMIT_MS);
    const { pid } = producer.process;
    if (isPinned) Bun.spawnSync(["taskset", "-a", "-p", "-c", "1", String(pid)]);
    const { ca } = await pipeline.servers.tlsFiles("admin");
    const post: Post = async (sender, path, body) => {
      const headers = { authorization: `Bearer ${token(sender)}` };
      const response = await fetch(`https://localhost:${port}${path}`, { method: "POST", headers, body, tls: { ca } });
      await response.arrayBuffer();
      return response;
    };
    const cpuSecondsPerMillion = {} as Record<Form, number>;
    for (const form of FORMS) cpuSecondsPerMillion[form] = await costOf(form, pid, post);
    await latencyOf(post);
    const alone = await latencyOf(post);
    const stop = new AbortController();
    const loops = REFUSED.map(async (sender) => [sender, await postInLoop(sender, post, stop.signal)] as const);
    const beside = await latencyOf(post);
    stop.abort();
    return { cpuSecondsPerMillion, alone, beside, refused: Object.fromEntries(await Promise.all(loops)) };
  } finally {
    await pipeline.stop();
  }
}
