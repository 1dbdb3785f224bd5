/** The main loop of these tests is this one: while it waits for a child's end with spawnSync it does not turn at all. */
import { afterEach, expect, test } from "bun:test";
import { Health } from "../../../services/runtime/health.ts";
import { type LivenessServer, startLivenessServer } from "../../../services/runtime/liveness.ts";
import { Logger } from "../../../services/runtime/log.ts";
import { eventually } from "../../eventually.ts";
import { testCertificate } from "../certificate.ts";

const silent = new Logger("test", "error", {}, () => {});
const open = new Set<LivenessServer>();

afterEach(() => {
  for (const server of open) server.stop();
  open.clear();
});

async function start(health = new Health(), loopLimitMs = 60_000) {
  const { ca, cert, key } = await testCertificate();
  const server = startLivenessServer({ livenessPort: 0, tls: { cert, key } }, health, silent, loopLimitMs)!;
  open.add(server);
  return { port: await server.listening, ca };
}

/** Polls from another process until the status is `want`, for at most 20 s; this process is blocked meanwhile. */
function pollWhileBlocked(port: number, ca: string, want: number): { status: number; report: Record<string, unknown> } {
  const program = `
    const limit = Date.now() + 20_000;
    let last;
    do {
      const answer = await fetch("https://localhost:${port}/healthz", { tls: { ca: process.env.CA } });
      last = JSON.stringify({ status: answer.status, report: await answer.json() });
      if (answer.status === ${want}) break;
    } while (Date.now() < limit);
    console.log(last);`;
  const child = Bun.spawnSync([process.execPath, "-e", program], {
    env: { ...process.env, CA: ca },
    stderr: "inherit",
  });
  return JSON.parse(child.stdout.toString());
}

test("answers while the main loop is blocked", async () => {
  const { port, ca } = await start();
  expect(pollWhileBlocked(port, ca, 200)).toEqual({
    status: 200,
    report: { ok: true, progress: true, loop_silent_ms: expect.any(Number), loop_limit_ms: 60_000 },
  });
});

test("answers 503 while the main loop exceeds its limit, and 200 once it turns", async () => {
  const { port, ca } = await start(new Health(), 300);
  const stuck = pollWhileBlocked(port, ca, 503);
  expect(stuck).toMatchObject({ status: 503, report: { ok: false, progress: true } });
  expect(stuck.report.loop_silent_ms).toBeGreaterThan(300);
  await eventually("an answer of a loop that turns", async () => {
    return (await fetch(`https://localhost:${port}/healthz`, { tls: { ca } })).status === 200;
  });
});

test("answers 503 when the main loop turns without progress", async () => {
  let now = 0;
  const health = new Health(() => now);
  health.watch({ name: "send", limitMs: 1000 });
  const { port, ca } = await start(health);
  const status = async () => (await fetch(`https://localhost:${port}/healthz`, { tls: { ca } })).status;
  expect(await status()).toBe(200);
  now = 1001;
  await eventually("the missed progress", async () => (await status()) === 503);
  health.progress("send");
  await eventually("the progress", async () => (await status()) === 200);
});

test("listening rejects when the port is in use", async () => {
  const { key } = await testCertificate();
  const server = startLivenessServer({ livenessPort: 0, tls: { cert: "no certificate", key } }, new Health(), silent)!;
  open.add(server);
  expect(await server.listening.catch((error: Error) => error.message)).toMatch(/certificate|PEM|BoringSSL/i);
});

test("without a port no thread is started", async () => {
  const { cert, key } = await testCertificate();
  expect(startLivenessServer({ tls: { cert, key } }, new Health(), silent)).toBeUndefined();
});
