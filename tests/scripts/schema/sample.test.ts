import { describe, expect, test } from "bun:test";
import { parse } from "yaml";
import { SchemaSample } from "../../../scripts/schema/sample.ts";
import { unitOf } from "../../../scripts/schema/unit-names.ts";
import { checkSchema, readSchema } from "../../../services/domain/event-schema.ts";
import { type Point, parseLine } from "../../../services/domain/line-protocol.ts";

const pointOf = (line: string): Point => parseLine(line, "ns", 1_764_489_600_000).point!;
const sampleOf = (...lines: string[]) => {
  const sample = new SchemaSample();
  for (const line of lines) sample.add(pointOf(line));
  return sample;
};

test.each([
  ["flow_l_min", "l/min"],
  ["vibration_mm_s", "mm/s"],
  ["motor_temp_c", "°C"],
  ["Pressure_Bar", "bar"],
  ["uptime_s", "s"],
  ["load_pct", "%"],
  ["c", undefined],
  ["bar", undefined],
  ["note", undefined],
  ["size_t", undefined],
  ["a_constructor", undefined],
])("unit of %s: %p", (field, unit) => {
  expect(unitOf(field)).toBe(unit);
});

test("the text of a schema: types, units, what was observed", () => {
  const sample = sampleOf(
    'pump,source=a,site=north flow_l_min=1.5,starts=3i,ok=t,note="x",total=5',
    "pump,source=b,site=south flow_l_min=121.5,starts=-1i,pulses=7u",
  );
  expect(sample.events).toBe(2);
  expect(sample.schemas("pump.lp")).toEqual([
    {
      measurement: "pump",
      doubts: [],
      text: `# From 2 events of pump.lp. Check types, units and ranges before it is applied.
measurement: pump
tags:
  site: # north, south
fields:
  flow_l_min: { type: float, unit: l/min } # 1.5 to 121.5
  note: { type: string }
  ok: { type: boolean }
  pulses: { type: unsigned } # 7 to 7
  starts: { type: integer } # -1 to 3
  total: { type: float } # 5 to 5; only whole numbers: integer?
additionalFields: false
`,
    },
  ]);
});

test("a type that a field has seldom is named: its events would be refused", () => {
  const [schema] = sampleOf("m a=1", "m a=2", "m a=1i").schemas("x");
  expect(schema!.doubts).toEqual(["m: field a is float, and 1 times integer: those events would be refused"]);
});

describe("names of any characters", () => {
  test("make a schema that is valid, and takes its sample", () => {
    const lines = ['a\\ b:\\ #c,true=x,"q"=y null=1,1e5=2i,#\\ k="s",ä\\,\\=b_c=3', "yes off=t"];
    for (const { measurement, text } of sampleOf(...lines).schemas("x")) {
      const schema = readSchema(parse(text));
      expect(schema.measurement).toBe(measurement);
      const schemas = { byMeasurement: new Map([[measurement, schema]]), unknownMeasurements: "refuse" } as const;
      const point = lines.map(pointOf).find((one) => one.measurement === measurement)!;
      expect(checkSchema(schemas, point, "line")).toBe(point);
    }
  });
});

test("a sample with names made of values is refused", () => {
  const sample = new SchemaSample();
  const add = (line: (index: number) => string) => {
    for (let index = 0; index <= 256; index++) sample.add(pointOf(line(index)));
  };
  expect(() => add((index) => `m f${index}=1`)).toThrow('more than 256 fields of measurement "m"');
  expect(() => add((index) => `m${index} f=1`)).toThrow("more than 200 measurements");
});

test("a tag with many values has no list", () => {
  const lines = Array.from({ length: 30 }, (_, index) => `m,host=h${index} a=1`);
  expect(sampleOf(...lines).schemas("x")[0]!.text).toContain("  host: # more than 12 values\n");
});
