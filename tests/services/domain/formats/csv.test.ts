import { describe, expect, test } from "bun:test";
import { CsvReader, delimiterOf, MAX_ROW_CHARS } from "../../../../services/domain/formats/csv.ts";

function rowsOf(text: string, delimiter = ",", size = text.length) {
  const reader = new CsvReader(delimiter);
  const rows: { cells: string[]; line: number }[] = [];
  for (let from = 0; from < text.length; from += Math.max(1, size))
    rows.push(...reader.push(text.slice(from, from + size)));
  return [...rows, ...reader.end()];
}

describe("rows", () => {
  test.each<[string, string[][]]>([
    [
      "a,b\n1,2\n",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
    [
      "a,b\r\n1,2",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
    ["a\n\n\r\n b \n", [["a"], [" b "]]],
    [",\n", [["", ""]]],
    ['"a,""b""",c\n', [['a,"b"', "c"]]],
    [
      '"a\r\nb",c\r\nd,e',
      [
        ["a\r\nb", "c"],
        ["d", "e"],
      ],
    ],
    [
      'a,""\n"",b',
      [
        ["a", ""],
        ["", "b"],
      ],
    ],
    [
      'a "quoted" word,5" pipe\nb,c',
      [
        ['a "quoted" word', '5" pipe'],
        ["b", "c"],
      ],
    ],
    ['"a"b,c', [["ab", "c"]]],
  ])("%j", (text, cells) => {
    for (const size of [1, 2, 3, text.length]) expect(rowsOf(text, ",", size).map((row) => row.cells)).toEqual(cells);
  });

  test("have the number of their first line", () => {
    expect(rowsOf('a\n"b\nc"\n\nd').map(({ line }) => line)).toEqual([1, 2, 5]);
  });

  test("a quote that is not closed ends with an error, at the end and in a long text", () => {
    expect(() => rowsOf('a,b\n"c,d\ne,f')).toThrow("row at line 2");
    expect(() => rowsOf(`a,b\n"c,${"d\n".repeat(MAX_ROW_CHARS)}`, ",", 1000)).toThrow("row at line 2");
    expect(() => rowsOf("x".repeat(MAX_ROW_CHARS + 1))).toThrow("row at line 1");
    // Also one that has an end in the same part of the text.
    for (const row of ["x".repeat(MAX_ROW_CHARS + 1), `"",${",".repeat(4_000_000)}`]) {
      expect(() => rowsOf(`a,b\n${row}\n`)).toThrow("row at line 2");
    }
  });

  test("are found in one pass, whatever the text lacks", () => {
    // Searched again for each row or cell, these take minutes.
    for (const part of ["\n", '""\n', "a,b\n", `"",${"x,".repeat(1000)}\n`]) {
      let rows = 0;
      for (const _ of new CsvReader(",").push(part.repeat(4_000_000 / part.length))) rows++;
      expect(rows).toBe(part.includes(",") ? Math.floor(4_000_000 / part.length) : 0);
    }
  }, 60_000);

  test("of any cells are read as they were written", () => {
    let state = 3;
    const random = (below: number) => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const PARTS = ["a", "1.5", '"', ",", ";", "\n", "\r\n", " ", "ü", ""];
    for (let round = 0; round < 500; round++) {
      const delimiter = [",", ";", "\t"][random(3)]!;
      const width = 2 + random(3);
      const rows = Array.from({ length: 1 + random(5) }, () =>
        Array.from({ length: width }, () =>
          Array.from({ length: random(4) }, () => PARTS[random(PARTS.length)]!).join(""),
        ),
      );
      const newline = random(2) === 0 ? "\n" : "\r\n";
      const quoted = (cell: string) =>
        /[",;\t\r\n]/.test(cell) || random(4) === 0 ? `"${cell.replaceAll('"', '""')}"` : cell;
      const text = rows.map((cells) => cells.map(quoted).join(delimiter)).join(newline);
      const read = rowsOf(text, delimiter, 1 + random(9));
      expect(read.map(({ cells }) => cells)).toEqual(rows);
    }
  });
});

test.each<[string[], string | undefined]>([
  [["a,b,c", "1,2,3"], ","],
  [["time;Temp (°C);p", "2026-01-01;1,5;2,5"], ";"],
  [["a\tb", "1\t2"], "\t"],
  [["a|b", "1|2"], "|"],
  [["a,b"], ","],
  [["2026-01-01,1,2", "2026-01-02,1,2"], ","],
  [["1,2"], undefined],
  [["a,b,c", "no table"], undefined],
  [["no table", "no table"], undefined],
  [[], undefined],
])("the delimiter of %j", (lines, delimiter) => expect(delimiterOf(lines)).toBe(delimiter as never));
