/**
 * Asks InfluxDB again and again for the newest event that it holds of each of some conveyors, and prints one JSON line
 * for each look, so that an outage of a second is seen:
 *
 *   {"t":ms,"newest":{"drill-0":ms,…}}   what stood there; t is when the answer came, so it is never too early
 *   {"t":ms,"why":"…"}                   there was no answer
 *
 * A new look begins at each beat, whether the last one has its answer or not: a database that hangs must not make the
 * looks rarer just when they matter.
 */
import { readFileSync } from "node:fs";

const settings = {
  url: process.env.INFLUX_URL ?? "",
  org: process.env.INFLUX_ORG ?? "conveyor",
  bucket: process.env.INFLUX_BUCKET ?? "telemetry",
  conveyors: (process.env.CONVEYORS ?? "").split(","),
  lookMs: Number(process.env.LOOK_MS ?? 250),
};
const token = readFileSync(process.env.INFLUX_TOKEN_FILE ?? "", "utf8").trim();
const ca = readFileSync(process.env.INFLUX_CA ?? "", "utf8");

/** A busy machine answers within a tenth of this; longer, and there is no answer to speak of. */
const ANSWER_LIMIT_MS = 1000;
/** Longer than any outage that a drill waits for. */
const WINDOW = "-10m";

const flux = [
  `from(bucket: ${JSON.stringify(settings.bucket)})`,
  `|> range(start: ${WINDOW})`,
  `|> filter(fn: (r) => r._measurement == "conveyor_telemetry" and r._field == "seq")`,
  `|> filter(fn: (r) => ${settings.conveyors.map((name) => `r.conveyor == ${JSON.stringify(name)}`).join(" or ")})`,
  "|> last()",
  `|> keep(columns: ["_time", "conveyor"])`,
].join("\n");

/** The newest event of each conveyor, milliseconds since the epoch. @throws when InfluxDB does not answer in time. */
async function newest(isFresh: boolean): Promise<Record<string, number>> {
  const response = await fetch(`${settings.url}/api/v2/query?org=${encodeURIComponent(settings.org)}`, {
    method: "POST",
    headers: {
      authorization: `Token ${token}`,
      "content-type": "application/vnd.flux",
      accept: "application/csv",
    },
    body: flux,
    tls: { ca },
    // A connection that stands leads to the pod that was there; after a failure another one may be asked.
    keepalive: !isFresh,
    signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 120)}`);
  const found: Record<string, number> = {};
  for (const line of text.split("\r\n")) {
    const cells = line.split(",");
    const conveyor = cells.find((cell) => settings.conveyors.includes(cell));
    const time = cells.map((cell) => /^\d{4}-\d\d-\d\dT[\d:]+(?:\.\d{1,3})?/.exec(cell)?.[0]).find(Boolean);
    if (conveyor && time) found[conveyor] = Date.parse(`${time}Z`);
  }
  return found;
}

let failed = false;
let toldOf = 0;
async function look(number: number): Promise<void> {
  let said: Record<string, unknown>;
  try {
    said = { newest: await newest(failed) };
    failed = false;
  } catch (error) {
    const { name, code, message } = error as Error & { code?: string };
    said = { why: `${code ?? name}: ${message}`.slice(0, 160) };
    failed = true;
  }
  // A later look was answered first: this one is history.
  if (number < toldOf) return;
  toldOf = number;
  process.stdout.write(`${JSON.stringify({ t: Date.now(), ...said })}\n`);
}

for (let number = 1; ; number++) {
  void look(number);
  await Bun.sleep(settings.lookMs);
}
