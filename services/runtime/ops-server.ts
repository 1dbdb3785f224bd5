/** /healthz, /readyz and /metrics over HTTPS, for the kubelet and Prometheus; further paths are the service's own. */
import type { Registry } from "prom-client";
import type { OpsConfig } from "./config.ts";
import type { Health } from "./health.ts";

/**
 * While it starts, a service lets the question whether it is ready wait until it is, for as long as this: the kubelet asks
 * once a second, and an answer that came a moment too early would keep traffic from a pod for a whole second more. Shorter
 * than the probes' time-out of 3 s.
 */
const READY_WAIT_MS = 1500;
const READY_LOOK_MS = 25;
/** Requests here have no body worth the name. */
const MAX_OPS_BODY_BYTES = 1024;

export interface OpsServer {
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
  const readinessOf = async (health: Health) => {
    const limit = performance.now() + READY_WAIT_MS;
    let report = health.readiness();
    // Whoever was ready and is not any more says so at once.
    while (!report.ok && !wasReady && performance.now() < limit) {
      await Bun.sleep(READY_LOOK_MS);
      report = health.readiness();
    }
    wasReady ||= report.ok;
    return report;
  };
  const server = Bun.serve({
    port: config.port,
    hostname: "0.0.0.0",
    tls: { cert: config.tls.cert, key: config.tls.key },
    maxRequestBodySize: MAX_OPS_BODY_BYTES,
    development: false,
    async fetch(request) {
      if (request.method !== "GET" && request.method !== "HEAD") return new Response(null, { status: 405 });
      const { pathname } = new URL(request.url);
      switch (pathname) {
        case "/healthz": {
          const report = health.live();
          return Response.json(report, { status: report.ok ? 200 : 503 });
        }
        case "/readyz": {
          const report = await readinessOf(health);
          return Response.json(report, { status: report.ok ? 200 : 503 });
        }
        case "/metrics":
          return new Response(await registry.metrics(), { headers: { "content-type": registry.contentType } });
        default: {
          const own = Object.hasOwn(extra, pathname) ? extra[pathname] : undefined;
          return own ? Response.json(own()) : new Response(null, { status: 404 });
        }
      }
    },
  });
  return { port: server.port!, stop: async () => void (await server.stop(true)) };
}
