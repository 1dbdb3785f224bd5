/**
 * The command line of every script: flags declared in one literal, help generated from it, exit codes and signals handled
 * once. A script is `export const command = defineCommand({ …, run })` and `if (import.meta.main) await runCommand(command)`.
 *
 * Precedence of a value: flag > environment variable > default.
 */
import { type ParseArgsConfig, parseArgs } from "node:util";
import { EXIT, type ExitCode, formatError, isAbort, OperatorError } from "./errors.ts";
import { type Report, TerminalReport } from "./report.ts";

interface FlagBase {
  description: string;
  /** One letter, without the dash. */
  short?: string;
  /** Environment variable with the value when the flag is absent. */
  env?: string;
  /** Name of the value in the help: NAME, DIR, … */
  valueName?: string;
}

type Flag =
  | (FlagBase & { type: "boolean"; default?: boolean })
  | (FlagBase & { type: "string"; default?: string; choices?: readonly string[]; multiple?: boolean })
  /** An integer. */
  | (FlagBase & { type: "number"; default?: number; min?: number; max?: number })
  /** "500ms", "30s", "5m", "2h", "30d"; the value is in milliseconds. */
  | (FlagBase & { type: "duration"; default?: number });

export type Flags = Record<string, Flag>;

type ValueOf<F extends Flag> = F extends { type: "boolean" }
  ? boolean
  : F extends { type: "string"; multiple: true }
    ? string[]
    : F extends { type: "string" }
      ? F extends { default: string }
        ? string
        : string | undefined
      : F extends { default: number }
        ? number
        : number | undefined;

export type Values<F extends Flags> = { [Name in keyof F]: ValueOf<F[Name]> };

interface Positional {
  name: string;
  description: string;
  required?: boolean;
  many?: boolean;
  choices?: readonly string[];
}

export interface CommandSpec<F extends Flags> {
  /** As typed: `scripts/deploy.ts`. */
  name: string;
  summary: string;
  /** Forms after the name, for example `["up [--install-tools]", "down"]`. */
  usage: readonly string[];
  /** Command lines and what each does. */
  examples: readonly (readonly [command: string, effect: string])[];
  flags: F;
  positionals?: readonly Positional[];
  /** Paragraphs below the flags. */
  notes?: readonly string[];
  /** Limit of the clean-up after an interrupt, in milliseconds, for a command that needs more than the default. */
  cleanupLimitMs?: number;
}

export interface CommandContext<F extends Flags> {
  flags: Values<F>;
  positionals: string[];
  report: Report;
  /** Aborted on SIGINT and SIGTERM: work stops and cleans up. */
  signal: AbortSignal;
}

/** Does the work; without an exit code it is 0. */
type Run<F extends Flags> = (context: CommandContext<F>) => Promise<ExitCode | undefined> | Promise<void>;

export interface Command<F extends Flags> extends CommandSpec<F> {
  run: Run<F>;
}

/** A command with the types of its flags, so that tests can import it and call `run`. */
export const defineCommand = <const F extends Flags>(command: Command<F>): Command<F> => command;

const COMMON_FLAGS = {
  help: { type: "boolean", short: "h", description: "show this help and exit" },
  json: { type: "boolean", description: "one JSON document on stdout, nothing else there" },
  quiet: { type: "boolean", short: "q", description: "only warnings, errors and the result" },
  "no-color": { type: "boolean", description: "no colour (NO_COLOR is honoured too)" },
} as const satisfies Flags;

const EXIT_CODE_HELP: readonly (readonly [number, string])[] = [
  [EXIT.ok, "done, or everything passed"],
  [EXIT.failed, "failed"],
  [EXIT.usage, "bad usage"],
  [EXIT.precondition, "a precondition or tool is missing"],
  [EXIT.timeout, "timed out"],
  [EXIT.violations, "ran to the end and found violations"],
  [EXIT.interrupted, "interrupted"],
];

/** Limit of the clean-up after the first signal; then the process ends. */
const CLEANUP_LIMIT_MS = 30_000;

const usageError = (message: string, spec: CommandSpec<Flags>) =>
  new OperatorError(message, { exitCode: EXIT.usage, hint: `bun ${spec.name} --help` });

/** Units of a duration, the largest first. */
const UNIT_MS: Readonly<Record<string, number>> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/**
 * Milliseconds of "500ms", "30s", "5m", "2h" or "30d".
 * @throws OperatorError that names the flag, the rule and the value.
 */
export function parseDuration(text: string, name = "duration"): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim());
  const unitMs = UNIT_MS[match?.[2] ?? ""];
  if (!match || unitMs === undefined) {
    throw new OperatorError(`${name}: must be a number with ms, s, m, h or d, for example 30s; got "${text}"`, {
      exitCode: EXIT.usage,
    });
  }
  return Number(match[1]) * unitMs;
}

/** A duration as parseDuration reads it, in the largest unit that needs no fraction: "30d", "15m", "500ms". */
function durationText(durationMs: number): string {
  const [unit, unitMs] = Object.entries(UNIT_MS).find(
    ([, unitMs]) => durationMs >= unitMs && durationMs % unitMs === 0,
  ) ?? ["ms", 1];
  return `${durationMs / unitMs}${unit}`;
}

/** The help text of a command. */
export function helpText(spec: CommandSpec<Flags>): string {
  const forms = spec.usage.length > 0 ? spec.usage : ["[flags]"];
  const lines = [`${spec.name}: ${spec.summary}`, "", "Usage:"];
  for (const form of forms) lines.push(`  bun ${spec.name} ${form}`);
  if (spec.positionals?.length) {
    lines.push("", "Arguments:");
    for (const positional of spec.positionals) {
      const choices = positional.choices ? ` (${positional.choices.join(", ")})` : "";
      lines.push(`  ${positional.name.padEnd(24)} ${positional.description}${choices}`);
    }
  }
  lines.push("", "Flags:");
  const rows = Object.entries({ ...spec.flags, ...COMMON_FLAGS } as Flags).map(([name, flag]) => {
    const value = flag.type === "boolean" ? "" : ` ${flag.valueName ?? flag.type.toUpperCase()}`;
    const facts: string[] = [];
    if (flag.type === "string" && flag.choices) facts.push(`one of ${flag.choices.join(", ")}`);
    if (flag.type === "string" && flag.multiple) facts.push("may be repeated");
    if (flag.env) facts.push(`env ${flag.env}`);
    if (flag.default !== undefined && flag.default !== false) {
      facts.push(`default ${flag.type === "duration" ? durationText(Number(flag.default)) : flag.default}`);
    }
    return [
      `${flag.short ? `-${flag.short}, ` : "    "}--${name}${value}`,
      `${flag.description}${facts.length > 0 ? ` (${facts.join("; ")})` : ""}`,
    ] as const;
  });
  const width = Math.max(...rows.map(([left]) => left.length));
  for (const [left, right] of rows) lines.push(`  ${left.padEnd(width)}  ${right}`);
  for (const note of spec.notes ?? []) lines.push("", note);
  if (spec.examples.length > 0) {
    lines.push("", "Examples:");
    for (const [command, effect] of spec.examples) lines.push(`  ${command}`, `      ${effect}`);
  }
  lines.push("", "Exit codes:");
  for (const [code, meaning] of EXIT_CODE_HELP) lines.push(`  ${String(code).padStart(3)}  ${meaning}`);
  return lines.join("\n");
}

/** Edit distance, for suggestions. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}

function readValue(name: string, flag: Flag, text: string, origin: string, spec: CommandSpec<Flags>): unknown {
  switch (flag.type) {
    case "boolean": {
      if (["true", "1", "yes"].includes(text.toLowerCase())) return true;
      if (["false", "0", "no", ""].includes(text.toLowerCase())) return false;
      throw usageError(`${origin}: must be true or false; got "${text}"`, spec);
    }
    case "number": {
      const value = Number(text);
      if (text.trim() === "" || !Number.isFinite(value)) {
        throw usageError(`${origin}: must be a number; got "${text}"`, spec);
      }
      if (!Number.isInteger(value)) throw usageError(`${origin}: must be a whole number; got ${text}`, spec);
      if (flag.min !== undefined && value < flag.min) {
        throw usageError(`${origin}: must be at least ${flag.min}; got ${text}`, spec);
      }
      if (flag.max !== undefined && value > flag.max) {
        throw usageError(`${origin}: must be at most ${flag.max}; got ${text}`, spec);
      }
      return value;
    }
    case "duration":
      return parseDuration(text, origin);
    case "string": {
      if (text === "") throw usageError(`${origin}: must not be empty`, spec);
      if (flag.choices && !flag.choices.includes(text)) {
        throw usageError(`${origin}: must be one of ${flag.choices.join(", ")}; got "${text}"`, spec);
      }
      return text;
    }
    default:
      throw new Error(`flag ${name} has no known type`);
  }
}

type Environment = Record<string, string | undefined>;

/**
 * Values of a command line.
 * @throws OperatorError (exit 2) that names the flag, the rule and the value received.
 */
export function parseArguments<F extends Flags>(
  spec: CommandSpec<F>,
  argv: readonly string[],
  environment: Environment = process.env,
): { values: Values<F> & Values<typeof COMMON_FLAGS>; positionals: string[] } {
  const plain = spec as unknown as CommandSpec<Flags>;
  const flags: Flags = { ...spec.flags, ...COMMON_FLAGS };
  const { values, positionals } = readArguments(plain, flags, argv);
  for (const [name, flag] of Object.entries(flags)) {
    values[name] ??= valueWithout(name, flag, environment, plain);
  }
  if (!values.help) checkPositionals(plain, positionals);
  return { values: values as Values<F> & Values<typeof COMMON_FLAGS>, positionals };
}

function readArguments(spec: CommandSpec<Flags>, flags: Flags, argv: readonly string[]) {
  const options: ParseArgsConfig["options"] = {};
  for (const [name, { type, short }] of Object.entries(flags)) {
    options[name] = { type: type === "boolean" ? "boolean" : "string", ...(short ? { short } : {}) };
  }
  // Not strict: an error of parseArgs names neither the rule nor the near flag.
  const { tokens } = parseArgs({ args: [...argv], options, strict: false, allowPositionals: true, tokens: true });
  const values: Record<string, unknown> = {};
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const { name, rawName, value: text } = token;
    const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
    if (!flag) throw unknownFlag(rawName, Object.keys(flags), spec);
    if (text === undefined && flag.type !== "boolean") {
      throw usageError(`--${name}: needs a value (${flag.description})`, spec);
    }
    const value = text === undefined ? true : readValue(name, flag, text, `--${name}`, spec);
    values[name] =
      flag.type === "string" && flag.multiple ? [...((values[name] as string[] | undefined) ?? []), value] : value;
  }
  return { values, positionals };
}

function unknownFlag(typed: string, known: readonly string[], spec: CommandSpec<Flags>): OperatorError {
  const near = known.find((name) => distance(name, typed.replace(/^-+/, "")) <= 2);
  return usageError(
    `unknown flag ${typed}${near ? `; did you mean --${near}?` : ""}\nknown flags: ${known.map((name) => `--${name}`).join(" ")}`,
    spec,
  );
}

function valueWithout(name: string, flag: Flag, environment: Environment, spec: CommandSpec<Flags>): unknown {
  const isList = flag.type === "string" && flag.multiple;
  const text = flag.env ? environment[flag.env] : undefined;
  const value = text ? readValue(name, flag, text, flag.env!, spec) : flag.default;
  if (isList) return value === undefined ? [] : [value];
  return flag.type === "boolean" ? (value ?? false) : value;
}

function checkPositionals(spec: CommandSpec<Flags>, positionals: readonly string[]): void {
  const expected = spec.positionals ?? [];
  if (positionals.length > expected.length && !expected.at(-1)?.many) {
    throw usageError(`unexpected argument "${positionals[expected.length]}"`, spec);
  }
  expected.forEach(({ name, required, many, choices }, index) => {
    const texts = many ? positionals.slice(index) : positionals.slice(index, index + 1);
    if (required && texts.length === 0) {
      throw usageError(`missing argument ${name}${choices ? ` (${choices.join(", ")})` : ""}`, spec);
    }
    const wrong = texts.find((text) => choices && !choices.includes(text));
    if (wrong !== undefined) throw usageError(`${name}: must be one of ${choices!.join(", ")}; got "${wrong}"`, spec);
  });
}

/**
 * Ends an output stream; resolves when its reader has taken everything, or is gone. process.exit cuts what a pipe has not
 * taken yet, and the callback of an empty write does not wait for earlier ones (Bun 1.4.5).
 */
function ended(stream: NodeJS.WriteStream): Promise<void> {
  // A line written after the end, by work that was given up, is dropped.
  stream.on("error", () => {});
  return new Promise((resolve) => stream.end(() => resolve()));
}

/**
 * Runs a command to its exit code and ends the process.
 * Signals abort the context's signal; a second one, or clean-up beyond its limit, ends the process at once.
 */
export async function runCommand<const F extends Flags>(command: Command<F>): Promise<never> {
  const argv = process.argv.slice(2);
  let report = new TerminalReport({ json: argv.includes("--json") });
  let exitCode: number = EXIT.ok;
  const interrupt = new AbortController();
  const onSignal = (signal: NodeJS.Signals) => {
    if (interrupt.signal.aborted) process.exit(EXIT.interrupted);
    report.warn(`${signal}: stopping and cleaning up (again: stop at once)`);
    interrupt.abort(Object.assign(new Error(`interrupted by ${signal}`), { name: "AbortError" }));
    setTimeout(() => process.exit(EXIT.interrupted), command.cleanupLimitMs ?? CLEANUP_LIMIT_MS).unref();
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  try {
    const { values, positionals } = parseArguments(command, argv);
    if (values.help) {
      process.stdout.write(`${helpText(command as unknown as CommandSpec<Flags>)}\n`);
    } else {
      report = new TerminalReport({
        json: values.json,
        quiet: values.quiet,
        ...(values["no-color"] ? { color: false } : {}),
      });
      exitCode = (await command.run({ flags: values, positionals, report, signal: interrupt.signal })) ?? EXIT.ok;
      if (interrupt.signal.aborted && exitCode === EXIT.ok) exitCode = EXIT.interrupted;
    }
  } catch (error) {
    if (interrupt.signal.aborted && (isAbort(error) || error instanceof OperatorError)) {
      exitCode = EXIT.interrupted;
      report.warn("interrupted");
    } else {
      exitCode = error instanceof OperatorError ? error.exitCode : EXIT.failed;
      report.error(formatError(error));
      if (report.json) {
        report.result({
          ...(error instanceof OperatorError ? error.document : undefined),
          error: error instanceof Error ? error.message : String(error),
          ...(error instanceof OperatorError && error.hint ? { hint: error.hint } : {}),
          exit_code: exitCode,
        });
      }
    }
  }
  report.finish();
  await Promise.all([ended(process.stdout), ended(process.stderr)]);
  process.exit(exitCode);
}
