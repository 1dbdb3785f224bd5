import { describe, expect, test } from "bun:test";
import { requestQueue } from "./fixtures.ts";

describe("idle-timer", () => {
  test("a queue without pending requests arms no timer", () => {
    const idle = requestQueue();
    idle.checkPendingRequests();
    expect(idle.throttleCheckTimeoutId).toBeNull();
    idle.destroy();
  });

  test("a pending request is sent when throttling ends", async () => {
    const throttled = requestQueue();
    throttled.throttledUntil = Date.now() + 30;
    const { promise, resolve } = Promise.withResolvers<void>();
    (throttled as unknown as { push(request: unknown): void }).push({
      entry: { correlationId: 1, resolve, reject: () => {} },
      expectResponse: false,
      sendRequest: () => {},
    });
    expect(throttled.pending).toHaveLength(1);
    await promise;
    expect(throttled.pending).toHaveLength(0);
    throttled.destroy();
  });
});
