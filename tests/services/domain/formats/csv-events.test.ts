import { describe, expect, test } from "bun:test";
import { ContentRun, CsvEvents } from "../../../../services/domain/formats/csv-events.ts";
import {
  type CsvSettingTexts,
  csvSettings,
  mergedSettings,
  settingsIn,
} from "../../../../services/domain/formats/csv-settings.ts";

const PUMP = { measurement: "pump", source: "pump-7" };

function convert(text: string, texts: CsvSettingTexts = PUMP, size = text.length, settings = csvSettings(texts)) {
  const events = new CsvEvents(settings, text, true, "r1");
  const lines: string[] = [];
  for (let from = 0; from < text.length; from += Math.max(1, size))
    lines.push(...events.push(text.slice(from, from + size)));
  lines.push(...events.end());
  // biome-ignore lint/suspicious/noExplicitAny: documents of many forms
  return { events, lines, json: lines.map((line) => JSON.parse(line) as any) };
}

const T0 = Date.parse("2026-03-01T10:34:32Z");

describe("a table", () => {
  test("as exported on a German workstation: semicolons, decimal comma, local time, gaps", () => {
    const text = [
      "Zeit;Anlage;Druck [bar];Temperatur (°C);Meldung;Läuft",
      '01.03.2026 11:34:32;halle 1;1,25;;"Filter; Vorlauf";true',
      "01.03.2026 11:34:33;halle 1;-0,5;48,20;;false",
      "01.03.2026 11:34:34;;;NaN;;",
      "01.03.2026 11:34:35;halle 2;2;49;ok;true",
    ].join("\r\n");
    const settings = {
      ...PUMP,
      time: "Zeit",
      "time-format": "DD.MM.YYYY HH:mm:ss",
      "time-zone": "Europe/Berlin",
      tag: ["site=Anlage"],
      field: ["bar=Druck [bar]", "temp_c=Temperatur (°C):float", "Meldung", "Läuft"],
    };
    for (const size of [1, 17, text.length]) {
      const { events, json } = convert(text, settings, size);
      expect(json).toEqual([
        {
          v: 2,
          measurement: "pump",
          source: "pump-7",
          run: "r1",
          seq: 0,
          time: T0,
          precision: "ms",
          tags: { site: "halle 1" },
          fields: { bar: 1.25, Meldung: "Filter; Vorlauf", Läuft: true },
        },
        {
          v: 2,
          measurement: "pump",
          source: "pump-7",
          run: "r1",
          seq: 1,
          time: T0 + 1000,
          precision: "ms",
          tags: { site: "halle 1" },
          fields: { bar: -0.5, temp_c: 48.2, Läuft: false },
        },
        {
          v: 2,
          measurement: "pump",
          source: "pump-7",
          run: "r1",
          seq: 3,
          time: T0 + 3000,
          precision: "ms",
          tags: { site: "halle 2" },
          fields: { bar: 2, temp_c: 49, Meldung: "ok", Läuft: true },
        },
      ]);
      expect(events.emptyRows).toBe(1);
    }
  });

  test("with the usual names needs no more than its measurement; seq counts the rows of a source", () => {
    const { events, json } = convert("time,source,flow\n1764489600,a,1\n1764489600,b,2\n1764489601,a,3\n", {
      measurement: "pump",
    });
    expect(json.map(({ source, seq }) => [source, seq])).toEqual([
      ["a", 0],
      ["b", 0],
      ["a", 1],
    ]);
    expect(events.description).toContain('delimiter ",", decimal ".", time time (s), source of column source');
  });

  test("Excel's line before the header, a byte order mark, date and time in two columns", () => {
    const { json } = convert("\ufeffsep=|\r\nDate|Time|v\r\n2026-03-01|10:34:32|1\r\n", {
      ...PUMP,
      time: "Date,Time",
      "time-zone": "UTC",
    });
    expect(json).toMatchObject([{ time: T0, fields: { v: 1 } }]);
  });

  test("without a header", () => {
    const { json } = convert(`${T0},1.5\n${T0 + 1},2.5\n`, { ...PUMP, columns: "time,flow" });
    expect(json.map(({ fields }) => fields)).toEqual([{ flow: 1.5 }, { flow: 2.5 }]);
  });

  test("digits stay as they were written, where JSON has them", () => {
    const { lines } = convert(`time,a,b,c\n${T0},1.50,+.5,007\n`);
    expect(lines[0]).toEndWith('"fields":{"a":1.50,"b":0.5,"c":7}}');
  });

  test("whole numbers, unsigned ones, booleans and texts by their type", () => {
    const { json } = convert(`time,i,u,b,s\n${T0},+9007199254740993,18446744073709551615,1, 7 \n`, {
      ...PUMP,
      field: ["i:integer", "u:unsigned", "b:boolean", "s:string"],
    });
    expect(json[0].fields).toEqual({
      i: { integer: "9007199254740993" },
      u: { unsigned: "18446744073709551615" },
      b: true,
      s: " 7 ",
    });
  });
});

describe("what cannot be read stays in the event, which is refused where events are checked", () => {
  const settings = { ...PUMP, field: ["flow:float", "n:integer", "on:boolean"] };
  test.each([
    [`${T0},12x,1,true`, { fields: { flow: { float: "12x" }, n: { integer: "1" }, on: true } }],
    [`${T0},"1,5",1,true`, { fields: { flow: { float: "1,5" } } }],
    [`${T0},1,1.5,maybe`, { fields: { n: { integer: "1.5" }, on: { boolean: "maybe" } } }],
    ["yesterday,1,2,true", { time: "yesterday" }],
    [",1,2,true", { time: "" }],
    [`${T0},1,2`, { v: 2, csv: { line: 3, rule: "must have 4 cells; got 3", cells: [String(T0), "1", "2"] } }],
  ])("%s", (row, expected) => {
    const { json } = convert(`time,flow,n,on\n${T0},1,2,true\n${row}\n`, settings);
    expect(json[1]).toMatchObject(expected);
  });
});

describe("the types of columns come from the first rows", () => {
  test.each([
    [["1", "2.5", ""], 1],
    [["true", "FALSE"], true],
    [["1", "x"], "1"],
    [["1", "true"], "1"],
    [["1,5", "2"], 1.5],
    [["1,5", "2.5"], "1,5"],
  ])("%j", (cells, first) => {
    const { json } = convert(`time;v\n${cells.map((cell) => `${T0};${cell}`).join("\n")}\n`);
    expect(json[0].fields.v).toBe(first);
  });
});

describe("a mapping that does not fit is refused with the columns", () => {
  const text = `time,flow\n${T0},1\n`;
  test.each<[string, CsvSettingTexts, string, string]>([
    [text, {}, "measurement: must be given", "time, flow"],
    [text, { measurement: "pump" }, "source: must be given", "time, flow"],
    [text, { ...PUMP, time: "Zeit" }, 'time: no column "Zeit"', "time, flow"],
    [text, { ...PUMP, tag: ["site"] }, 'tag: no column "site"', "time, flow"],
    [text, { ...PUMP, field: ["p=pressure"] }, 'field: no column "pressure"', "time, flow"],
    ["when,flow\n1,2\n", PUMP, "time: must name the column of the time", "when, flow"],
    ["time,timestamp,flow\n1,1,2\n", PUMP, "time: must name the column of the time", "timestamp"],
    ["time\n1764489600\n", PUMP, "field: no column is left", "time"],
    ["time,a,a\n1764489600,1,2\n", PUMP, 'the column "a" must occur once', "time"],
    ["time,a\n", PUMP, "at least one row", "time"],
    ["time,a\n1764489600,1,2\n", PUMP, "no row has 2 cells", "time"],
    ["1764489600,1\n1764489601,2\n", PUMP, "must be a header; got the value 1764489600", "columns must name them"],
    ["time,a\n2026-03-01 10:34:32,1\n", PUMP, "it has no time zone", "--time-zone"],
  ])("%j %j", (table, settings, message, hint) => {
    const error = (() => {
      try {
        convert(table, settings);
        return undefined;
      } catch (error) {
        return error;
      }
    })();
    expect(error).toMatchObject({ message: expect.stringContaining(message), hint: expect.stringContaining(hint) });
  });

  test.each<[string, CsvSettingTexts, string]>([
    ["a", { ...PUMP, measurement: "_x" }, 'measurement: must not begin with "_"'],
    ["a", { ...PUMP, source: "pump 7" }, "source: must be 1 to 64 of"],
    ["a", { ...PUMP, field: ["_x=a"] }, 'fields: must not begin with "_"'],
    ["a,site", { ...PUMP, tag: ["time=site"] }, 'tags: must not be "time"'],
    ["a,b", { ...PUMP, field: ["x=a", "x=b"] }, 'the name "x" must be given to one column'],
    ["a,b", { ...PUMP, tag: ["source=b"] }, 'the name "source" must be given to one column'],
    ["a".repeat(129), PUMP, "fields: must be at most 128 bytes"],
    [Array.from({ length: 257 }, (_, index) => `f${index}`).join(), PUMP, "fields: must be at most 256"],
  ])("a name that no row may have: %j %j", (columns, settings, message) => {
    const values = columns.split(",").map(() => "1");
    expect(() => convert(`t,${columns}\n${T0},${values.join()}\n`, { time: "t", ...settings })).toThrow(message);
  });

  test("a cell named like a property of every object is no boolean", () => {
    const { json } = convert(`t,ok\n${T0},constructor\n`, { ...PUMP, time: "t", field: ["ok:boolean"] });
    expect(json.map(({ fields }) => fields)).toEqual([{ ok: { boolean: "constructor" } }]);
  });

  test("a source that has too many values", () => {
    const rows = Array.from({ length: 10_001 }, (_, index) => `${T0 + index},${index}`).join("\n");
    expect(() => convert(`time,v\n${rows}\n`, { measurement: "pump", "source-column": "v", field: ["v"] })).toThrow(
      "source-column: must have at most 10000 different values",
    );
  });
});

describe("settings", () => {
  test.each<[CsvSettingTexts, string]>([
    [{ delimiter: "::" }, 'delimiter: must be one character, or one of tab, comma, semicolon, pipe, space; got "::"'],
    [{ decimal: "dot" }, 'decimal: must be comma or point; got "dot"'],
    [{ decimal: "constructor" }, 'decimal: must be comma or point; got "constructor"'],
    [{ tag: ["=x"] }, 'tag: must be COLUMN or NAME=COLUMN; got "=x"'],
    [{ field: ["a="] }, 'field: must be COLUMN or NAME=COLUMN; got "a="'],
  ])("%j", (texts, message) => expect(() => csvSettings(texts)).toThrow(message));

  test("a column may hold a colon; what follows the last one is a type only if it is one", () => {
    expect(csvSettings({ field: ["a:b", "c=d:e:float"] }).fields).toEqual([
      { name: "a:b", column: "a:b" },
      { name: "c", column: "d:e", type: "float" },
    ]);
  });

  test("of a file, with flags over it", () => {
    const file = settingsIn({
      measurement: "pump",
      source: { column: "Machine" },
      time: { column: ["Date", "Time"], format: "DD.MM.YYYY HH:mm", zone: "Europe/Berlin" },
      delimiter: "semicolon",
      decimal: "comma",
      nulls: ["-"],
      tags: { site: "Site" },
      fields: { flow: { column: "Flow (l/min)", type: "float" }, note: "Note" },
    });
    expect(file).toMatchObject({
      sourceColumn: "Machine",
      time: ["Date", "Time"],
      delimiter: ";",
      decimal: ",",
      tags: [{ name: "site", column: "Site" }],
      fields: [
        { name: "flow", column: "Flow (l/min)", type: "float" },
        { name: "note", column: "Note" },
      ],
    });
    const merged = mergedSettings(file, csvSettings({ source: "pump-7", decimal: "point" }));
    expect(merged).toMatchObject({ measurement: "pump", source: "pump-7", sourceColumn: undefined, decimal: "." });
    const list = settingsIn({ tags: ["a"], fields: ["b"], time: "t" });
    expect(list).toMatchObject({ tags: [{ name: "a", column: "a" }], fields: [{ name: "b" }], time: ["t"] });
  });

  test.each<[unknown, string]>([
    ["text", "mapping: must have the keys"],
    [
      { measurment: "pump" },
      'mapping: must have no other keys than measurement, source, time, tags, fields, delimiter, decimal, nulls, columns; got "measurment"',
    ],
    [{ measurement: 7 }, "measurement: must be a text; got 7"],
    [
      { fields: { a: { column: "b", type: "number" } } },
      'fields.a.type: must be one of float, integer, unsigned, boolean, string; got "number"',
    ],
    [{ tags: { a: 1 } }, "tags.a: must be the name of a column; got 1"],
    [{ time: { column: "a", zon: "UTC" } }, "time: must have no other keys"],
  ])("%j", (document, message) => expect(() => settingsIn(document)).toThrow(message));
});

test("the run is the same for the same text and settings, in any parts, and for no other", () => {
  const runOf = (texts: string[], settings: CsvSettingTexts) => {
    const run = new ContentRun(csvSettings(settings));
    for (const text of texts) run.update(text);
    return run.name;
  };
  const run = runOf(["time,a\n1,2\n"], PUMP);
  expect(run).toMatch(/^csv-[0-9a-f]{20}$/);
  expect(runOf(["time,", "a\n1,2\n"], PUMP)).toBe(run);
  expect(runOf(["time,a\n1,3\n"], PUMP)).not.toBe(run);
  expect(runOf(["time,a\n1,2\n"], { ...PUMP, measurement: "fan" })).not.toBe(run);
});
