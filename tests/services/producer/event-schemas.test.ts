import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseLine } from "../../../services/domain/line-protocol.ts";
import { EventSchemas } from "../../../services/producer/event-schemas.ts";
import { Logger } from "../../../services/runtime/log.ts";

let folder: string;
let nowMs: number;
let faulty: number;
let lines: string[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "conveyor-schemas-"));
  [nowMs, faulty, lines] = [0, 0, []];
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const schema = (type: string) => `measurement: pump\nfields:\n  starts: { type: ${type} }\n`;
const open = (path = folder) =>
  new EventSchemas({
    folder: path,
    log: new Logger("producer", "info", {}, (line) => void lines.push(line)),
    onFaulty: () => void faulty++,
    now: () => nowMs,
  });
const { point } = parseLine("pump starts=5", "ns", 1_764_489_600_000);
const typeIn = (schemas: EventSchemas) => {
  const checked = schemas.check(point!, "json");
  return "reason" in checked ? checked.reason : checked.fields.get("starts")!.type;
};

/** Replaces all files as the kubelet does: links into a folder that a link names, which is replaced at once. */
async function replaceFiles(version: string, files: Record<string, string>): Promise<void> {
  await mkdir(join(folder, version));
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(folder, version, name), text);
    await symlink(join("..data", name), join(folder, name)).catch(() => {});
  }
  await symlink(version, join(folder, "..new"));
  await rename(join(folder, "..new"), join(folder, "..data"));
}

test("without a folder every measurement is accepted", () => {
  expect(typeIn(open(join(folder, "nothing")))).toBe("float");
  expect(lines).toEqual([]);
});

test("files that the kubelet replaces are read again; a faulty one changes nothing, is logged and counted once", async () => {
  await replaceFiles("..1", { "pump.yaml": schema("integer") });
  const schemas = open();
  expect(typeIn(schemas)).toBe("integer");
  expect(lines.at(-1)).toContain('"measurements":["pump"]');

  await replaceFiles("..2", { "pump.yaml": schema("string") });
  expect(typeIn(schemas)).toBe("integer");
  nowMs += 5000;
  expect(typeIn(schemas)).toBe("wrong_type");

  await replaceFiles("..3", { "pump.yaml": schema("text") });
  for (let reading = 0; reading < 3; reading++) {
    nowMs += 5000;
    expect(typeIn(schemas)).toBe("wrong_type");
  }
  expect(faulty).toBe(1);
  const errors = lines.filter((line) => line.includes("event_schema_invalid"));
  expect(errors).toHaveLength(1);
  expect(errors[0]).toContain("fields.starts.type: must be one of float");

  await replaceFiles("..4", { "pump.yaml": schema("unsigned"), "settings.yaml": "unknownMeasurements: refuse" });
  nowMs += 5000;
  expect(typeIn(schemas)).toBe("unsigned");
  expect(schemas.check({ ...point!, measurement: "fan" }, "line")).toMatchObject({ reason: "unknown_measurement" });
});
