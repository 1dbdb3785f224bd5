import { expect, test } from "bun:test";
import { BloomFilter } from "../../../services/domain/bloom-filter.ts";

const hashOf = (text: string) => Bun.hash.xxHash64(text).toString(16).padStart(16, "0");

test("a filter names every hash that was added, and hardly another", () => {
  const filter = new BloomFilter();
  for (let index = 0; index < 100_000; index++) filter.add(hashOf(`a${index}`));
  let missing = 0;
  let wrong = 0;
  for (let index = 0; index < 100_000; index++) {
    if (!filter.mayHave(hashOf(`a${index}`))) missing++;
    if (filter.mayHave(hashOf(`b${index}`))) wrong++;
  }
  expect(missing).toBe(0);
  expect(wrong).toBeLessThan(10);
});
