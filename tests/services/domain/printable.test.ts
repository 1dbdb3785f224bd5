import { expect, test } from "bun:test";
import { printable } from "../../../services/domain/printable.ts";

test.each([
  ["plain, ä, 模, 👍 and \\n", "plain, ä, 模, 👍 and \\n"],
  ["\u001b]0;title\u0007", "\\u001b]0;title\\u0007"],
  ["a\r\nb\tc", "a\\u000d\\u000ab\\u0009c"],
  // C1: a terminal takes U+009B for ESC [.
  ["\u009b2J\u007f", "\\u009b2J\\u007f"],
  // Reversed text, zero width, line separator, a tag character beyond 16 bits, half a surrogate pair.
  ["\u202eabc\u200b\u2028", "\\u202eabc\\u200b\\u2028"],
  ["\u{e0041}\ud83d", "\\udb40\\udc41\\ud83d"],
])("printable(%j)", (text, shown) => expect(printable(text)).toBe(shown));

test("a JSON document keeps its meaning", () => {
  const value = { "\u009b\u202e": "\u001b\n\\ \u{e0041} ä" };
  const text = printable(JSON.stringify(value));
  expect(text).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  expect(JSON.parse(text)).toEqual(value);
});
