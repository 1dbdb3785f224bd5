/**
 * Makes a first schema of each measurement from sample events, for a person to check.
 *
 *   bun scripts/schema.ts sample.ndjson                  prints it
 *   bun scripts/schema.ts *.lp --out schemas             one file for each measurement
 */
import { mkdir, stat, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { isSchemaFile, SETTINGS_FILE } from "../services/domain/schema-files.ts";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { readInput } from "./ingest/input.ts";
import { tableSettings } from "./ingest/table-settings.ts";
import { readSample } from "./schema/read-sample.ts";
import { type FirstSchema, SchemaSample } from "./schema/sample.ts";

const FLAGS = {
  mapping: {
    type: "string",
    valueName: "FILE",
    description: "CSV: how its columns are read, as for ingest (docs/events.md)",
  },
  measurement: { type: "string", valueName: "NAME", description: "CSV: measurement of the rows" },
  source: { type: "string", valueName: "NAME", description: "CSV: source of the rows, where no column has it" },
  tag: { type: "string", multiple: true, valueName: "[NAME=]COLUMN", description: "CSV: a tag" },
  "time-zone": { type: "string", valueName: "ZONE", description: "CSV: zone of times without one: Europe/Berlin, UTC" },
  out: {
    type: "string",
    valueName: "DIR",
    description: "write one file for each measurement there; creates the folder, replaces no file",
  },
} as const;

const usage = (message: string, hint?: string) => new OperatorError(message, { exitCode: EXIT.usage, hint });

type Context = CommandContext<typeof FLAGS>;

/** The sample as events or lines, one a line. */
async function openSample(
  path: string,
  flags: Context["flags"],
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  if (path !== "-" && !(await stat(path).catch(() => undefined))?.isFile()) {
    throw usage(`FILE: no file "${path}"`, "a file with JSON events, CSV or line protocol, or - for stdin");
  }
  const open = () => (path === "-" ? Bun.stdin : Bun.file(path)).stream() as unknown as AsyncIterable<Uint8Array>;
  const csv = await tableSettings(flags, flags);
  const { lines } = await readInput(open, false, { precision: "ns", csv, signal });
  return lines;
}

/** Name of the file of a measurement, which may have any characters. */
export function fileNameOf(measurement: string): string {
  const name = `${measurement.replaceAll(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "")}.yaml`;
  return isSchemaFile(name) && name !== SETTINGS_FILE ? name : `measurement-${name}`;
}

/** Creates the folder. @throws OperatorError (exit 2) when it cannot be created, or has a file of this name */
async function writeSchema(folder: string, { measurement, text }: FirstSchema): Promise<string> {
  const path = join(folder, fileNameOf(measurement));
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw usage(`--out: the folder "${folder}" cannot be created: ${(error as Error).message}`);
  });
  try {
    await writeFile(path, text, { flag: "wx" });
  } catch (error) {
    if ((error as { code?: string }).code !== "EEXIST") throw error;
    throw usage(`--out: ${path} exists; a schema is not replaced`, "remove it, or print the new one without --out");
  }
  return path;
}

async function main({ flags, positionals, report, signal }: Context): Promise<void> {
  const sample = new SchemaSample();
  let refused = 0;
  for (const path of positionals) {
    const outcome = await readSample(await openSample(path, flags, signal), sample);
    refused += outcome.refused;
    if (outcome.refused === 0) continue;
    const origin = path === "-" ? "stdin" : path;
    report.warn(`${origin}: ${outcome.refused} of ${outcome.lines} lines are no valid event; ${outcome.firstRefusal}`);
  }
  if (sample.events === 0)
    throw usage("the sample has no valid event of version 2 and no point", "docs/events.md has both formats");
  const schemas = sample.schemas(positionals.map((path) => (path === "-" ? "stdin" : basename(path))).join(", "));
  for (const doubt of schemas.flatMap(({ doubts }) => doubts)) report.warn(doubt);
  const files: string[] = [];
  if (flags.out === undefined) report.print(schemas.map(({ text }) => text.trimEnd()).join("\n---\n"));
  else for (const schema of schemas) files.push(await writeSchema(flags.out, schema));
  for (const file of files) report.print(file);
  report.result({ events: sample.events, refused, schemas, files });
}

export const command = defineCommand({
  name: "scripts/schema.ts",
  summary: "makes a first schema of each measurement from sample events",
  usage: [
    "FILE… [--out DIR]",
    "FILE.csv --measurement NAME --source NAME [--tag COLUMN]… [--time-zone ZONE] | --mapping FILE",
  ],
  positionals: [
    {
      name: "FILE",
      many: true,
      required: true,
      description: "JSON events of version 2, CSV or line protocol, plain or compressed; - for stdin",
    },
  ],
  flags: FLAGS,
  examples: [
    ["bun scripts/schema.ts sample.ndjson", "prints the schema, with the observed ranges as comments"],
    ["bun scripts/schema.ts bench.csv --mapping bench.yaml", "from a table, as ingest reads it"],
    ["bun scripts/schema.ts sample.lp --out schemas", "one file for each measurement, for the next deploy"],
  ],
  notes: [
    "A sample shows what was, not what may be: check types, units and ranges (docs/schemas.md).",
    "Numbers of JSON become float, as they are without a schema; a schema can say integer.",
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
