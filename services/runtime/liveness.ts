/**
 * The liveness endpoint in a separate thread. The kubelet probes each second and restarts a container after three
 * seconds without an answer. An overloaded main loop answers too late, and a restart would move its load to the other
 * pods. The thread answers in time and reports whether the main loop turns and makes progress (health.ts). A frozen
 * process answers nothing, since its threads freeze together.
 */
import type { OpsConfig } from "./config.ts";
import type { Health } from "./health.ts";
import type { Logger } from "./log.ts";

/** Interval of the main loop's heartbeat to the thread: several per probe. */
const HEARTBEAT_MS = 250;
/** A main loop without a turn for this long is stuck; an overloaded one is late by a few seconds. */
const LOOP_LIMIT_MS = 15_000;

/** Indexes of the 32-bit numbers that the two threads share. */
export const SHARED = { heartbeats: 0, progress: 1, length: 2 } as const;

export interface LivenessStart {
  port: number;
  tls: { cert: string; key: string };
  shared: SharedArrayBuffer;
  loopLimitMs: number;
}

export interface LivenessServer {
  /** The port, once the thread listens; rejected when it cannot. */
  listening: Promise<number>;
  stop(): void;
}

/** One folder up as source, beside the service's bundle in the image. */
const WORKER = import.meta.url.endsWith(".ts")
  ? new URL("../liveness-worker.ts", import.meta.url)
  : new URL("./liveness-worker.js", import.meta.url);

/**
 * Answers HTTPS on the liveness port, if there is one, for any path: 200 while the main loop turns and every watch of
 * `health` is within its limit, else 503. A failure of the thread is only logged: the kubelet then restarts the container.
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
  const heartbeat = () => {
    Atomics.store(numbers, SHARED.progress, health.live().ok ? 1 : 0);
    Atomics.add(numbers, SHARED.heartbeats, 1);
  };
  heartbeat();
  const heartbeats = setInterval(heartbeat, HEARTBEAT_MS);
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
      clearInterval(heartbeats);
      worker.terminate();
    },
  };
}
