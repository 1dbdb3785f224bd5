/** The thread of services/runtime/liveness.ts, which only answers liveness probes. */
import { type LivenessStart, SHARED } from "./runtime/liveness.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<LivenessStart>) => {
  const { port, tls, shared, loopLimitMs } = data;
  const numbers = new Int32Array(shared);
  let heartbeats = Atomics.load(numbers, SHARED.heartbeats);
  let changedAt = performance.now();
  try {
    const server = Bun.serve({
      // Without a hostname: every address of IPv4 and IPv6.
      port,
      tls,
      development: false,
      fetch() {
        const now = performance.now();
        const latest = Atomics.load(numbers, SHARED.heartbeats);
        if (latest !== heartbeats) changedAt = now;
        heartbeats = latest;
        const silentMs = Math.round(now - changedAt);
        const progress = Atomics.load(numbers, SHARED.progress) === 1;
        const ok = progress && silentMs <= loopLimitMs;
        return Response.json(
          { ok, progress, loop_silent_ms: silentMs, loop_limit_ms: loopLimitMs },
          { status: ok ? 200 : 503 },
        );
      },
    });
    self.postMessage({ port: server.port });
  } catch (error) {
    self.postMessage({ failure: String(error) });
  }
};
