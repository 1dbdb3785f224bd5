import { test } from "bun:test";

/** Bun's default limit, which tests/test-limit.ts replaces for every way of starting tests. */
const LIMIT_OF_BUN_MS = 5000;

test("a test may take longer than the limit of Bun", async () => {
  await Bun.sleep(LIMIT_OF_BUN_MS + 300);
});
