/**
 * The drills' own traffic: events at a steady rate through the producers' intake, each batch sent again until Kafka's
 * acknowledgement came back. Runs in a pod that no drill breaks, and writes what it does as it does it, one JSON line
 * each, so that the record survives everything that is broken meanwhile:
 *
 *   {"attempt":[conveyor,first,last],"t":ms}        before the batch is sent the first time
 *   {"outcome":"ok"|"unknown","batch":[…],"t":ms}   acknowledged; or given up at the end, and nobody knows
 *   {"again":events,"why":"…","t":ms}               sent once more, because the answer did not come
 *   {"done":{…},"t":ms}                             nothing more will be sent
 *
 * One batch of a conveyor at a time, so that its events keep their order. On SIGTERM nothing new is made; what waits is
 * sent until the limit.
 */
import { readFileSync } from "node:fs";

const settings = {
  url: process.env.INTAKE_URL ?? "",
  run: process.env.RUN_ID ?? "",
  conveyors: (process.env.CONVEYORS ?? "drill-0").split(","),
  eventsPerSecond: Number(process.env.EVENTS_PER_SECOND ?? 100),
};
/** A batch may gather what a long fault held up, and stays far below the intake's 10,000. */
const MAX_BATCH_EVENTS = 2000;
/** Five batches a second and conveyor: fine enough to see a pause, few enough not to be a load. */
const TICK_MS = 200;
/** Shorter than the intake's own wait for Kafka (30 s): a frozen producer never answers, and another may be there. */
const REQUEST_LIMIT_MS = 5000;
const AGAIN_MS = 200;
/** After SIGTERM: time for what waits. */
const END_LIMIT_MS = 40_000;

const token = readFileSync("/secrets/token", "utf8").trim();
const ca = readFileSync("/secrets/ca.crt", "utf8");

type Batch = [conveyor: string, first: number, last: number];
const say = (line: Record<string, unknown>) => process.stdout.write(`${JSON.stringify({ ...line, t: Date.now() })}\n`);
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

let endsAtMs = Number.POSITIVE_INFINITY;
let madeUntil = Number.POSITIVE_INFINITY;
const counts = { offered: 0, acknowledged: 0, unknown: 0, again: 0 };
const startedAt = Date.now();

async function send(body: string, isAgain: boolean): Promise<string | undefined> {
  try {
    const response = await fetch(`${settings.url}/events`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/x-ndjson" },
      body,
      tls: { ca },
      // A connection that stands leads to the pod that was there; after a failure another one may be asked.
      keepalive: !isAgain,
      signal: AbortSignal.timeout(REQUEST_LIMIT_MS),
    });
    const text = await response.text();
    return response.status === 200 ? undefined : `${response.status} ${text.slice(0, 120)}`;
  } catch (error) {
    const { name, code, message } = error as Error & { code?: string };
    return `${code ?? name}: ${message}`.slice(0, 160);
  }
}

/** The events of one conveyor, until the end. */
async function line(conveyor: string): Promise<void> {
  const perSecond = settings.eventsPerSecond / settings.conveyors.length;
  let sent = 0;
  for (;;) {
    const untilMs = Math.min(Date.now(), madeUntil);
    const due = Math.min(Math.floor(((untilMs - startedAt) * perSecond) / 1000), sent + MAX_BATCH_EVENTS);
    if (due <= sent) {
      if (Date.now() >= madeUntil) return;
      await pause(TICK_MS);
      continue;
    }
    const batch: Batch = [conveyor, sent, due - 1];
    const events = due - sent;
    const lines: string[] = [];
    for (let seq = sent; seq < due; seq++) {
      const ts = startedAt + Math.floor((seq * 1000) / perSecond);
      lines.push(
        JSON.stringify({
          v: 1,
          conveyor,
          run: settings.run,
          seq,
          ts,
          speed_mps: 1 + (seq % 10) / 10,
          load_kg: 100 + (seq % 50),
          motor_temp_c: 40 + (seq % 20),
          vibration_mm_s: 2,
          state: "running",
        }),
      );
    }
    say({ attempt: batch });
    counts.offered += events;
    const body = lines.join("\n");
    for (let tries = 0; ; tries++) {
      const why = await send(body, tries > 0);
      if (why === undefined) {
        counts.acknowledged += events;
        say({ outcome: "ok", batch });
        break;
      }
      if (Date.now() > endsAtMs) {
        counts.unknown += events;
        say({ outcome: "unknown", batch, why });
        return;
      }
      counts.again += events;
      say({ again: events, why, conveyor });
      await pause(AGAIN_MS);
    }
    sent = due;
    await pause(TICK_MS);
  }
}

process.on("SIGTERM", () => {
  madeUntil = Math.min(madeUntil, Date.now());
  endsAtMs = Math.min(endsAtMs, Date.now() + END_LIMIT_MS);
});
say({ started: settings.run });
await Promise.all(settings.conveyors.map(line));
say({ done: counts });
