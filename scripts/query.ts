/**
 * Reads stored points: newest values, or those of a period, as a table, CSV or JSON.
 *
 *   bun scripts/query.ts measurements
 *   bun scripts/query.ts last pump --source pump-7
 *   bun scripts/query.ts range pump --field flow_l_min,temp_c --since 15m --format csv > pump.csv
 */
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, isAbort, OperatorError } from "./cli/errors.ts";
import { TelemetryStore } from "./clients/influxdb.ts";
import { nsOfTime } from "./clients/log-search.ts";
import { readDeployedSchemas } from "./cluster/event-schemas.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";
import { FORMATS, type Format, formatRows, jsonRows } from "./query/format.ts";
import { type NanosecondRange, type Rows, readLast, readMeasurements, readRange } from "./query/reading.ts";

/** Rows are sorted in the memory of the database and kept in that of the command. */
const MAX_ROWS = 50_000;
const DEFAULT_ROWS = 1000;
const FORMS = ["last", "range", "measurements"] as const;
/** A sensor that was silent for longer is not current. */
const LAST_PERIOD_MS = 24 * 3_600_000;
const RANGE_PERIOD_MS = 3_600_000;

const FLAGS = {
  ...CLUSTER_FLAGS,
  source: { type: "string", valueName: "NAME", description: "only points of this source (version 1: this conveyor)" },
  field: {
    type: "string",
    multiple: true,
    valueName: "NAME,…",
    description: "only these fields (range)",
  },
  since: { type: "duration", description: "points of this last period (default: range 1h, last 24h)" },
  from: { type: "string", valueName: "TIME", description: "from this time on: 2026-01-31T08:00:00Z, or a date in UTC" },
  to: { type: "string", valueName: "TIME", description: "before this time (default: now)" },
  limit: {
    type: "number",
    default: DEFAULT_ROWS,
    min: 1,
    max: MAX_ROWS,
    description: "at most this many rows; of a range the oldest",
  },
  format: {
    type: "string",
    default: "table",
    choices: FORMATS,
    valueName: "FORM",
    description: "json: one object a line",
  },
} as const;

type Given = CommandContext<typeof FLAGS>["flags"];

const usage = (message: string, hint?: string) => new OperatorError(message, { exitCode: EXIT.usage, hint });

const TIME = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/;

/** @throws OperatorError (exit 2) that names the flag, the rule and the value */
function timeNs(flag: string, text: string): string {
  const ns = TIME.test(text) ? nsOfTime(text) : undefined;
  if (ns !== undefined) return ns;
  throw usage(`${flag}: must be a time with its zone, such as 2026-01-31T08:00:00Z, or a date; got "${text}"`);
}

/** The period of the flags. @throws OperatorError (exit 2) that names the flag and the rule */
export function rangeOf(
  { since, from, to }: Pick<Given, "since" | "from" | "to">,
  periodMs: number,
  nowMs: number,
): NanosecondRange {
  if (since !== undefined && from !== undefined) throw usage("--since and --from exclude each other");
  // A point of this very millisecond counts too.
  const endNs = to === undefined ? `${nowMs + 1}000000` : timeNs("--to", to);
  const startNs =
    from === undefined ? String(BigInt(endNs) - BigInt(Math.round((since ?? periodMs) * 1e6))) : timeNs("--from", from);
  if (BigInt(startNs) >= BigInt(endNs)) throw usage(`--from: must be before --to; got ${from ?? "a time after it"}`);
  return { startNs, endNs };
}

/** What the arguments ask for. @throws OperatorError (exit 2) */
function requestOf([form, measurement, ...rest]: readonly string[], flags: Given) {
  const hint = `bun scripts/query.ts --help; forms: ${FORMS.join(", ")}`;
  const known = FORMS.find((one) => one === form);
  if (!known || rest.length > 0)
    throw usage(`unknown arguments "${[form, measurement, ...rest].join(" ").trim()}"`, hint);
  if (known === "range" && measurement === undefined) throw usage("range: needs a measurement", hint);
  if (known === "measurements" && measurement !== undefined) throw usage(`unexpected argument "${measurement}"`, hint);
  if (known !== "range" && flags.field.length > 0) throw usage("--field: only range has it", hint);
  const fields = flags.field.flatMap((list) => list.split(",")).filter(Boolean);
  return { form: known, measurement, fields: [...new Set(fields)] };
}

/** Units of the deployed schemas. */
async function unitsOf(cluster: Parameters<typeof readDeployedSchemas>[0]) {
  const { byMeasurement } = await readDeployedSchemas(cluster);
  return (measurement: string, field: string) => byMeasurement.get(measurement)?.fields.get(field)?.unit;
}

async function main({ flags, positionals, report, signal }: CommandContext<typeof FLAGS>): Promise<void> {
  const { form, measurement, fields } = requestOf(positionals, flags);
  const { source, limit } = flags;
  const range = rangeOf(flags, form === "last" ? LAST_PERIOD_MS : RANGE_PERIOD_MS, Date.now());
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  await using store = await TelemetryStore.open(cluster);
  const read = async (): Promise<Rows> => {
    if (form === "measurements") return await readMeasurements(store);
    if (form === "range") return await readRange(store, { measurement: measurement!, source, fields, limit, ...range });
    return await readLast(store, { measurement, source, limit, ...range }, await unitsOf(cluster));
  };
  const rows = await read().catch((error: unknown) => {
    if (error instanceof OperatorError || isAbort(error)) throw error;
    throw new OperatorError("InfluxDB did not answer the query", { cause: error, hint: "bun scripts/validate.ts" });
  });
  report.result({ form, measurement, columns: rows.columns, rows: jsonRows(rows), cut: rows.isCut });
  if (rows.rows.length === 0)
    report.info(`no points in this period${source === undefined ? "" : ` of source ${source}`}`);
  else for (const line of formatRows(rows, flags.format as Format)) report.print(line);
  if (rows.isCut) report.warn(cutNote(form, rows));
}

function cutNote(form: (typeof FORMS)[number], { rows }: Rows): string {
  const next = form === "range" ? `; go on with --from ${rows.at(-1)![0]!.text}` : "";
  return `only the first ${rows.length} rows are shown; --limit (at most ${MAX_ROWS}) shows more${next}`;
}

export const command = defineCommand({
  name: "scripts/query.ts",
  summary: "reads stored points: newest values, or those of a period, as a table, CSV or JSON",
  usage: [
    "last [MEASUREMENT] [--source NAME] [--since 24h]",
    "range MEASUREMENT [--field NAME,…] [--source NAME] [--since 1h | --from TIME --to TIME] [--format table|csv|json]",
    "measurements",
  ],
  positionals: [
    { name: "FORM", many: true, required: true, description: "last [MEASUREMENT], range MEASUREMENT, or measurements" },
  ],
  flags: FLAGS,
  examples: [
    ["bun scripts/query.ts measurements", "the measurements that have points, with their fields"],
    ["bun scripts/query.ts last pump --source pump-7", "the newest value of each field"],
    ["bun scripts/query.ts range pump --field flow_l_min --since 15m --format csv", "a period as CSV"],
    ["bun scripts/query.ts range conveyor_telemetry --source belt-0-1 --json", "the simulated fleet, as one document"],
  ],
  notes: [
    "Times are in UTC. Integers beyond 2^53 are exact in a table and in CSV, and text in JSON.",
    "The unit of a value is that of its schema (docs/schemas.md).",
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
