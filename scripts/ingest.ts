/**
 * Sends events from a file or stdin through a producer pod into the pipeline: JSON, CSV or line protocol, compressed or not.
 *
 *   bun scripts/ingest.ts events.ndjson
 *   bun scripts/ingest.ts pump.csv --measurement pump --source pump-7 --time-zone Europe/Berlin
 *   generate-events | bun scripts/ingest.ts -
 *
 * Reports the outcome of every line: acknowledged by Kafka, or written to the dead-letter topic with its reason. An event
 * with its own run and seq can be sent again: it rewrites the same point.
 */
import { stat } from "node:fs/promises";
import { CSV_SETTING_NAMES } from "../services/domain/formats/csv-settings.ts";
import { TEXT_ENCODINGS, type TextEncoding } from "../services/domain/formats/text-encoding.ts";
import { TEXT_FORMATS, type TextFormat } from "../services/domain/formats/text-format.ts";
import { PRECISIONS, type Precision } from "../services/domain/line-protocol.ts";
import { checkRunFlag } from "./audit/run-flag.ts";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { formatDuration, type Report } from "./cli/report.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { EXAMPLES, exampleText, isExample } from "./ingest/example.ts";
import { DEFAULT_TIME_LIMIT_MS, IngestError, type IngestOutcomes, ingest } from "./ingest/ingest.ts";
import { type Input, readInput } from "./ingest/input.ts";
import { tableSettings } from "./ingest/table-settings.ts";
import { localTarget } from "./local-cluster/index.ts";

const FLAGS = {
  ...CLUSTER_FLAGS,
  run: {
    type: "string",
    valueName: "RUN",
    description:
      "run of this ingest itself, in its result and its dead letters, and of the rows of a table; other events have their own (default: a new one; of the rows of a file, one that its content determines)",
  },
  "time-limit": {
    type: "duration",
    default: DEFAULT_TIME_LIMIT_MS,
    description: "the input must end within this time; a longer one is ended with an error",
  },
  example: {
    type: "boolean",
    description: `print an event that is valid now, and exit: FILE is one of ${EXAMPLES.join(", ")} (default: v2)`,
  },
  format: {
    type: "string",
    choices: TEXT_FORMATS,
    description: "format of the input (default: recognised from its beginning)",
  },
  encoding: {
    type: "string",
    choices: TEXT_ENCODINGS,
    description: "encoding of the text (default: recognised; windows-1252 never is)",
  },
  precision: {
    type: "string",
    default: "ns",
    choices: PRECISIONS,
    description: "line protocol: unit of its times",
  },
  mapping: {
    type: "string",
    valueName: "FILE",
    description: "CSV: the settings below in a YAML file; a flag overrides it",
  },
  measurement: { type: "string", valueName: "NAME", description: "CSV: measurement of the rows" },
  source: { type: "string", valueName: "NAME", description: "CSV: source of all rows, for example the machine" },
  "source-column": {
    type: "string",
    valueName: "COLUMN",
    description: "CSV: the column that has the source (default: source)",
  },
  time: {
    type: "string",
    valueName: "COLUMN",
    description: "CSV: the column of the time, or DATE,TIME (default: time, timestamp or datetime)",
  },
  "time-format": {
    type: "string",
    valueName: "FORMAT",
    description: 'CSV: s, ms, us, ns, rfc3339, or for example "DD.MM.YYYY HH:mm:ss" (default: recognised)',
  },
  "time-zone": { type: "string", valueName: "ZONE", description: "CSV: zone of times without one: Europe/Berlin, UTC" },
  tag: { type: "string", multiple: true, valueName: "[NAME=]COLUMN", description: "CSV: a tag" },
  field: {
    type: "string",
    multiple: true,
    valueName: "[NAME=]COLUMN[:TYPE]",
    description:
      "CSV: a field, float, integer, unsigned, boolean or string (default: every other column, types from the first rows)",
  },
  delimiter: {
    type: "string",
    valueName: "CHARACTER",
    description: "CSV: what separates the cells, or tab (default: recognised)",
  },
  decimal: { type: "string", choices: ["point", "comma"], description: "CSV: the decimal mark (default: recognised)" },
  null: {
    type: "string",
    multiple: true,
    valueName: "TEXT",
    description: "CSV: a text for an absent value, beside empty cells, NaN and null",
  },
  columns: {
    type: "string",
    valueName: "NAMES",
    description: "CSV without a header: the names of its columns, with commas",
  },
} as const;

type Context = CommandContext<typeof FLAGS>;
type Chunks = AsyncIterable<Uint8Array>;

/** The input as it is; `open` starts at its beginning, of stdin once. */
interface RawInput {
  open: () => Chunks;
  /** Undefined: stdin. */
  bytes?: number;
  /** Bytes that were read since the last open(). */
  read: number;
}

async function rawInput(path: string): Promise<RawInput> {
  const found = path === "-" ? undefined : await stat(path).catch(() => undefined);
  if (path !== "-" && !found?.isFile()) {
    throw new OperatorError(`FILE: no file "${path}"`, {
      exitCode: EXIT.usage,
      hint: "a file with events (--example prints one), or - for stdin",
    });
  }
  const stream = () => (path === "-" ? Bun.stdin : Bun.file(path)).stream() as unknown as Chunks;
  const raw: RawInput = {
    open: async function* () {
      raw.read = 0;
      for await (const chunk of stream()) {
        raw.read += chunk.length;
        yield chunk;
      }
    },
    read: 0,
  };
  if (found) raw.bytes = found.size;
  return raw;
}

/** A flag that has no effect is a mistake of its user. */
function checkTableFlags({ format }: Input, flags: Context["flags"]): void {
  const given = ["mapping", ...CSV_SETTING_NAMES].find(
    (name) => [flags[name as keyof typeof flags] ?? []].flat().length > 0,
  );
  if (format !== "csv" && given !== undefined) {
    throw new OperatorError(`--${given} is for CSV, and the input is ${format}: nothing was sent`, {
      exitCode: EXIT.usage,
    });
  }
}

/** What the sender of a table should know of its rows. */
function reportTable({ table }: Input, report: Report): void {
  if (!table) return;
  if (table.emptyRows > 0) report.info(`rows without a value, not sent: ${formatted(table.emptyRows)}`);
  if (table.ambiguousTimes > 0) {
    report.warn(
      `${formatted(table.ambiguousTimes)} times are in an hour that the clock shows twice: the order of the rows decided which`,
    );
  }
}

const formatted = (count: number) => count.toLocaleString("en");

function printOutcomes(outcomes: IngestOutcomes, report: Report): void {
  report.print(`run          ${outcomes.run}`);
  report.print(`read         ${formatted(outcomes.read)} of ${formatted(outcomes.sent)} lines sent`);
  report.print(`acknowledged ${formatted(outcomes.acknowledged)} by Kafka (all in-sync replicas)`);
  report.print(`refused      ${formatted(outcomes.refused)} to the dead-letter topic`);
  for (const [reason, count] of Object.entries(outcomes.refused_by_reason)) {
    report.print(`             ${String(count).padStart(8)}  ${reason}`);
  }
  if (outcomes.dropped_from_ledger > 0) {
    report.print(
      `not listed   ${formatted(outcomes.dropped_from_ledger)} acknowledged events, in the ledger of --json`,
    );
  }
  report.print(`took         ${formatDuration(outcomes.duration_ms)} in the producer`);
}

async function main({ flags, positionals, report, signal }: Context): Promise<void> {
  const [file] = positionals;
  if (flags.example) return printExample(file ?? "v2", report);
  if (file === undefined) {
    throw new OperatorError("missing argument FILE", { exitCode: EXIT.usage, hint: `bun ${command.name} --help` });
  }
  checkRunFlag(flags.run);
  const raw = await rawInput(file);
  // Before the cluster is used: an input that cannot be read must not leave a trace there.
  const input = await readInput(raw.open, raw.bytes !== undefined, {
    format: flags.format as TextFormat | undefined,
    encoding: flags.encoding as TextEncoding | undefined,
    precision: flags.precision as Precision,
    csv: await tableSettings(flags, flags),
    signal,
  });
  checkTableFlags(input, flags);
  if (input.table) report.info(`CSV: ${input.table.description}`);
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  report.info(`target: ${cluster.describe()}`);
  const image = await deployedServicesImage(cluster);
  try {
    const outcomes = await report.step("send events", async (step) => {
      const outcomes = await ingest(cluster, input.lines, {
        image,
        signal,
        runId: flags.run,
        timeLimitMs: flags["time-limit"],
        onProgress: (sent) => {
          const share = raw.bytes ? `, ${Math.floor((raw.read / raw.bytes) * 100)} %` : "";
          step.update(`${formatted(sent.lines)} lines sent${share}`);
        },
      });
      step.update(`${formatted(outcomes.acknowledged)} acknowledged, ${outcomes.refused} refused`);
      if (outcomes.acknowledged === 0) {
        throw new IngestError("no line was acknowledged: every line was refused", outcomes, {
          hint: "bun scripts/dead-letters.ts list has the reasons, docs/events.md the format",
        });
      }
      return outcomes;
    });
    report.result(outcomes);
    printOutcomes(outcomes, report);
  } catch (error) {
    if (error instanceof IngestError) printOutcomes(error.outcomes, report);
    throw error;
  } finally {
    reportTable(input, report);
  }
}

function printExample(kind: string, report: Report): void {
  if (!isExample(kind)) {
    throw new OperatorError(`--example: must be one of ${EXAMPLES.join(", ")}; got "${kind}"`, {
      exitCode: EXIT.usage,
    });
  }
  const { text, command } = exampleText(kind, Date.now());
  // Also with --json: an event is a document.
  process.stdout.write(text);
  report.info(`send it: bun scripts/ingest.ts --example ${kind} | ${command}`);
}

export const command = defineCommand({
  name: "scripts/ingest.ts",
  summary: "sends events from a file or stdin (JSON, CSV, line protocol) into the pipeline",
  usage: [
    "FILE [--run RUN] [--time-limit DURATION]",
    "-",
    "FILE.csv --measurement NAME --source NAME [--time-zone ZONE]",
    "--example [v1|v2|csv|line]",
  ],
  positionals: [{ name: "FILE", description: "file, or - for stdin" }],
  flags: FLAGS,
  examples: [
    ["bun scripts/ingest.ts events.ndjson", "sends a file and reports the outcome of every line"],
    [
      "bun scripts/ingest.ts pump.csv.gz --measurement pump --source pump-7 --time-zone Europe/Berlin",
      "sends every row of a table; a second time adds no point",
    ],
    ["generate-events | bun scripts/ingest.ts - --json", "from stdin, with the outcomes as JSON"],
    ["bun scripts/ingest.ts --example csv", "prints a table of one row that is valid now"],
  ],
  notes: [
    "FILE is NDJSON, a JSON object or array, CSV or InfluxDB line protocol, in UTF-8 or UTF-16, plain or compressed with gzip, zlib or zstd. Anything else is refused before anything is sent.",
    "Exit 0: every line was read by the producer, none was lost, and at least one was acknowledged.",
    `An event: ${exampleText("v1", Date.now()).text.trim()}`,
    "Invalid lines are written to the dead-letter topic with the reason, and counted by reason.",
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
