import { expect, test } from "bun:test";
import { AssignedIdentities } from "../../../services/producer/assigned-identities.ts";

test("counts per source, and only what was used", () => {
  const assigned = new AssignedIdentities("p");
  expect([assigned.next("a"), assigned.next("a")]).toEqual([
    { run: "p-assigned-1", seq: 0 },
    { run: "p-assigned-1", seq: 0 },
  ]);
  assigned.use("a");
  expect([assigned.next("a").seq, assigned.next("b").seq]).toEqual([1, 0]);
});

test("no identity occurs twice, whatever the number of sources", () => {
  const assigned = new AssignedIdentities("p", 3);
  const seen = new Set<string>();
  for (let index = 0; index < 1000; index++) {
    const source = `s${(index * 7) % 10}`;
    const { run, seq } = assigned.next(source);
    assigned.use(source);
    seen.add(`${run} ${source} ${seq}`);
  }
  expect(seen.size).toBe(1000);
});
