import { describe, expect, test } from "bun:test";
import { causeChain, EXIT, formatError, OperatorError } from "../../../scripts/cli/errors.ts";
import { formatDuration, paint, TerminalReport } from "../../../scripts/cli/report.ts";

function capture(options: { json?: boolean; quiet?: boolean; tty?: boolean } = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const report = new TerminalReport({
    ...options,
    stdout: { write: (text) => out.push(text) },
    stderr: { write: (text) => err.push(text), isTTY: options.tty ?? false, columns: 60 },
  });
  return { report, out: () => out.join(""), err: () => err.join("") };
}

describe("TerminalReport", () => {
  test("a step ends with one line that has its detail and its time", async () => {
    const { report, err, out } = capture();
    const value = await report.step("import images", async (step) => {
      step.update("6 of 6");
      return 42;
    });
    expect(value).toBe(42);
    expect(err()).toMatch(/^✓ import images — 6 of 6 {2}\d+\.\d s\n$/);
    expect(out()).toBe("");
  });

  test("a step that throws is marked, kept in the record and rethrown", async () => {
    const { report, err } = capture();
    await expect(
      report.step("break", async () => {
        throw new Error("why");
      }),
    ).rejects.toThrow("why");
    expect(err()).toContain("✗ break");
    expect(report.steps).toMatchObject([{ title: "break", ok: false }]);
  });

  test("--json puts one document on stdout and nothing else there", () => {
    const { report, out } = capture({ json: true });
    report.print("for a person");
    report.info("progress");
    report.result({ a: 1 });
    report.finish();
    expect(JSON.parse(out())).toEqual({ a: 1 });
  });

  test("--quiet keeps warnings and failures, drops the rest", async () => {
    const { report, err } = capture({ quiet: true });
    report.info("progress");
    await report.step("fine", async () => {});
    report.warn("look here");
    expect(err()).toBe("! look here\n");
  });

  test("without a terminal there is no escape sequence", async () => {
    const { report, err } = capture();
    await report.step("plain", async () => {});
    expect(err()).not.toContain("\u001b");
  });

  test("on a terminal the running line is cut to its width and erased at the end", async () => {
    const { report, err } = capture({ tty: true });
    await report.step("x".repeat(200), async () => {});
    const first = err().split("\r")[0]!;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what is stripped here
    expect(first.replaceAll(/\u001b\[[0-9;]*[mK]/g, "").length).toBeLessThan(60);
    expect(err()).toContain("\r\u001b[2K");
  });
});

describe("text of others", () => {
  const foreign = "\u001b]0;title\u0007 \u009b2J";
  const shown = "\\u001b]0;title\\u0007 \\u009b2J";

  test("is printed without its control sequences, with the colours of paint() and line breaks", async () => {
    const { report, out, err } = capture();
    report.print(`${paint(true, "red", foreign)}\n\tnext`);
    expect(out()).toBe(`\u001b[31m${shown}\u001b[0m\n\tnext\n`);
    report.info(foreign);
    report.warn(foreign);
    report.error(foreign);
    await report.step(foreign, async (step) => step.update(foreign));
    expect(err()).toStartWith(`${shown}\n! ${shown}\n${shown}\n✓ ${shown} — ${shown}  `);
  });

  test("keeps the running line of a terminal on one line", async () => {
    const { report, err } = capture({ tty: true });
    await report.step("a\r\nb\u001b[2J", async () => {});
    expect(err()).toContain("a\\u000d\\u000ab\\u001b[2J");
  });

  test("is escaped in the document of --json, which keeps its meaning", () => {
    const { report, out } = capture({ json: true });
    report.result({ [foreign]: [foreign, 1] });
    report.finish();
    expect(out().replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(JSON.parse(out())).toEqual({ [foreign]: [foreign, 1] });
  });
});

describe("errors", () => {
  test("formatError shows message, causes and hint of an operator's error, and no stack", () => {
    const error = new OperatorError("deploy stopped", {
      hint: "look there",
      cause: new Error("outer", { cause: new Error("inner") }),
    });
    expect(formatError(error)).toBe("error: deploy stopped\n  cause: outer\n  cause: inner\n  hint: look there");
    expect(error.exitCode).toBe(EXIT.failed);
  });

  test("formatError keeps the stack of an unexpected error", () => {
    expect(formatError(new TypeError("x is not y"))).toContain("report.test.ts");
  });

  test("causeChain ends on a cycle", () => {
    const error = new Error("round");
    error.cause = error;
    expect(causeChain(error)).toEqual(["round"]);
  });
});

test("formatDuration reads well below and above a minute", () => {
  expect([0, 400, 59_940, 60_000, 185_000].map(formatDuration)).toEqual([
    "0.0 s",
    "0.4 s",
    "59.9 s",
    "1 min 00 s",
    "3 min 05 s",
  ]);
});
