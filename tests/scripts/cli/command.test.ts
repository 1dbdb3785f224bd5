import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type CommandSpec, type Flags, helpText, parseArguments, parseDuration } from "../../../scripts/cli/command.ts";
import { EXIT, OperatorError } from "../../../scripts/cli/errors.ts";

const spec = {
  name: "scripts/example.ts",
  summary: "an example",
  usage: ["[--count N]"],
  examples: [["bun scripts/example.ts --count 3", "counts to three"]],
  flags: {
    count: { type: "number", default: 1, min: 0, max: 10, description: "how many", env: "EXAMPLE_COUNT" },
    mode: { type: "string", default: "fast", choices: ["fast", "slow"], description: "how" },
    only: { type: "string", multiple: true, description: "which" },
    wait: { type: "duration", default: 30_000, description: "how long" },
    "dry-run": { type: "boolean", description: "change nothing" },
  },
  positionals: [{ name: "ACTION", description: "what", choices: ["up", "down"] }],
} as const satisfies CommandSpec<Flags>;

const parse = (argv: string[], environment: Record<string, string> = {}) => parseArguments(spec, argv, environment);

function failure(argv: string[], environment: Record<string, string> = {}): OperatorError {
  try {
    parse(argv, environment);
  } catch (error) {
    if (error instanceof OperatorError) return error;
    throw error;
  }
  throw new Error(`accepted: ${argv.join(" ")}`);
}

describe("parseArguments", () => {
  test("reads --name value and --name=value, and defaults for absent flags", () => {
    const { values, positionals } = parse([
      "up",
      "--count",
      "3",
      "--mode=slow",
      "--only",
      "a",
      "--only=b",
      "--dry-run",
    ]);
    expect(values).toMatchObject({ count: 3, mode: "slow", only: ["a", "b"], wait: 30_000, "dry-run": true });
    expect(positionals).toEqual(["up"]);
  });

  test("flag wins over environment, environment over default", () => {
    expect(parse([], { EXAMPLE_COUNT: "7" }).values.count).toBe(7);
    expect(parse(["--count", "2"], { EXAMPLE_COUNT: "7" }).values.count).toBe(2);
    expect(parse([], {}).values.count).toBe(1);
  });

  test("an unknown flag is exit 2 with a suggestion and the known flags", () => {
    const error = failure(["--dryrun"]);
    expect(error.exitCode).toBe(EXIT.usage);
    expect(error.message).toContain("unknown flag --dryrun; did you mean --dry-run?");
    expect(error.message).toContain("--count");
  });

  test("rejects the name of an inherited property", () => {
    expect(failure(["--constructor"]).message).toContain("unknown flag --constructor");
  });

  test.each([
    [["--count", "many"], '--count: must be a number; got "many"'],
    [["--count", "11"], "--count: must be at most 10; got 11"],
    [["--count=-1"], "--count: must be at least 0; got -1"],
    [["--count", "1.5"], "--count: must be a whole number; got 1.5"],
    [["--mode", "odd"], '--mode: must be one of fast, slow; got "odd"'],
    [["--wait", "30"], '--wait: must be a number with ms, s, m, h or d, for example 30s; got "30"'],
    [["--count"], "--count: needs a value"],
    [["sideways"], 'ACTION: must be one of up, down; got "sideways"'],
    [["up", "more"], 'unexpected argument "more"'],
    [["--dry-run=maybe"], '--dry-run: must be true or false; got "maybe"'],
  ])("%p names the field, the rule and the value", (argv, message) => {
    const error = failure(argv);
    expect(error.message).toContain(message);
    expect(error.exitCode).toBe(EXIT.usage);
  });

  test("a bad value from the environment names the variable", () => {
    expect(failure([], { EXAMPLE_COUNT: "x" }).message).toBe('EXAMPLE_COUNT: must be a number; got "x"');
  });
});

test("parseDuration reads every unit", () => {
  expect(["500ms", "1.5s", "2m", "1h", "30d"].map((text) => parseDuration(text))).toEqual([
    500, 1500, 120_000, 3_600_000, 2_592_000_000,
  ]);
});

test.each([
  [2_592_000_000, "30d"],
  [86_400_000, "1d"],
  [900_000, "15m"],
  [90_000, "90s"],
  [1500, "1500ms"],
])("helpText shows a default of %d ms as it is typed: %s", (defaultMs, shown) => {
  const flags: Flags = { wait: { type: "duration", default: defaultMs, description: "how long" } };
  const text = helpText({ ...spec, flags } as unknown as CommandSpec<Flags>);
  expect(text).toContain(`(default ${shown})`);
  expect(parseDuration(shown)).toBe(defaultMs);
});

test("helpText shows forms, flags with defaults, examples and exit codes", () => {
  const text = helpText(spec as unknown as CommandSpec<Flags>);
  for (const part of [
    "bun scripts/example.ts [--count N]",
    "--count NUMBER",
    "default 30s",
    "one of fast, slow",
    "counts to three",
    "5  ran to the end and found violations",
    "env EXAMPLE_COUNT",
  ]) {
    expect(text).toContain(part);
  }
});

test.each([
  ["a slow reader gets the whole --json document", "sleep 0.5; cat", 2_000_000],
  ["a reader that leaves does not hold the command back", "head -c 10", 10],
])("runCommand: %s", async (_, reader, length) => {
  const source = `
    import { defineCommand, runCommand } from ${JSON.stringify(join(import.meta.dir, "../../../scripts/cli/command.ts"))};
    await runCommand(defineCommand({
      name: "example", summary: "", usage: [], flags: {}, examples: [],
      run: async ({ report }) => { report.result({ text: "x".repeat(2_000_000) }); return 5; },
    }));`;
  // A writer that a full pipe holds back gives no event to wait for.
  const command = `{ "$0" -e "$1" example --json; echo "exit $?" >&2; } | { ${reader}; }`;
  const child = Bun.spawn(["sh", "-c", command, process.execPath, source], { stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  expect(stderr).toBe("exit 5\n");
  expect(stdout.length).toBeGreaterThanOrEqual(length);
  if (length > 10) expect(JSON.parse(stdout).text).toHaveLength(length);
});
