import { describe, expect, test } from "bun:test";
import { parseLine } from "../../../services/domain/line-protocol.ts";
import { contentOf, FIELD_HASH_CHARS, FIELD_NAME_CHARS, fieldHash } from "../../../services/domain/point-content.ts";

const contentOfLine = (line: string) => contentOf(parseLine(`${line} 1764489600000000001`, "ns", 0).point!);

describe("contentOf", () => {
  test("is the same for the same point in another notation and order", () => {
    const plain = contentOfLine('m,a=1,b=2 f=1500,i=5i,n=-0,s="x"');
    const other = contentOfLine('m,b=2,a=1 s="x",n=0,i=005i,f=1.5e3');
    expect(other.key).toBe(plain.key);
    expect(new Set(other.fields)).toEqual(new Set(plain.fields));
  });

  test("differs in every part of the point", () => {
    const lines = ["m,a=1 x=1", "n,a=1 x=1", "m,a=2 x=1", "m,b=1 x=1", "m x=1", "m,a=1 y=1"];
    const values = ["2", "1i", "1u", '"1"', "true"].map((value) => `m,a=1 x=${value}`);
    const contents = [...lines, ...values].map(contentOfLine);
    expect(new Set(contents.map(({ key, fields }) => `${key} ${fields}`)).size).toBe(contents.length);
    const later = parseLine("m,a=1 x=1 1764489600000000002", "ns", 0).point!;
    expect(contentOf(later).key).not.toBe(contents[0]!.key);
  });

  test("tells integers above 2^53 apart", () => {
    const of = (text: string) => fieldHash("x", { type: "integer", text });
    expect(of("9007199254740993")).not.toBe(of("9007199254740992"));
  });

  test("a hash has the name's digits first, and keeps its length", () => {
    for (let index = 0; index < 1000; index++) {
      const [one, other] = [1, 2].map((text) => fieldHash(`f${index}`, { type: "float", text: String(text) }));
      expect(one!.length).toBe(FIELD_HASH_CHARS);
      expect(one!.slice(0, FIELD_NAME_CHARS)).toBe(other!.slice(0, FIELD_NAME_CHARS));
      expect(one).not.toBe(other);
    }
  });
});
