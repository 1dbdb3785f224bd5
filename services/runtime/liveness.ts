/**
 * Liveness from a thread of its own. The kubelet asks each second and takes three seconds of silence for a frozen process.
 * The main loop cannot promise that: with more load than it can carry it is late for every answer, and a restart then
 * takes away a producer that does what it can, and gives its load to the others. A thread that does nothing else answers
 * in time, and says whether the main loop still turns and makes progress (health.ts). Stopped, the process is silent as a
 * whole.
 */
import type { OpsConfig } from "./config.ts";
import type { Health } from "./health.ts";
import type { Logger } from "./log.ts";

/** How often the main loop says that it turns; several times between two probes. */
const BEAT_MS = 250;
/**
 * A main loop that has not turned for so long is stuck: one that is overloaded on a crowded machine was seen to be late by
 * seconds, never by as much.
 */
const LOOP_LIMIT_MS = 15_000;

/** What the two threads share: 32-bit numbers at these places. */
export const SHARED = { beats: 0, progress: 1, length: 2 } as const;

/** What the thread is given. */
export interface LivenessStart {
  port: number;
  tls: { cert: string; key: string };
  shared: SharedArrayBuffer;
  loopLimitMs: number;
}

export interface LivenessServer {
  /** The port, once the thread listens. @throws what kept it from listening. */
  listening: Promise<number>;
  stop(): void;
}

/** Beside this module as source, beside the service's bundle in the image. */
const WORKER = import.meta.url.endsWith(".ts")
  ? new URL("../liveness-worker.ts", import.meta.url)
  : new URL("./liveness-worker.js", import.meta.url);

/**
 * Answers HTTPS on the liveness port, where there is one, whatever the path: 200 while the main loop turns and every watch of `health` is kept, else 503,
 * with a line of JSON that says which. Without it nobody answers, and the kubelet restarts the container: so a thread that
 * fails is only noted.
 */
export function startLivenessServer(
  { livenessPort: port, tls }: Pick<OpsConfig, "livenessPort" | "tls">,
  health: Health,
  log: Logger,
  loopLimitMs = LOOP_LIMIT_MS,
): LivenessServer | undefined {
  if (port === undefined) return undefined;
  const shared = new SharedArrayBuffer(SHARED.length * Int32Array.BYTES_PER_ELEMENT);
  const numbers = new Int32Array(shared);
  const beat = () => {
    Atomics.store(numbers, SHARED.progress, health.live().ok ? 1 : 0);
    Atomics.add(numbers, SHARED.beats, 1);
  };
  beat();
  const beating = setInterval(beat, BEAT_MS);
  const worker = new Worker(WORKER.href);
  const { promise: listening, resolve, reject } = Promise.withResolvers<number>();
  listening.catch((error) => log.error("liveness_thread_failed", { error }));
  worker.onmessage = ({ data }: MessageEvent<{ port: number } | { failure: string }>) =>
    "port" in data ? resolve(data.port) : reject(new Error(data.failure));
  worker.onerror = ({ message }) => reject(new Error(message));
  worker.postMessage({ port, tls, shared, loopLimitMs } satisfies LivenessStart);
  return {
    listening,
    stop() {
      clearInterval(beating);
      worker.terminate();
    },
  };
}
