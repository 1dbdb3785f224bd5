/** The shortened rules of the cluster test equal the deployed ones except for durations. */
import { expect, test } from "bun:test";
import { parse } from "yaml";
import { shortenedRules, shorter } from "../cluster/shortened.ts";
import { ruleFiles } from "../k8s/prometheus/rules.ts";

test.each([
  ["5m", "10s"],
  ["1h", "120s"],
  ["30s", "1s"],
  ["10s", "1s"],
  ["1d", "2880s"],
])("%s becomes %s", (long, short) => {
  expect(shorter(long)).toBe(short);
});

test("shorter rejects an invalid duration", () => {
  expect(() => shorter("soon")).toThrow('must be a number and s, m, h or d; got "soon"');
});

test("shortenedRules keeps names, thresholds and order", async () => {
  for (const { text, groups } of await ruleFiles()) {
    const short = parse(shortenedRules(text)) as { groups: typeof groups };
    const bare = (all: typeof groups) =>
      all.flatMap(({ rules }) =>
        rules.map((rule) => ({ ...rule, for: undefined, expr: rule.expr.replaceAll(/\[[^\]]+\]/g, "[]") })),
      );
    expect(bare(short.groups)).toEqual(bare(groups));
    expect(shortenedRules(text)).not.toMatch(/\[\d+[mhd]\]/);
  }
});
