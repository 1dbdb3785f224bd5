import { describe, expect, test } from "bun:test";
import { stepClockBack } from "../../../stepped-clock.ts";
import { groupOf } from "./fixtures.ts";

const INTERVAL_MS = 20;
/** Heartbeats of the test; they take some 100 ms, on a busy machine longer. */
const ENOUGH = 5;
const LIMIT_MS = 3000;

describe("clock-heartbeat", () => {
  test("a member sends its heartbeats at their interval after the clock stepped back", async () => {
    let sent = 0;
    const coordinator = { heartbeat: async () => void sent++ };
    const group = Object.assign(groupOf(coordinator), { coordinator, memberId: "m", generationId: 1 });
    /** Calls as kafkajs does, until `count` heartbeats are sent. Returns the time from the first to the last. */
    const untilSent = async (count: number) => {
      sent = 0;
      let firstMs = 0;
      for (const until = performance.now() + LIMIT_MS; sent < count && performance.now() < until; ) {
        await group.heartbeat({ interval: INTERVAL_MS });
        if (sent === 1) firstMs ||= performance.now();
        await Bun.sleep(1);
      }
      return performance.now() - firstMs;
    };
    await untilSent(1);
    using _ = stepClockBack();
    const tookMs = await untilSent(ENOUGH);
    expect(sent).toBe(ENOUGH);
    // The time of the first heartbeat is taken after it was sent.
    expect(tookMs).toBeGreaterThan((ENOUGH - 2) * INTERVAL_MS);
  });
});
