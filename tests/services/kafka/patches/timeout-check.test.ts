import { describe, expect, test } from "bun:test";
import { eventually } from "../../../eventually.ts";
import { requestQueue } from "./fixtures.ts";

describe("timeout-check", () => {
  test("timed-out requests are searched once a second and still time out", async () => {
    const intervals: number[] = [];
    const original = globalThis.setInterval;
    globalThis.setInterval = ((work: () => void, ms: number) => {
      intervals.push(ms);
      return original(work, ms);
    }) as typeof setInterval;
    try {
      const checked = requestQueue({ requestTimeout: 5000 });
      checked.scheduleRequestTimeoutCheck();
      checked.destroy();
      expect(intervals).toEqual([1000]);
    } finally {
      globalThis.setInterval = original;
    }
    const quick = requestQueue({ requestTimeout: 20 });
    let timedOut = 0;
    quick.inflight.set(1, {
      sentMs: performance.now() - 100,
      requestTimeout: 20,
      timeoutRequest: () => timedOut++,
    });
    quick.scheduleRequestTimeoutCheck();
    await eventually("the timeout", () => timedOut > 0);
    quick.destroy();
    expect(timedOut).toBeGreaterThan(0);
  });
});
