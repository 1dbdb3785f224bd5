import { describe, expect, test } from "bun:test";
import { MAX_EVENT_BYTES } from "../../../../services/domain/event.ts";
import { PointLineReader } from "../../../../services/domain/formats/point-line.ts";

function linesOf(text: string, size = text.length): string[] {
  const reader = new PointLineReader("ns");
  const bytes = Buffer.from(text);
  const lines = [];
  for (let from = 0; from < bytes.length; from += size) lines.push(...reader.push(bytes.subarray(from, from + size)));
  lines.push(...reader.end());
  return lines.map((line) => Buffer.from(line.bytes).toString());
}

describe("lines", () => {
  test.each<[string, string[]]>([
    ["a v=1 1\n# comment\n\n  # other\r\nb v=2\r\n", ["a v=1 1", "b v=2"]],
    ['a v="x \\" y",w=1\nb v=2', ['a v="x \\" y",w=1', "b v=2"]],
    // The text behind a line break in a string is no point.
    ['log m="x\ncpu v=1 1\n" 1\nb v=2', ['log m="x', "b v=2"]],
    // A stray quote at the end makes one line invalid.
    ['log m="x\ncpu v=1 1\nb v=2', ['log m="x', "cpu v=1 1", "b v=2"]],
    ['a"b v=1\nc v=2', ['a"b v=1', "c v=2"]],
  ])("%j", (text, lines) => {
    for (const size of [1, 5, text.length]) expect(linesOf(text, size)).toEqual(lines);
  });

  test("a string without an end within the size of an event makes one line invalid", () => {
    const points = Array.from({ length: 4 * MAX_EVENT_BYTES }, (_, index) => `b v=${index}`);
    const lines = linesOf(`log m="x\n${points.join("\n")}`, 1000);
    expect(lines).toEqual(['log m="x', ...points]);
  });

  test("a line that is too long is known by its first bytes", () => {
    const [line, next] = linesOf(`a v="${"x".repeat(3 * MAX_EVENT_BYTES)}"\nb v=1\n`, 999);
    expect([line!.length, next]).toEqual([MAX_EVENT_BYTES + 1, "b v=1"]);
  });
});
