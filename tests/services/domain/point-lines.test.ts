import { describe, expect, test } from "bun:test";
import { MAX_EVENT_BYTES } from "../../../services/domain/event.ts";
import { renderLine } from "../../../services/domain/line-protocol.ts";
import { pointLines } from "../../../services/domain/point-lines.ts";

const linesOf = (text: string) =>
  [...pointLines(Buffer.from(text))].map(({ number, bytes }) => [number, Buffer.from(bytes).toString()]);
const NOW_MS = 1_764_489_600_000;

describe("pointLines", () => {
  test.each([
    ["nothing", "", []],
    ["blank lines and comments", "\n \t\r\n# one\n  # two a=1\n", []],
    [
      "lines with and without an end",
      "a b=1\nc d=2",
      [
        [1, "a b=1"],
        [2, "c d=2"],
      ],
    ],
    [
      "CRLF",
      "a b=1\r\n\r\nc d=2\r\n",
      [
        [1, "a b=1"],
        [3, "c d=2"],
      ],
    ],
    [
      "a string with line breaks",
      'a b="1\n\n2",c=3\nd e=4',
      [
        [1, 'a b="1\n\n2",c=3'],
        [4, "d e=4"],
      ],
    ],
    [
      "a string with an escaped quote",
      'a b="1\\"\n2" 5\nd e=4',
      [
        [1, 'a b="1\\"\n2" 5'],
        [3, "d e=4"],
      ],
    ],
    [
      "a string that ends with a backslash",
      'a b="1\\\\"\nd e=4',
      [
        [1, 'a b="1\\\\"'],
        [2, "d e=4"],
      ],
    ],
    [
      "a quote in a name or a tag opens no string",
      'a"b,t="x c=1\nd e=4',
      [
        [1, 'a"b,t="x c=1'],
        [2, "d e=4"],
      ],
    ],
    [
      "an escaped space belongs to the name",
      'a\\ =",t=1 c=1\nd e=4',
      [
        [1, 'a\\ =",t=1 c=1'],
        [2, "d e=4"],
      ],
    ],
    [
      "a quote within an unquoted value opens no string",
      'a b=1"\nd e=4',
      [
        [1, 'a b=1"'],
        [2, "d e=4"],
      ],
    ],
    [
      "blanks before a name",
      ' \ta,t="x c=1\nd e=4',
      [
        [1, ' \ta,t="x c=1'],
        [2, "d e=4"],
      ],
    ],
    ["a string without an end: what follows is no point", 'a b="1\nc d=2\ne f=3', [[1, 'a b="1\nc d=2\ne f=3']]],
  ] as const)("%s", (_, text, lines) => {
    expect(linesOf(text)).toEqual(lines as never);
  });

  test("of a line above the greatest size of an event, the beginning", () => {
    const [long, short] = pointLines(Buffer.from(`a b="${"x".repeat(2 * MAX_EVENT_BYTES)}"\nc d=2`));
    expect(long).toMatchObject({ length: 2 * MAX_EVENT_BYTES + 6, number: 1 });
    expect(long!.bytes.length).toBe(MAX_EVENT_BYTES + 1);
    expect(short).toMatchObject({ length: 5, number: 2 });
  });

  test("a quote without an end within the greatest size of an event swallows no other line", () => {
    const others = Array.from({ length: 4000 }, (_, index) => `c d=${index}`);
    const lines = linesOf([String.raw`a path="C:\temp\" 1`, ...others].join("\n"));
    expect(lines.map(([, text]) => text)).toEqual([String.raw`a path="C:\temp\" 1`, ...others]);
    expect(lines.map(([number]) => number)).toEqual(lines.map((_, index) => index + 1));
  });

  test("a string with a line break behind a stray quote is one line, wherever it begins around the greatest size of an event", () => {
    // Its quote is behind the greatest size, its beginning need not be.
    for (let length = MAX_EVENT_BYTES - 13; length < MAX_EVENT_BYTES + 50; length++) {
      const text = `log msg="one\nforged v=1 \nend"`;
      const filler = "c d=1\n".repeat(Math.floor(length / 6)) + "#".repeat(length % 6);
      const lines = linesOf(`a b="\n${filler}\n${text}\ne f=1`).map(([, line]) => line);
      expect(lines.slice(-2)).toEqual([text, "e f=1"]);
    }
    const two = `m x="q",log="first\nsecond d=1\n${"c d=1\n".repeat(1200)}"`;
    const lines = linesOf(`a b="\n${"c d=1\n".repeat(2600)}${two}\ne f=1`).map(([, line]) => line);
    expect(lines.slice(-2)).toEqual([two, "e f=1"]);
  });

  test("a body of stray quotes and backslashes is read in one pass", () => {
    const startedAt = performance.now();
    for (const part of ['" c="\n', 'a b="\n', 'a b="\\\n', `a b="\n${"c d=1\n".repeat(3000)}`, '"\n', "\\\\\\"]) {
      linesOf(part.repeat(400_000 / part.length));
    }
    expect(performance.now() - startedAt).toBeLessThan(20_000);
  });

  test("rendered points are separated, whatever their strings hold (500 seeded texts)", () => {
    let seed = 7;
    const next = (most: number) => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % most;
    };
    const pieces = ["\n", "\r\n", '"', "\\", " ", ",", "=", "#", "x", "é", "\n# y ", '="'];
    for (let round = 0; round < 500; round++) {
      const expected = Array.from({ length: 1 + next(5) }, () => {
        const text = Array.from({ length: next(8) }, () => pieces[next(pieces.length)]).join("");
        return renderLine({
          measurement: "m",
          tags: new Map(next(2) ? [["t", 'a"b c']] : []),
          fields: new Map([
            ["a", { type: "string", text }],
            ["b", { type: "float", text: "1" }],
          ]),
          timeNs: `${NOW_MS}000000`,
        });
      });
      expect(linesOf(expected.join("\n")).map(([, text]) => text)).toEqual(expected);
    }
  });
});
