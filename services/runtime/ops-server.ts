/** /healthz, /readyz and /metrics over HTTPS, for the kubelet and Prometheus, and further paths of a service. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Registry } from "prom-client";
import type { OpsConfig } from "./config.ts";
import type { Health } from "./health.ts";

/**
 * While a service starts, /readyz waits this long for readiness before it answers: the kubelet probes once a second, and
 * an answer a moment too early would delay the pod's traffic by a second. Shorter than the probes' timeout of 3 s.
 */
const READY_WAIT_MS = 1500;
const READY_POLL_MS = 25;
const MAX_OPS_BODY_BYTES = 1024;

interface OpsServer {
  port: number;
  stop(): Promise<void>;
}

export function startOpsServer(
  config: OpsConfig,
  health: Health,
  registry: Registry,
  extra: Record<string, () => unknown> = {},
): OpsServer {
  let wasReady = false;
  const answer = (report: { ok: boolean }) => Response.json(report, { status: report.ok ? 200 : 503 });
  const readiness = async () => {
    const limit = performance.now() + READY_WAIT_MS;
    let report = health.readiness();
    // A service that was ready before answers at once.
    while (!report.ok && !wasReady && performance.now() < limit) {
      await sleep(READY_POLL_MS);
      report = health.readiness();
    }
    wasReady ||= report.ok;
    return report;
  };
  const server = Bun.serve({
    // Without a hostname: every address of IPv4 and IPv6.
    port: config.port,
    tls: { cert: config.tls.cert, key: config.tls.key },
    maxRequestBodySize: MAX_OPS_BODY_BYTES,
    development: false,
    async fetch(request) {
      if (request.method !== "GET" && request.method !== "HEAD") return new Response(null, { status: 405 });
      // Not by URL(): the host in the address is the client's text, and not always one that a URL can have.
      const pathname = /^https?:\/\/[^/]*([^?#]*)/.exec(request.url)?.[1] ?? "";
      switch (pathname) {
        case "/healthz":
          return answer(health.live());
        case "/readyz":
          return answer(await readiness());
        case "/metrics":
          return new Response(await registry.metrics(), { headers: { "content-type": registry.contentType } });
        default: {
          const report = Object.hasOwn(extra, pathname) ? extra[pathname] : undefined;
          return report ? Response.json(report()) : new Response(null, { status: 404 });
        }
      }
    },
  });
  return { port: server.port!, stop: async () => void (await server.stop(true)) };
}
