/** The command line of scripts/query.ts: periods, and arguments that are refused before a cluster is used. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { rangeOf } from "../../scripts/query.ts";

const NOW = Date.UTC(2026, 0, 31, 8);
const HOUR = 3_600_000;
const of = (flags: { since?: number; from?: string; to?: string }) => {
  const { startNs, endNs } = rangeOf({ since: undefined, from: undefined, to: undefined, ...flags }, HOUR, NOW);
  return [startNs, endNs].map((ns) => new Date(Number(BigInt(ns) / 1_000_000n)).toISOString().slice(0, 19));
};

describe("rangeOf", () => {
  test.each([
    [{}, "2026-01-31T07:00:00", "2026-01-31T08:00:00"],
    [{ since: 24 * HOUR }, "2026-01-30T08:00:00", "2026-01-31T08:00:00"],
    [{ from: "2026-01-31" }, "2026-01-31T00:00:00", "2026-01-31T08:00:00"],
    [{ from: "2026-01-31T08:30+01:00" }, "2026-01-31T07:30:00", "2026-01-31T08:00:00"],
    [{ to: "2026-01-31T07:00:00Z" }, "2026-01-31T06:00:00", "2026-01-31T07:00:00"],
    [{ to: "2026-01-31T07:00:00Z", since: 60_000 }, "2026-01-31T06:59:00", "2026-01-31T07:00:00"],
  ])("%j", (flags, start, end) => {
    expect(of(flags)).toEqual([start, end]);
  });

  test("nanoseconds stay exact", () => {
    const { startNs } = rangeOf({ since: undefined, from: "2026-01-31T07:00:00.123456789Z", to: undefined }, HOUR, NOW);
    expect(startNs).toBe("1769842800123456789");
  });

  test.each([
    [{ since: HOUR, from: "2026-01-31" }, "--since and --from exclude each other"],
    [
      { from: "yesterday" },
      '--from: must be a time with its zone, such as 2026-01-31T08:00:00Z, or a date; got "yesterday"',
    ],
    [{ from: "2026-01-31T08:00:00" }, "--from: must be a time with its zone"],
    [{ to: "2026-13-31" }, "--to: must be a time with its zone"],
    [{ from: "2026-02-01" }, "--from: must be before --to; got 2026-02-01"],
  ])("%j is refused", (flags, message) => {
    expect(() => of(flags)).toThrow(message);
  });
});

test.each([
  [["newest"], 'unknown arguments "newest"'],
  [["range"], "range: needs a measurement"],
  [["range", "pump", "fan"], 'unknown arguments "range pump fan"'],
  [["measurements", "pump"], 'unexpected argument "pump"'],
  [["last", "--field", "a"], "--field: only range has it"],
  [["last", "--limit", "0"], "--limit: must be at least 1"],
])("%j: exit 2", async (words, message) => {
  const child = Bun.spawn([process.execPath, "scripts/query.ts", ...words], {
    cwd: join(import.meta.dir, "../.."),
    stderr: "pipe",
  });
  expect(await new Response(child.stderr).text()).toContain(message);
  expect(await child.exited).toBe(2);
});
