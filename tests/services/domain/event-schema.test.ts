import { describe, expect, test } from "bun:test";
import { MAX_EVENT_BYTES } from "../../../services/domain/event.ts";
import { checkSchema, type NumberForm, readSchema, type Schemas } from "../../../services/domain/event-schema.ts";
import { checkGenericEvent } from "../../../services/domain/generic-event.ts";
import { parseLine, renderLine } from "../../../services/domain/line-protocol.ts";
import { PUMP } from "../../schemas/pump.ts";

const schemasOf = (
  ...schemas: Schemas["byMeasurement"] extends ReadonlyMap<string, infer S> ? S[] : never
): Schemas => ({
  byMeasurement: new Map(schemas.map((schema) => [schema.measurement, schema])),
  unknownMeasurements: "accept",
});
const schemas = schemasOf(PUMP);
const NOW = 1_764_489_600_000;

const eventOf = (fields: unknown, tags: unknown = {}, measurement = "pump") => {
  const { event, refusal } = checkGenericEvent({ v: 2, measurement, source: "pump-7", time: NOW, tags, fields });
  if (!event) throw new Error(refusal.detail);
  return event.point;
};
const lineOf = (line: string) => {
  const { point, refusal } = parseLine(line, "ns", NOW);
  if (!point) throw new Error(refusal.detail);
  return point;
};

/** The rendered fields of the checked point, or its refusal. */
function outcomeOf(point: ReturnType<typeof lineOf>, numbers: NumberForm, known = schemas): string {
  const checked = checkSchema(known, point, numbers);
  return "reason" in checked
    ? `${checked.reason}: ${checked.detail}`
    : renderLine(checked).split(" ").slice(1, -1).join(" ");
}

describe("numbers of JSON", () => {
  test.each([
    [{ starts: 5 }, "starts=5i"],
    [{ starts: 5.0, pulses: 7, flow_l_min: 1 }, "flow_l_min=1,pulses=7u,starts=5i"],
    [{ starts: -0 }, "starts=0i"],
    [{ starts: { integer: "9007199254740993" } }, "starts=9007199254740993i"],
    [{ pulses: { unsigned: "18446744073709551615" } }, "pulses=18446744073709551615u"],
    [{ ok: false, note: "x" }, 'note="x",ok=false'],
  ])("%j is %s", (fields, line) => {
    expect(outcomeOf(eventOf(fields), "json")).toBe(line);
  });

  test.each([
    [
      { starts: 5.5 },
      'wrong_type: fields.starts: must be a whole number, beyond 2^53 as {"integer":"…"} (type integer in the schema); got 5.5',
    ],
    [{ starts: 1e300 }, "wrong_type: fields.starts: "],
    [{ starts: 2 ** 53 }, "wrong_type: fields.starts: "],
    [{ pulses: -1 }, "wrong_type: fields.pulses: must be a whole number from 0"],
    [{ flow_l_min: "12" }, 'wrong_type: fields.flow_l_min: must be a number (type float in the schema); got "12"'],
    [
      { flow_l_min: { integer: 12 } },
      'wrong_type: fields.flow_l_min: must be a number (type float in the schema); got "12i"',
    ],
    [{ ok: 1 }, "wrong_type: fields.ok: must be true or false (type boolean in the schema); got 1"],
    [{ note: true }, "wrong_type: fields.note: must be a string (type string in the schema); got true"],
    [{ flow_l_min: 400.5 }, "out_of_range: fields.flow_l_min: must be from 0 to 400; got 400.5"],
    [{ starts: -1 }, 'out_of_range: fields.starts: must be at least 0; got "-1i"'],
    [{ flow: 1 }, "unknown_field: fields.flow: is not a field in the schema of pump; got 1"],
  ])("%j is refused", (fields, detail) => {
    expect(outcomeOf(eventOf(fields), "json")).toStartWith(detail);
  });

  test("an event that is too long only with the suffixes of its integers is refused", () => {
    const names = Array.from({ length: 200 }, (_, index) => `n${index}`);
    const texts = ["t0", "t1", "t2", "t3"];
    const rules = [
      ...names.map((name) => [name, { type: "integer" }]),
      ...texts.map((name) => [name, { type: "string" }]),
    ];
    const known = schemasOf(readSchema({ measurement: "m", fields: Object.fromEntries(rules) }));
    const numbers = Object.fromEntries(names.map((name) => [name, 1]));
    const eventWith = (chars: number) =>
      eventOf({ ...numbers, ...Object.fromEntries(texts.map((name) => [name, "y".repeat(chars)])) }, {}, "m");
    const empty = renderLine(eventWith(0)).length;
    const most = Math.floor((MAX_EVENT_BYTES - empty) / texts.length);
    expect(outcomeOf(eventWith(most), "json", known)).toStartWith("too_large: ");
    expect(outcomeOf(eventWith(most - names.length / texts.length), "json", known)).toStartWith("n0=1i,");
  });

  test("the checked point is another one; the given one is as it was", () => {
    const point = eventOf({ starts: 5 });
    checkSchema(schemas, point, "json");
    expect(renderLine(point)).toContain(" starts=5 ");
  });
});

describe("lines", () => {
  test.each([
    [
      "pump,source=p flow_l_min=5,starts=5i,pulses=5u,ok=t 1764489600000000000",
      "flow_l_min=5,ok=true,pulses=5u,starts=5i",
    ],
    ["pump starts=9223372036854775807i 1764489600000000000", "starts=9223372036854775807i"],
  ])("%s is valid", (line, fields) => {
    expect(outcomeOf(lineOf(line), "line")).toBe(fields);
  });

  test.each([
    ["pump starts=5", "wrong_type: fields.starts: must be an integer, such as 5i (type integer in the schema); got 5"],
    [
      "pump flow_l_min=5i",
      'wrong_type: fields.flow_l_min: must be a float, such as 5 or 5.5 (type float in the schema); got "5i"',
    ],
    ["pump flow_l_min=-.5", "out_of_range: fields.flow_l_min: must be from 0 to 400; got -0.5"],
    ["pump pressure_bar=1e3", "out_of_range: fields.pressure_bar: must be from -1 to 16; got 1000"],
    [
      "pump starts=-9223372036854775808i",
      'out_of_range: fields.starts: must be at least 0; got "-9223372036854775808i"',
    ],
    ["pump,site=west ok=t", 'bad_tag: tags.site: must be one of north, south; got "west"'],
    ["pump,host=a ok=t", 'bad_tag: tags.host: is not a tag in the schema of pump; got "a"'],
  ])("%s is refused", (line, detail) => {
    expect(outcomeOf(lineOf(line), "line")).toBe(detail);
  });

  test("bounds hold beyond 2^53 too", () => {
    const most = Number.MAX_SAFE_INTEGER;
    const known = schemasOf(readSchema({ measurement: "m", fields: { a: { type: "unsigned", maximum: most } } }));
    expect(outcomeOf(lineOf(`m a=${most}u`), "line", known)).toBe(`a=${most}u`);
    expect(outcomeOf(lineOf(`m a=${BigInt(most) + 1n}u`), "line", known)).toStartWith("out_of_range");
    expect(outcomeOf(lineOf("m a=18446744073709551615u"), "line", known)).toStartWith("out_of_range");
  });
});

test("a tag without enum has any value; source is always allowed; without tags every tag is", () => {
  expect(outcomeOf(eventOf({ ok: true }, { line: "7", site: "north" }), "json")).toBe("ok=true");
  const open = schemasOf(readSchema({ measurement: "m", fields: { a: { type: "float" } } }));
  expect(outcomeOf(lineOf("m,x=1,y=2 a=1"), "line", open)).toBe("a=1");
});

test("additionalFields: true leaves other fields as they are", () => {
  const open = schemasOf(readSchema({ measurement: "m", fields: { a: { type: "integer" } }, additionalFields: true }));
  expect(outcomeOf(eventOf({ a: 1, b: 2, c: "x" }, {}, "m"), "json", open)).toBe('a=1i,b=2,c="x"');
});

test("a measurement without a schema is accepted or refused by the setting", () => {
  const point = eventOf({ x: 1 }, {}, "fan");
  expect(checkSchema(schemas, point, "json")).toBe(point);
  const strict = { ...schemas, unknownMeasurements: "refuse" } as const;
  expect(outcomeOf(point, "json", strict)).toBe('unknown_measurement: measurement: must have a schema; got "fan"');
});

describe("a schema's form", () => {
  const fields = { a: { type: "float" } };
  test.each([
    [null, "schema: must be a mapping; got null"],
    [{ fields }, "measurement: must be a name; got nothing"],
    [{ measurement: "conveyor_telemetry", fields }, "measurement: has fixed rules (version 1)"],
    [{ measurement: "m" }, "fields: must be a mapping of names; got nothing"],
    [{ measurement: "m", fields: {} }, "fields: must have 1 to 256 names; got 0"],
    [{ measurement: "m", fields, filds: 1 }, 'schema: "filds" is not one of'],
    [{ measurement: "m", fields: { a: { type: "number" } } }, "fields.a.type: must be one of float, integer"],
    [{ measurement: "m", fields: { a: { typ: "float" } } }, 'fields.a: "typ" is not one of'],
    [
      { measurement: "m", fields: { a: { type: "float", minimum: 2, maximum: 1 } } },
      "fields.a: minimum must not be above",
    ],
    [{ measurement: "m", fields: { a: { type: "float", maximum: Infinity } } }, "fields.a.maximum: must be a number"],
    [
      { measurement: "m", fields: { a: { type: "integer", minimum: 0.5 } } },
      "fields.a.minimum: must be a whole number",
    ],
    [{ measurement: "m", fields: { a: { type: "integer", maximum: 2 ** 60 } } }, "fields.a.maximum: must be a whole"],
    [
      { measurement: "m", fields: { a: { type: "string", minimum: 1 } } },
      "fields.a.minimum: only numbers have a range",
    ],
    [{ measurement: "m", fields, additionalFields: "no" }, "additionalFields: must be true or false"],
    [{ measurement: "m", fields, tags: ["a"] }, "tags: must be a mapping of names"],
    [{ measurement: "m", fields, tags: { a: { enum: [1] } } }, "tags.a.enum: must be a list of 1 to 1000 texts"],
    [{ measurement: "m", fields: { a: { type: "float", unit: "" } } }, "fields.a.unit: must be text of 1 to 32"],
  ])("%j is faulty", (document, detail) => {
    expect(() => readSchema(document)).toThrow(detail);
  });
});
