import { afterEach, describe, expect, spyOn, test } from "bun:test";
import { LineSplitter } from "../../../services/domain/ndjson.ts";
import { readLines } from "../../../services/producer/intake-body.ts";

const textOf = (body: string) => readLines(Buffer.from(body))?.map(({ bytes }) => Buffer.from(bytes).toString());

describe("readLines", () => {
  test.each([
    ["", []],
    [" \r\n\t", []],
    ["[]", []],
    ["[ \n]", []],
    ["{}", ["{}"]],
    ["{}\n\n 1 \r\n", ["{}", " 1 "]],
    ["\ufeff{}\n{}", ["{}", "{}"]],
    ['{\n"a": "}\\"{",\n"b": [1]\n}\n', ['{\n"a": "}\\"{",\n"b": [1]\n}']],
    ['[{"a":"],["} , [1,2],\n"x"]', ['{"a":"],["}', "[1,2]", '"x"']],
    ["[1,]", ["1", ""]],
    // Cut off, or closed by another bracket: one event.
    ["[1,\n2", ["[1,\n2"]],
    ['["a\n1\n2', ['["a\n1\n2']],
    // NDJSON, whatever its first line is.
    ["[1]\n[2]", ["[1]", "[2]"]],
    ["[1}\n{}", ["[1}", "{}"]],
    ["{bad\n{}", ["{bad", "{}"]],
    ['{"a":"b}\n{}', ['{"a":"b}', "{}"]],
    ['{"a":1} and more\n{}', ['{"a":1} and more', "{}"]],
    ['{"a":1}{"b\n{}', ['{"a":1}{"b', "{}"]],
    // Objects one after the other, on one line or over several.
    ['{"a":1}{"b":2} {"c":3}', ['{"a":1}', '{"b":2}', '{"c":3}']],
    ['{\n"a":1\n}\n{\n"b":2\n}\n', ['{\n"a":1\n}', '{\n"b":2\n}']],
    ['{\n"a":1\n}\n{"b":2}\n{"c":', ['{\n"a":1\n}', '{"b":2}', '{"c":']],
    ['{\n"a":1\n}\nno object\n{}', ['{\n"a":1\n}', "no object\n{}"]],
  ])("%j", (body, lines) => expect(textOf(body)).toEqual(lines));

  test("keeps the length of an element above 16 KiB, and the line numbers of NDJSON", () => {
    const [line] = readLines(Buffer.from(`["${"x".repeat(20_000)}"]`))!;
    expect([line!.bytes.length, line!.length]).toEqual([16_385, 20_002]);
    expect(readLines(Buffer.from("\n\n{}\n\n1"))!.map(({ number }) => number)).toEqual([3, 5]);
  });

  test("takes 10,000 events and no more", () => {
    expect(readLines(Buffer.from("1\n".repeat(10_000)))).toHaveLength(10_000);
    expect(readLines(Buffer.from("1\n".repeat(10_001)))).toBeUndefined();
    expect(readLines(Buffer.from(`[${"1,".repeat(9_999)}1]`))).toHaveLength(10_000);
    expect(readLines(Buffer.from(`[${"1,".repeat(10_000)}1]`))).toBeUndefined();
    expect(readLines(Buffer.from("{}".repeat(10_000)))).toHaveLength(10_000);
    expect(readLines(Buffer.from("{}".repeat(10_001)))).toBeUndefined();
  });

  describe("the work for 4 MiB", () => {
    const spies: { mockRestore(): void }[] = [];
    afterEach(() => {
      for (const spy of spies.splice(0)) spy.mockRestore();
    });

    test.each(["1\n", "\n"])("of the line %j ends soon after the limit", (line) => {
      let split = 0;
      const push = LineSplitter.prototype.push;
      spies.push(
        spyOn(LineSplitter.prototype, "push").mockImplementation(function* (this: LineSplitter, chunk) {
          for (const part of push.call(this, chunk)) {
            split++;
            yield part;
          }
        }),
      );
      expect(readLines(Buffer.alloc(4 * 1024 * 1024, line))).toBeUndefined();
      expect(split).toBeLessThanOrEqual(20_001);
    });

    test.each(["[[],", '{"a":'])("of %j parses no document", (start) => {
      const parse = spyOn(JSON, "parse");
      spies.push(parse);
      readLines(Buffer.alloc(4 * 1024 * 1024, start));
      expect(parse).not.toHaveBeenCalled();
    });
  });
});
