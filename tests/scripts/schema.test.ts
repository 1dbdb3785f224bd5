/** scripts/schema.ts with files: what it prints, writes and refuses. */
import { expect, test } from "bun:test";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { readSchemaFolder } from "../../scripts/deploy/event-schemas.ts";
import { fileNameOf } from "../../scripts/schema.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const folder = temporaryFolder();
const event = (fields: object, measurement = "pump") =>
  JSON.stringify({ v: 2, measurement, source: "p", time: 1_764_489_600_000, fields });

async function run(...words: string[]) {
  const child = Bun.spawn([process.execPath, "scripts/schema.ts", ...words], {
    cwd: join(import.meta.dir, "../.."),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, error] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { exitCode: await child.exited, out, error };
}

async function fileOf(name: string, ...lines: string[]): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, lines.join("\n"));
  return path;
}

test("events and lines of any precision make schemas that a deploy reads; no file is replaced", async () => {
  const events = await fileOf(
    "events.ndjson",
    event({ flow_l_min: 1.5, starts: { integer: "5" } }),
    "",
    event({ ok: true }),
  );
  const lines = await fileOf(
    "lines.lp",
    "# comment",
    "fan,line=7 rpm=5 1764489600",
    "pump flow_l_min=3 1764489600000",
    "fan rpm=6",
  );
  const out = join(folder, "schemas");
  const first = await run(events, lines, "--out", out);
  expect(first).toMatchObject({ exitCode: 0, error: "" });
  expect((await readdir(out)).sort()).toEqual(["fan.yaml", "pump.yaml"]);
  const { "pump.yaml": pump } = await readSchemaFolder(out);
  expect(pump).toContain("# From 3 events of events.ndjson, lines.lp.");
  expect(pump).toContain("  flow_l_min: { type: float, unit: l/min } # 1.5 to 3\n");
  const second = await run(events, "--out", out);
  expect(second).toMatchObject({
    exitCode: 2,
    error: expect.stringContaining("pump.yaml exists; a schema is not replaced"),
  });
  const third = await run(events, "--out", lines);
  expect(third).toMatchObject({
    exitCode: 2,
    error: expect.stringContaining(`--out: the folder "${lines}" cannot be created`),
  });
});

test("a table is read as ingest reads it", async () => {
  const table = await fileOf(
    "bench.csv",
    "time;site;flow_l_min;starts;ok",
    "01.06.2026 12:00;north;1,5;3;true",
    "01.06.2026 12:01;north;;4;false",
  );
  const mapping = await fileOf(
    "mapping.yaml",
    "measurement: pump",
    "source: p",
    "time: { format: DD.MM.YYYY HH:mm, zone: Europe/Berlin }",
    "tags: [site]",
  );
  const { exitCode, out, error } = await run(table, "--mapping", mapping);
  expect([exitCode, error]).toEqual([0, ""]);
  expect(out).toContain("  site: # north\n");
  expect(out).toContain("  flow_l_min: { type: float, unit: l/min } # 1.5 to 1.5\n");
  expect(out).toContain("  starts: { type: float } # 3 to 4; only whole numbers: integer?\n");
  expect(await run(table)).toMatchObject({ exitCode: 2, error: expect.stringContaining("must be given") });
});

test("lines that are no events are counted, with the first reason", async () => {
  const path = await fileOf("mixed.ndjson", "{", event({ a: 1 }), event({ a: "x" }));
  const { exitCode, out, error } = await run(path);
  expect(exitCode).toBe(0);
  expect(out).toContain("measurement: pump\n");
  expect(error).toContain("1 of 3 lines are no valid event; line 1: must be JSON");
  expect(error).toContain("pump: field a is float, and 1 times string");
});

test.each([
  ["nothing.ndjson", "no file"],
  [await fileOf("empty.ndjson"), "the input is empty"],
  [await fileOf("old.ndjson", '{"v":1}'), "the sample has no valid event"],
])("%s is refused: exit 2", async (path, message) => {
  expect(await run(path)).toMatchObject({ exitCode: 2, error: expect.stringContaining(message) });
});

test.each([
  ["pump", "pump.yaml"],
  ["a b/../c", "a-b-..-c.yaml"],
  ["ä", "measurement-.yaml"],
  ["settings", "measurement-settings.yaml"],
])("the file of %s is %s", (measurement, name) => {
  expect(fileNameOf(measurement)).toBe(name);
});
