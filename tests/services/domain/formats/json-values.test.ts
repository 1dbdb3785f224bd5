import { expect, test } from "bun:test";
import { JsonLines } from "../../../../services/domain/formats/json-values.ts";

function linesOf(text: string, size = text.length): string[] {
  const splitter = new JsonLines();
  const bytes = Buffer.from(text);
  let out = "";
  for (let from = 0; from < bytes.length; from += Math.max(1, size)) {
    out += Buffer.from(splitter.push(bytes.subarray(from, from + size))).toString("latin1");
  }
  out += Buffer.from(splitter.end()).toString("latin1");
  return Buffer.from(out, "latin1").toString().split("\n").slice(0, -1);
}

test.each<[string, string[]]>([
  ["", []],
  ["[]", []],
  ["[ ]\n[\n]", []],
  ['{"a": [1, {"b": "x]}"}]}', ['{"a":[1,{"b":"x]}"}]}']],
  ['[{"a":1},{"a":2}]', ['{"a":1}', '{"a":2}']],
  ['\ufeff[ {"a":\n1}\n,\n{"a":2}\n]\n', ['{"a":1}', '{"a":2}']],
  ['{"a":1}{"a":2}', ['{"a":1}', '{"a":2}']],
  ['[{"a":1}] [{"a":2}]', ['{"a":1}', '{"a":2}']],
  ['{"a b":"c  d\\"\\\\"}', ['{"a b":"c  d\\"\\\\"}']],
  ['[1, "two", null, [3]]', ["1", '"two"', "null", "[3]"]],
  // What is no JSON stays a line that no check takes.
  ['[{"a":1},{"b":', ['{"a":1}', '{"b":']],
  ['{"a":1}}{"b":2}', ['{"a":1}', "}", '{"b":2}']],
  ['{"a":"x\n}{"b":2}', ['{"a":"x}', '{"b":2}']],
  ["[1,\u0001]", ["1", "\u0001"]],
])("%j", (text, lines) => {
  for (const size of [1, 3, text.length]) expect(linesOf(text, size)).toEqual(lines);
});

test("any document, in any form, has the values that JSON.parse finds", () => {
  let state = 11;
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const value = (depth: number): unknown => {
    const kind = random(depth > 3 ? 4 : 6);
    if (kind === 0) return random(2000) / 7;
    if (kind === 1) return String.fromCodePoint(...Array.from({ length: random(9) }, () => 32 + random(1200)));
    if (kind === 2) return random(2) === 0;
    if (kind === 3) return 'quote " backslash \\ bracket ]} comma ,';
    const entries = Array.from({ length: random(4) }, (_, index) => [`k ${index}`, value(depth + 1)] as const);
    return kind === 4 ? entries.map(([, one]) => one) : Object.fromEntries(entries);
  };
  for (let round = 0; round < 500; round++) {
    const values = Array.from({ length: random(5) }, () => ({ id: round, content: value(0) }));
    const indent = random(3);
    const text =
      random(2) === 0
        ? JSON.stringify(values, null, indent)
        : values.map((one) => JSON.stringify(one, null, indent)).join("\r\n");
    expect(linesOf(text, 1 + random(50)).map((line) => JSON.parse(line))).toEqual(values as never);
  }
});
