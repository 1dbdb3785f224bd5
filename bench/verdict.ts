/**
 * bun bench/verdict.ts [--events=1000000] [--shape=events|ranges]
 *
 * The cost of judging a recorded history. Generates a history of the given size in which one point is missing, judges it
 * from its files in a separate process, and prints time and memory. The logs of two readers and the points are recorded
 * per event; attempts and acknowledgements per event (--shape=events, as from a load generator) or as ranges
 * (--shape=ranges, as from an audit of the running pipeline).
 */
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HistoryWriter, KINDS, openHistory } from "../scripts/audit/history.ts";
import { judge } from "../scripts/audit/verdict.ts";
import { pointTimestampNs } from "../services/domain/point.ts";

const DEFAULT_EVENTS = 1_000_000;
const CONVEYORS = 100;
const PARTITIONS = 6;
const RUN = "20261125T000000000Z-0-0000";
const T0_MS = 1_764_038_400_000;
const MB = 1024 * 1024;

const argument = (name: string) =>
  process.argv.find((given) => given.startsWith(`--${name}=`))?.slice(`--${name}=`.length);

/** Writes a history in which one event is missing from the database. */
async function generate(folder: string, events: number, shape: string): Promise<void> {
  const writer = await HistoryWriter.open(folder);
  for (let belt = 0; shape === "ranges" && belt < Math.min(CONVEYORS, events); belt++) {
    const last_seq = Math.floor((events - 1 - belt) / CONVEYORS);
    const all = { run: RUN, conveyor: `belt-0-${belt}`, seq: 0, last_seq };
    await writer.append("attempts", all);
    await writer.append("outcomes", { ...all, outcome: "ok" });
  }
  const ends = new Array<number>(PARTITIONS).fill(0);
  for (let index = 0; index < events; index++) {
    const belt = index % CONVEYORS;
    const seq = Math.floor(index / CONVEYORS);
    const identity = { run: RUN, conveyor: `belt-0-${belt}`, seq };
    const partition = belt % PARTITIONS;
    const offset = ends[partition]!++;
    const ts = T0_MS + index;
    if (shape === "events") {
      await writer.append("attempts", { ...identity, t_ms: ts });
      await writer.append("outcomes", { ...identity, outcome: "ok", partition, offset, t_ms: ts + 5 });
    }
    const hash = Bun.hash(`${belt} ${seq}`).toString(16);
    for (const reader of [1, 2])
      await writer.append("log", { reader, partition, offset, ...identity, hash, ts_ms: ts, values: 1000 + index });
    if (index !== events - 1) {
      await writer.append("sink", {
        ...identity,
        t_ns: pointTimestampNs(String(ts), String(seq)),
        values: 1000 + index,
      });
    }
  }
  for (const [partition, offset] of ends.entries()) await writer.append("commits", { partition, offset });
  await writer.begin("dlq");
  await writer.close({ quiescent: true });
}

const judged = argument("judge");
if (judged !== undefined) {
  const startedAt = performance.now();
  const verdict = await judge(await openHistory(judged));
  const seconds = (performance.now() - startedAt) / 1000;
  const { user, system } = process.cpuUsage();
  const peakMb = process.resourceUsage().maxRSS / (process.platform === "darwin" ? MB : 1024);
  console.log(
    `  ${seconds.toFixed(1)} s (${((user + system) / 1e6).toFixed(1)} s of processor time), peak memory ${Math.round(peakMb)} MB; ` +
      `lost in processor: ${verdict.missing.lost_in_processor.count}, cause: ${verdict.causes.join(", ")}`,
  );
} else {
  const events = Number(argument("events") ?? DEFAULT_EVENTS);
  if (!Number.isInteger(events) || events < 1) {
    console.error(`--events: must be a whole number of at least 1; got ${argument("events")}`);
    process.exit(2);
  }
  const shape = argument("shape") ?? "events";
  if (shape !== "events" && shape !== "ranges") {
    console.error(`--shape: must be events or ranges; got ${shape}`);
    process.exit(2);
  }
  const folder = await mkdtemp(join(tmpdir(), "conveyor-verdict-"));
  try {
    await generate(folder, events, shape);
    let bytes = 0;
    for (const kind of KINDS) bytes += (await stat(join(folder, `${kind}.jsonl`)).catch(() => ({ size: 0 }))).size;
    console.log(`${events} events, one of them lost; ${Math.round(bytes / MB)} MB of history:`);
    const child = Bun.spawn([process.execPath, import.meta.path, `--judge=${folder}`], {
      stdout: "inherit",
      stderr: "inherit",
    });
    process.exitCode = await child.exited;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
