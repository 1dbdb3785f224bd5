/** The comparison finds every kind of difference: without that, the tests of senders could not fail. */
import { describe, expect, test } from "bun:test";
import { allEqual, KnownPoints, type KnownValue, PointComparison, type StoredRow } from "./known-points.ts";

const points = new KnownPoints({ measurement: "pump", count: 60, startMs: 1_700_000_000_000 });

/** The rows that InfluxDB has when everything is stored. */
function storedRows(): StoredRow[] {
  return Array.from({ length: points.count }, (_, index) => {
    const { tags, fields, timeNs } = points.at(index);
    const columns: Record<string, KnownValue> = { ...fields };
    for (const [key, text] of Object.entries(tags)) columns[key] = { type: "string", text };
    return { timeNs, columns };
  });
}

function compare(rows: readonly StoredRow[]) {
  const comparison = new PointComparison(points);
  for (const row of rows) comparison.add(row);
  return comparison.result();
}

const changed = (index: number, name: string, value: KnownValue | undefined): StoredRow[] =>
  storedRows().map((row, place) => {
    if (place !== index) return row;
    const { [name]: _, ...others } = row.columns;
    return { ...row, columns: value ? { ...others, [name]: value } : others };
  });

describe("comparison of known points", () => {
  test("all stored as sent", () => expect(compare(storedRows())).toEqual(allEqual(points)));

  test("a float in another notation is equal", () => {
    const { text } = points.at(8).fields.flow_l_min!;
    const same = changed(8, "flow_l_min", { type: "double", text: Number(text).toExponential() });
    expect(compare(same)).toEqual(allEqual(points));
  });

  test("a missing row", () => {
    expect(compare(storedRows().slice(1))).toMatchObject({ equal: 59, missing: 1, differentCount: 0 });
  });

  test("a row twice", () => {
    const rows = storedRows();
    expect(compare([...rows, rows[3]!])).toMatchObject({ equal: 60, repeated: 1 });
  });

  test.each<[string, number, string, KnownValue | undefined]>([
    ["an integer that was rounded to a double's precision", 0, "total", { type: "long", text: "9007199254740992" }],
    ["an integer as a float", 5, "total", { type: "double", text: "9007199254740998" }],
    ["another float", 5, "flow_l_min", { type: "double", text: "1" }],
    ["another string", 5, "note", { type: "string", text: "" }],
    ["another boolean", 5, "running", { type: "boolean", text: "false" }],
    ["a field that is not there", 5, "pressure_bar", undefined],
    ["a tag that is not there", 5, "site", undefined],
    ["another tag value", 5, "unit", { type: "string", text: "pump-6" }],
    ["a column that was not sent", 5, "host", { type: "string", text: "x" }],
  ])("%s", (_, index, name, value) => {
    const result = compare(changed(index, name, value));
    expect(result).toMatchObject({ equal: 59, missing: 0, repeated: 0, differentCount: 1 });
    expect(result.different[0]).toStartWith(`point ${index}: `);
  });

  test("another time", () => {
    const rows = storedRows();
    rows[7] = { ...rows[7]!, timeNs: `${rows[7]!.timeNs.slice(0, -1)}1` };
    expect(compare(rows)).toMatchObject({ equal: 59, differentCount: 1 });
  });

  test("a row of no known point", () => {
    const foreign = changed(59, "n", { type: "long", text: "60" });
    expect(compare(foreign)).toMatchObject({ equal: 59, missing: 1, differentCount: 1 });
  });
});

test("lines and messages", () => {
  expect(points.line(1)).toBe(
    'pump,site=hall\\ 1,unit=pump-1 flow_l_min=234.875,pressure_bar=0.14285714285714285,running=true,note="\\"Grüße\\", \\\\1 = ok",n=1i,total=9007199254740994i 1700000000000000000',
  );
  const floats = new KnownPoints({
    measurement: "pump",
    count: 60,
    startMs: 1_700_000_000_000,
    unitTag: "source",
    numbers: "floats",
  });
  expect(floats.at(1).tags).toEqual({ site: "hall 1", source: "pump-1" });
  expect(floats.at(1).fields.n).toEqual({ type: "double", text: "1" });
  expect(floats.at(1).fields.total).toBeUndefined();
  const { topic, payload } = floats.message(21);
  expect(topic).toBe("plants/hall 1/pump-1");
  expect(JSON.parse(payload)).toEqual({
    time: 1_700_000_000_001,
    flow_l_min: 120 + ((21 * 7919) % 1000) / 8,
    pressure_bar: 3,
    running: false,
    note: '"Grüße", \\1 = ok',
    n: 21,
  });
});
