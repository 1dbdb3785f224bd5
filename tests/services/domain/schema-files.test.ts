import { describe, expect, test } from "bun:test";
import { isSchemaFile, SchemaFiles } from "../../../services/domain/schema-files.ts";

const schema = (measurement: string, type = "float") =>
  `measurement: ${measurement}\nfields:\n  a: { type: ${type} }\n`;
const typeIn = ({ schemas }: SchemaFiles, measurement: string) =>
  schemas.byMeasurement.get(measurement)?.fields.get("a")?.type;

test.each([
  ["pump.yaml", true],
  ["settings.yaml", true],
  ["README.md", false],
  ["..data", false],
  [".hidden.yaml", false],
  ["pump.yml", false],
])("%s is read: %p", (name, isRead) => {
  expect(isSchemaFile(name)).toBe(isRead);
});

test("no file: no schema, every measurement is accepted", () => {
  const files = new SchemaFiles();
  expect(files.read({})).toEqual([]);
  expect(files.schemas).toEqual({ byMeasurement: new Map(), unknownMeasurements: "accept" });
});

describe("a faulty file", () => {
  test("leaves its earlier version in force; the others are replaced", () => {
    const files = new SchemaFiles();
    expect(files.read({ "a.yaml": schema("a"), "b.yaml": schema("b") })).toEqual([]);
    const problems = files.read({ "a.yaml": "fields: [", "b.yaml": schema("b", "integer"), "c.yaml": schema("c") });
    expect(problems.map(({ file }) => file)).toEqual(["a.yaml"]);
    expect(problems[0]!.error).not.toContain("\n");
    expect([typeIn(files, "a"), typeIn(files, "b"), typeIn(files, "c")]).toEqual(["float", "integer", "float"]);
    // Also at the next reading.
    files.read({ "a.yaml": "{}", "b.yaml": schema("b") });
    expect([typeIn(files, "a"), typeIn(files, "b"), typeIn(files, "c")]).toEqual(["float", "float", undefined]);
  });

  test("that never was valid is no schema", () => {
    const files = new SchemaFiles();
    expect(files.read({ "a.yaml": "measurement: a", "b.yaml": schema("b") })).toEqual([
      { file: "a.yaml", error: "fields: must be a mapping of names; got nothing" },
    ]);
    expect([...files.schemas.byMeasurement.keys()]).toEqual(["b"]);
  });

  test("is a second file of one measurement", () => {
    const files = new SchemaFiles();
    expect(files.read({ "a.yaml": schema("m"), "b.yaml": schema("m", "string") })).toEqual([
      { file: "b.yaml", error: 'measurement: another file has "m" too' },
    ]);
    expect(typeIn(files, "m")).toBe("float");
  });

  test("too much text changes nothing", () => {
    const files = new SchemaFiles();
    files.read({ "a.yaml": schema("a") });
    const long = { "b.yaml": `${schema("b")}#${"x".repeat(600 * 1024)}` };
    expect(files.read(long)[0]!.error).toContain("524288 bytes");
    const many = Object.fromEntries(Array.from({ length: 201 }, (_, index) => [`m${index}.yaml`, schema(`m${index}`)]));
    expect(files.read(many)[0]!.error).toContain("at most 200");
    expect([...files.schemas.byMeasurement.keys()]).toEqual(["a"]);
  });
});

describe("settings.yaml", () => {
  test("decides about measurements without a schema", () => {
    const files = new SchemaFiles();
    expect(files.read({ "settings.yaml": "unknownMeasurements: refuse" })).toEqual([]);
    expect(files.schemas.unknownMeasurements).toBe("refuse");
    files.read({ "settings.yaml": "" });
    expect(files.schemas.unknownMeasurements).toBe("accept");
  });

  test.each(["unknownMeasurements: no", "unknown: refuse", "[]", "5", "a: [", "text"])(
    "%s is faulty, and changes nothing",
    (text) => {
      const files = new SchemaFiles();
      files.read({ "settings.yaml": "unknownMeasurements: refuse" });
      expect(files.read({ "settings.yaml": text }).map(({ file }) => file)).toEqual(["settings.yaml"]);
      expect(files.schemas.unknownMeasurements).toBe("refuse");
    },
  );
});
