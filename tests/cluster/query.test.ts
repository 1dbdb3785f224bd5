/** scripts/query.ts against the deployed pipeline, whose fleet always has new points. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { nsOfTime } from "../../scripts/clients/log-search.ts";
import { describeOnCluster, scriptDocument } from "./harness.ts";

interface Document {
  columns: string[];
  rows: Record<string, string | number | boolean>[];
  cut: boolean;
}

const query = (...words: string[]) => scriptDocument<Document>(["scripts/query.ts", ...words, "--local"]);
const CONVEYOR = "belt-0-1";
const RECENT_MS = 60_000;

describeOnCluster("query", () => {
  test("measurements lists version 1's, with its fields", async () => {
    const { rows } = await query("measurements");
    const [belts] = rows.filter(({ measurement }) => measurement === "conveyor_telemetry");
    expect(belts!.fields).toContain("speed_mps");
  });

  test("last has the newest values of one conveyor, which are recent", async () => {
    const { rows } = await query("last", "conveyor_telemetry", "--source", CONVEYOR);
    expect(rows.map(({ field }) => field)).toContain("state");
    for (const { tags, time } of rows) {
      expect(tags).toBe(`conveyor=${CONVEYOR}`);
      expect(Date.now() - Date.parse(String(time))).toBeLessThan(RECENT_MS);
    }
  });

  test("range is bounded, in order, and the next call goes on where it ended", async () => {
    const fixed = ["range", "conveyor_telemetry", "--source", CONVEYOR, "--field", "seq", "--limit", "50"];
    const first = await query(...fixed, "--since", "10m", "--to", new Date().toISOString());
    expect([first.rows.length, first.cut]).toEqual([50, true]);
    const next = await query(...fixed, "--from", String(first.rows.at(-1)!.time));
    expect(next.rows[0]).toEqual(first.rows.at(-1)!);
    const times = [...first.rows, ...next.rows.slice(1)].map(({ time }) => BigInt(nsOfTime(String(time))!));
    for (const [index, time] of times.entries()) if (index > 0) expect(time).toBeGreaterThan(times[index - 1]!);
  });

  test("an unknown measurement is named, with those that exist", async () => {
    const child = Bun.spawn([process.execPath, "scripts/query.ts", "range", "no-such", "--local"], {
      cwd: join(import.meta.dir, "../.."),
      stderr: "pipe",
    });
    const text = await new Response(child.stderr).text();
    expect([await child.exited, text]).toEqual([1, expect.stringContaining('no measurement "no-such"')]);
    expect(text).toContain("conveyor_telemetry");
  });
});
