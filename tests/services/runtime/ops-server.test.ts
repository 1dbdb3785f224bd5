import { describe, expect, test } from "bun:test";
import { Health } from "../../../services/runtime/health.ts";
import { Metrics } from "../../../services/runtime/metrics.ts";
import { startOpsServer } from "../../../services/runtime/ops-server.ts";
import { testCertificate } from "../certificate.ts";

describe("startOpsServer", () => {
  test("serves health, readiness and metrics over HTTPS only, and further paths as JSON", async () => {
    const { ca, cert, key } = await testCertificate();
    const health = new Health();
    let ready = false;
    let polls = 0;
    health.ready("thing", () => {
      polls++;
      return ready;
    });
    const ops = startOpsServer({ port: 0, tls: { cert, key } }, health, new Metrics("producer").registry, {
      "/ledger": () => ({ acknowledged: 3 }),
    });
    const get = (path: string) => fetch(`https://localhost:${ops.port}${path}`, { tls: { ca } });
    expect((await get("/healthz")).status).toBe(200);
    expect((await get("/readyz")).status).toBe(503);
    // Asked while it starts, and ready a moment later.
    const response = get("/readyz");
    setTimeout(() => (ready = true), 50);
    expect((await response).status).toBe(200);
    // Once ready, it answers at once.
    ready = false;
    polls = 0;
    expect((await get("/readyz")).status).toBe(503);
    expect(polls).toBe(1);
    ready = true;
    expect((await get("/readyz")).status).toBe(200);
    expect(await (await get("/ledger")).json()).toEqual({ acknowledged: 3 });
    expect((await get("/elsewhere")).status).toBe(404);
    const withHost = (host: string, path: string) =>
      fetch(`https://localhost:${ops.port}${path}`, { tls: { ca }, headers: { host } });
    expect((await withHost("[::bad", "/healthz?x=1")).status).toBe(200);
    expect((await withHost("[::bad", "/elsewhere")).status).toBe(404);
    const metrics = await get("/metrics");
    expect(metrics.headers.get("content-type")).toContain("text/plain");
    expect(await metrics.text()).toContain("conveyor_build_info{");
    const plain = await fetch(`http://localhost:${ops.port}/healthz`).catch(() => undefined);
    expect(plain?.ok ?? false).toBe(false);
    await ops.stop();
  });
});
