import { expect, test } from "bun:test";
import { newToken, readSenders, renderSenders, sha256 } from "../../../services/protocol/senders.ts";

test("a rendered list is read back; plain tokens have become digests", () => {
  const text = JSON.stringify({
    "plant-a": { tokens: ["a-plain-token-of-a", `sha256:${sha256("other")}`], conveyors: ["plant-a-*"] },
    "plant-b": {
      tokens: [newToken()],
      sources: ["*"],
      requests_per_second: 3,
      bytes_per_second: 4096,
      most_sources: 2,
    },
  });
  const entries = readSenders(text);
  expect(entries.map(({ isPlain }) => isPlain)).toEqual([true, true]);
  const rendered = renderSenders(entries);
  expect(rendered).not.toContain("a-plain");
  expect(readSenders(rendered)).toEqual(entries.map((entry) => ({ ...entry, isPlain: false })));
});

test("renderSenders() refuses what readSenders() refuses", () => {
  const [entry] = readSenders(JSON.stringify({ a: { tokens: [newToken()], sources: ["a"] } }));
  expect(() => renderSenders([entry!, { ...entry!, name: "b" }])).toThrow(
    "b: a token must differ from every other one",
  );
  expect(() => renderSenders([{ ...entry!, digests: Array(5).fill("0".repeat(64)) }])).toThrow("list of 1 to 4");
});

test("tokens are random, and long enough to be kept as a digest", () => {
  const tokens = new Set(Array.from({ length: 100 }, newToken));
  expect(tokens.size).toBe(100);
  for (const token of tokens) expect(token).toMatch(/^[0-9a-f]{64}$/);
});
