import { describe, expect, test } from "bun:test";
import { TimeLimitError, withTimeout } from "../../../services/runtime/with-timeout.ts";

describe("withTimeout", () => {
  test("returns the result of work that ends within the limit", async () => {
    expect(await withTimeout(Promise.resolve(7), 10_000)).toBe(7);
  });

  test("rejects with the error of work that fails within the limit", async () => {
    const failure = new Error("failed");
    expect(await withTimeout(Promise.reject(failure), 10_000).catch((error) => error)).toBe(failure);
  });

  test("rejects with a TimeLimitError after the limit", async () => {
    const error = await withTimeout(new Promise<Error>(() => {}), 1).catch((reason: Error) => reason);
    expect(error).toBeInstanceOf(TimeLimitError);
    expect(error.message).toBe("no answer within 1 ms");
  });
});
