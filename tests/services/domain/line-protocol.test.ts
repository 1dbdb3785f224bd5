import { describe, expect, test } from "bun:test";
import { MAX_EVENT_BYTES, type Reason } from "../../../services/domain/event.ts";
import {
  canonicalTimeMs,
  checkPoint,
  type FieldValue,
  isComment,
  type Point,
  type Precision,
  parseLine,
  renderLine,
  seriesOf,
} from "../../../services/domain/line-protocol.ts";

const NOW_MS = 1_764_489_600_000;
const NOW_NS = "1764489600000000000";

/** Numbers that repeat. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state / 4_294_967_296;
  };
}

/** Characters that have a meaning in a line, and ones of 1 to 4 bytes. */
const NAME_CHARACTERS = [..."ab09.-/:,= \"'#ä€😀\ufffd"];
const VALUE_CHARACTERS = [...NAME_CHARACTERS, "\\"];
const STRING_CHARACTERS = [...VALUE_CHARACTERS, "\t", "\u0001"];

function* randomPoints(count: number, seed: number): Generator<Point> {
  const random = randomFrom(seed);
  const whole = (below: number) => Math.floor(random() * below);
  const text = (characters: string[], least: number, most: number) =>
    Array.from({ length: least + whole(most - least + 1) }, () => characters[whole(characters.length)]).join("");
  const name = () => `n${text(NAME_CHARACTERS, 0, 12)}`;
  const big = (bits: number) => BigInt(Math.floor(random() * 2 ** 32)) << BigInt(whole(bits - 32));
  const value = (): FieldValue => {
    switch (whole(5)) {
      case 0:
        return { type: "float", text: String((random() - 0.5) * 10 ** (whole(600) - 300)) };
      case 1:
        return { type: "integer", text: String(random() < 0.5 ? -big(62) : big(62)) };
      case 2:
        return { type: "unsigned", text: String(big(63)) };
      case 3:
        return { type: "boolean", text: String(random() < 0.5) };
      default:
        return { type: "string", text: text(STRING_CHARACTERS, 0, 20) };
    }
  };
  const map = <V>(most: number, least: number, entry: () => [string, V]) =>
    new Map(Array.from({ length: least + whole(most - least + 1) }, entry));
  for (let index = 0; index < count; index++) {
    yield {
      measurement: name(),
      // A tag's value must not end with a backslash.
      tags: map(4, 0, () => [name(), `${text(VALUE_CHARACTERS, 0, 12)}.`]),
      fields: map(5, 1, () => [name(), value()]),
      timeNs: `${1 + whole(3)}${String(whole(1e9)).padStart(9, "0")}${String(whole(1e9)).padStart(9, "0")}`,
    };
  }
}

const parsed = (line: string, precision: Precision = "ns"): Point => {
  const { point, refusal } = parseLine(line, precision, NOW_MS);
  if (!point) throw new Error(`refused: ${refusal.detail}; ${JSON.stringify(line)}`);
  return point;
};

describe("parseLine and renderLine", () => {
  test("keep every part of 5,000 random points", () => {
    for (const point of randomPoints(5000, 7)) {
      expect(checkPoint(point)).toBeUndefined();
      expect(parsed(renderLine(point))).toEqual(point);
    }
  });

  test("a rendered line does not change when it is rendered again, whatever order it came in", () => {
    for (const point of randomPoints(2000, 8)) {
      const line = renderLine(point);
      expect(renderLine(parsed(line))).toBe(line);
      const reversed = {
        ...point,
        tags: new Map([...point.tags].reverse()),
        fields: new Map([...point.fields].reverse()),
      };
      expect(renderLine(reversed)).toBe(line);
      expect(line.startsWith(`${seriesOf(point)} `)).toBe(true);
    }
  });

  test("never throws, and a line that it takes is stable, for 20,000 damaged lines", () => {
    const random = randomFrom(9);
    const characters = [...VALUE_CHARACTERS, "\n", "i", "u", "t", "e", "1"];
    let taken = 0;
    for (const point of randomPoints(10_000, 10)) {
      let line = renderLine(point);
      for (let change = 0; change < 3; change++) {
        const at = Math.floor(random() * line.length);
        const more = characters[Math.floor(random() * characters.length)]!;
        line = line.slice(0, at) + (random() < 0.5 ? more : "") + line.slice(at + (random() < 0.5 ? 1 : 0));
      }
      const { point: read, refusal } = parseLine(line, "ns", NOW_MS);
      if (refusal) expect(refusal.detail).toMatch(/^[^\n]+: must [^\n]+; got [^\n]+$/);
      else {
        taken++;
        expect(renderLine(parsed(renderLine(read)))).toBe(renderLine(read));
      }
    }
    expect(taken).toBeGreaterThan(1000);
    expect(taken).toBeLessThan(9000);
  });

  test("read a line as InfluxDB's documentation writes it", () => {
    const point = parsed(
      String.raw`my\ m\,x,tag\ key=a\ b\=c,p=C:\Windows fieldKey="a \"b\" \\ \n",i=-5i,u=7u,f=1.5e+3,b=T 1556813561098000000`,
    );
    expect(point.measurement).toBe("my m,x");
    expect([...point.tags]).toEqual([
      ["tag key", "a b=c"],
      ["p", String.raw`C:\Windows`],
    ]);
    expect([...point.fields]).toEqual([
      ["fieldKey", { type: "string", text: String.raw`a "b" \ \n` }],
      ["i", { type: "integer", text: "-5" }],
      ["u", { type: "unsigned", text: "7" }],
      ["f", { type: "float", text: "1.5e+3" }],
      ["b", { type: "boolean", text: "true" }],
    ]);
    expect(point.timeNs).toBe("1556813561098000000");
    expect(renderLine(point)).toBe(
      String.raw`my\ m\,x,p=C:\Windows,tag\ key=a\ b\=c b=true,f=1.5e+3,fieldKey="a \"b\" \\ \\n",i=-5i,u=7u 1556813561098000000`,
    );
  });

  test("blanks around the parts and a line break at the end mean nothing", () => {
    const line = `  m,a=b \t x=1,y="a  b"   ${NOW_NS}  \r`;
    expect(renderLine(parsed(line))).toBe(`m,a=b x=1,y="a  b" ${NOW_NS}`);
  });

  test.each([
    ["s", "1764489600", "1764489600000000000"],
    ["ms", "1764489600123", "1764489600123000000"],
    ["us", "1764489600123456", "1764489600123456000"],
    ["ns", "1764489600123456789", "1764489600123456789"],
    ["ms", "", NOW_NS],
  ] as const)("a time of precision %s: %s is %s", (precision, time, ns) => {
    expect(parsed(`m x=1 ${time}`, precision).timeNs).toBe(ns);
  });

  test("a comment is no line", () => {
    expect(["# x=1", "  #", "#"].every(isComment)).toBe(true);
    expect(isComment("m,a=# x=1")).toBe(false);
  });
});

const many = (count: number, text: (index: number) => string) =>
  Array.from({ length: count }, (_, i) => text(i)).join();

/** Each kind of invalid line, its reason, and the field that the message names. */
const faults: [name: string, line: string, reason: Reason, field: string][] = [
  ["nothing", "", "malformed_line", "line"],
  ["JSON", '{"v":1}', "malformed_line", "line"],
  ["no fields", "m,a=b", "malformed_line", "line"],
  ["only a time", `m ${NOW_NS}`, "malformed_line", "line"],
  ["a field without value", "m x", "malformed_line", "line"],
  ["a tag without value", "m,a x=1", "malformed_line", "line"],
  ["a tag with two equals signs", "m,a=b=c x=1", "malformed_line", "line"],
  ["a string without end", 'm x="a', "malformed_line", "line"],
  ["text after a string", 'm x="a"b', "malformed_line", "line"],
  ["a comma at the end of the fields", "m x=1, 5", "malformed_line", "line"],
  ["no measurement", ",a=b x=1", "bad_measurement", "measurement"],
  ["the measurement of version 1", "conveyor_telemetry,conveyor=a x=1", "bad_measurement", "measurement"],
  ["a measurement of the database", "_m x=1", "bad_measurement", "measurement"],
  ["a measurement with a backslash", String.raw`a\b x=1`, "bad_measurement", "measurement"],
  ["a measurement with a control character", "a\u0007b x=1", "bad_measurement", "measurement"],
  ["a measurement that begins with a byte order mark", "\ufeffm x=1", "bad_measurement", "measurement"],
  ["a measurement of 129 bytes", `${"m".repeat(129)} x=1`, "bad_measurement", "measurement"],
  ["a comment", "# x=1", "bad_measurement", "measurement"],
  ["a measurement that begins as JSON", "{m x=1", "bad_measurement", "measurement"],
  ["a measurement that begins with a bracket", "[m,a=b x=1", "bad_measurement", "measurement"],
  ["a measurement in quotes", '"m" x=1', "bad_measurement", "measurement"],
  ["an empty tag", "m,a= x=1", "bad_tag", "tags.a"],
  ["a tag without key", "m,=b x=1", "bad_tag", "tags"],
  ["a tag named time", "m,time=b x=1", "bad_tag", "tags"],
  ["a tag named _field", "m,_field=b x=1", "bad_tag", "tags"],
  ["a tag twice", "m,a=b,a=c x=1", "bad_tag", "tags"],
  ["a tag that ends with a backslash", "m,a=b\\", "malformed_line", "line"],
  ["a long tag", `m,a=${"ä".repeat(129)} x=1`, "bad_tag", "tags.a"],
  ["33 tags", `m,${many(33, (index) => `t${index}=1`)} x=1`, "bad_tag", "tags"],
  ["a tag with half a character", "m,a=\ud800. x=1", "bad_tag", "tags.a"],
  ["a field twice", "m x=1,x=2", "bad_field", "fields"],
  ["a field without key", "m =1", "bad_field", "fields"],
  ["a field named time", "m time=1", "bad_field", "fields"],
  ["257 fields", `m ${many(257, (index) => `f${index}=1`)}`, "bad_field", "fields"],
  ["a word without quotes", "m x=running", "bad_field", "fields.x"],
  ["NaN", "m x=NaN", "bad_field", "fields.x"],
  ["a point alone", "m x=.", "bad_field", "fields.x"],
  ["a hexadecimal number", "m x=0x10", "bad_field", "fields.x"],
  ["a number beyond a double", "m x=1e999", "bad_field", "fields.x"],
  ["a fraction as integer", "m x=1.5i", "bad_field", "fields.x"],
  ["an integer beyond 64 bits", "m x=9223372036854775808i", "bad_field", "fields.x"],
  ["a negative unsigned", "m x=-1u", "bad_field", "fields.x"],
  ["an unsigned beyond 64 bits", "m x=18446744073709551616u", "bad_field", "fields.x"],
  ["a string of 4,097 bytes", `m x="${"a".repeat(4097)}"`, "bad_field", "fields.x"],
  ["a string with NUL", 'm x="\0"', "bad_field", "fields.x"],
  ["a string with a line break", 'm x="a\nb"', "bad_field", "fields.x"],
  ["a string with a carriage return", 'm x="a\rb"', "bad_field", "fields.x"],
  ["milliseconds as nanoseconds", `m x=1 ${NOW_MS}`, "bad_timestamp", "time"],
  ["a negative time", "m x=1 -5", "bad_timestamp", "time"],
  ["a time with a fraction", `m x=1 ${NOW_NS}.5`, "bad_timestamp", "time"],
  ["two times", `m x=1 ${NOW_NS} ${NOW_NS}`, "bad_timestamp", "time"],
  ["a line beyond 16 KiB", `m ${many(5, (index) => `f${index}="${"a".repeat(4000)}"`)}`, "too_large", "line"],
];

describe("parseLine", () => {
  for (const [name, line, reason, field] of faults) {
    test(`refuses ${name}: ${reason}`, () => {
      const { point, refusal } = parseLine(line, "ns", NOW_MS);
      expect(point).toBeUndefined();
      expect(refusal).toMatchObject({ reason, field });
      expect(refusal?.detail).toMatch(new RegExp(`^${field}: must .+; got .+`));
    });
  }

  test("accepts every limit itself", () => {
    const tags = many(32, (index) => `t${index}=${"v".repeat(256)}`);
    expect(parsed(`${"m".repeat(128)},${tags} ${"k".repeat(128)}=1`).tags.size).toBe(32);
    expect(parsed(`m ${many(256, (index) => `f${index}=1`)}`).fields.size).toBe(256);
    const line =
      'm i=-9223372036854775808i,j=9223372036854775807i,u=18446744073709551615u,f=1.7e308,g=.5,h=1.,s="a\tb"';
    expect(renderLine(parsed(line)).length).toBe(line.length + 20);
    expect(parsed(`m x="${"a".repeat(4096)}"`).fields.get("x")!.text.length).toBe(4096);
  });

  test("takes no line that is longer than an event when it is rendered", () => {
    // Each space of a tag is escaped: the line grows when it is rendered from JSON or with "true" instead of "t".
    const tags = new Map(Array.from({ length: 32 }, (_, index) => [`t${index}`, `${" ".repeat(255)}.`]));
    const point = {
      measurement: "m",
      tags,
      fields: new Map([["x", { type: "float", text: "1" } as const]]),
      timeNs: NOW_NS,
    };
    expect(renderLine(point).length).toBeGreaterThan(MAX_EVENT_BYTES);
    expect(checkPoint(point)).toMatchObject({ reason: "too_large", field: "line" });
  });
});

describe("canonicalTimeMs", () => {
  const line = `pump,site=north,source=pump-7 flow_l_min=121.5,note="a b",ok=true,starts=5i,total=7u ${NOW_NS}`;

  /** Accepted, checked against parseLine() and renderLine(). */
  const accepts = (text: string): boolean => {
    const ms = canonicalTimeMs(text);
    if (ms === undefined) return false;
    const point = parsed(text);
    expect(renderLine(point)).toBe(text);
    expect(String(ms)).toBe(point.timeNs.slice(0, 13));
    return true;
  };

  test("accepts a usual line and its forms", () => {
    expect(canonicalTimeMs(line)).toBe(NOW_MS);
    const forms = [
      String.raw`m,path=C:\Windows\x,z=a\\,b x="a \"b\" \\" ${NOW_NS}`,

      `m x=1 ${NOW_NS}`,
      String.raw`m,a=b\ c\,d\=e x=-1.25 ${NOW_NS}`,
      `m x="",y=f ${NOW_NS}`.replace("f", "false"),
    ];
    for (const form of forms) expect(accepts(form)).toBe(true);
  });

  test("accepts only what parseLine() takes and renderLine() returns: random and damaged lines", () => {
    const random = randomFrom(11);
    const characters = [...`ab=, \\"i.-0u_#\n\u0001ä\ufffdt1`];
    let accepted = 0;
    for (const point of randomPoints(5000, 12)) accepts(renderLine(point));
    for (let index = 0; index < 30_000; index++) {
      const at = Math.floor(random() * line.length);
      const more = characters[Math.floor(random() * characters.length)]!;
      const isInserted = random() < 0.5;
      if (accepts(line.slice(0, at) + more + line.slice(at + (isInserted ? 0 : 1)))) accepted++;
    }
    expect(accepted).toBeGreaterThan(3000);
  });

  test("accepts nothing that parseLine() refuses, and no other form of a point", () => {
    for (const [, text, reason] of faults) {
      expect(canonicalTimeMs(text)).toBeUndefined();
      if (reason === "bad_timestamp") continue;
      expect(canonicalTimeMs(text.replace(/ \d*$/, "").concat(` ${NOW_NS}`))).toBeUndefined();
    }
    for (const form of ["m,b=1,a=1 x=1", "m,a=1 y=1,x=1", "m x=t", "m x=1 ", " m x=1", "m  x=1", "m,a=1,a=2 x=1"]) {
      expect(canonicalTimeMs(`${form} ${NOW_NS}`)).toBeUndefined();
    }
  });

  test("accepts the limits and nothing above them", () => {
    const limits: [least: (size: number) => string, size: number][] = [
      [(size) => `${"m".repeat(size)} x=1`, 128],
      [(size) => `m ${"k".repeat(size)}=1`, 128],
      [(size) => `m,a=${"v".repeat(size)} x=1`, 256],
      [(size) => `m x="${"v".repeat(size)}"`, 4096],
    ];
    for (const [text, size] of limits) {
      expect(accepts(`${text(size)} ${NOW_NS}`)).toBe(true);
      expect(canonicalTimeMs(`${text(size + 1)} ${NOW_NS}`)).toBeUndefined();
    }
    const keys = (size: number) => Array.from({ length: size }, (_, index) => `k${1000 + index}=1`).join();
    expect(accepts(`m,${keys(32)} ${keys(256)} ${NOW_NS}`)).toBe(true);
    expect(canonicalTimeMs(`m,${keys(33)} x=1 ${NOW_NS}`)).toBeUndefined();
    expect(canonicalTimeMs(`m ${keys(257)} ${NOW_NS}`)).toBeUndefined();
  });
});
