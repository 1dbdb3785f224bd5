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

/** Asks from another process until `want` is the status, 20 s at most; this one's loop stands meanwhile. */
function askWhileStuck(port: number, ca: string, want: number): { status: number; report: Record<string, unknown> } {
  const program = `
    const limit = Date.now() + 20_000;
    let said;
    do {
      const answer = await fetch("https://localhost:${port}/healthz", { tls: { ca: process.env.CA } });
      said = JSON.stringify({ status: answer.status, report: await answer.json() });
      if (answer.status === ${want}) break;
    } while (Date.now() < limit);
    console.log(said);`;
  const child = Bun.spawnSync([process.execPath, "-e", program], {
    env: { ...process.env, CA: ca },
    stderr: "inherit",
  });
  return JSON.parse(child.stdout.toString());
}

test("answers while the main loop is too busy to", async () => {
  const { port, ca } = await start();
  expect(askWhileStuck(port, ca, 200)).toEqual({
    status: 200,
    report: { ok: true, progress: true, loop_silent_ms: expect.any(Number), loop_limit_ms: 60_000 },
  });
});

test("a main loop that does not turn for longer than its limit is told of, and one that turns again is fine", async () => {
  const { port, ca } = await start(new Health(), 300);
  const stuck = askWhileStuck(port, ca, 503);
  expect(stuck).toMatchObject({ status: 503, report: { ok: false, progress: true } });
  expect(stuck.report.loop_silent_ms).toBeGreaterThan(300);
  await eventually("an answer of a loop that turns", async () => {
    return (await fetch(`https://localhost:${port}/healthz`, { tls: { ca } })).status === 200;
  });
});

test("a loop that turns without progress is told of", async () => {
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

test("a thread that cannot listen says why", async () => {
  const { key } = await testCertificate();
  const server = startLivenessServer({ livenessPort: 0, tls: { cert: "no certificate", key } }, new Health(), silent)!;
  open.add(server);
  expect(await server.listening.catch((error: Error) => error.message)).toMatch(/certificate|PEM|BoringSSL/i);
});

test("without a port there is no thread", async () => {
  const { cert, key } = await testCertificate();
  expect(startLivenessServer({ tls: { cert, key } }, new Health(), silent)).toBeUndefined();
});
