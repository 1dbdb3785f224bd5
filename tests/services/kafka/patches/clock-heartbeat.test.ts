import { describe, expect, test } from "bun:test";
import { stepClockBack } from "../../../stepped-clock.ts";
import { groupOf } from "./fixtures.ts";

const INTERVAL_MS = 20;

describe("clock-heartbeat", () => {
  test("a member sends its heartbeats at their interval after the clock stepped back", async () => {
    let sent = 0;
    const coordinator = { heartbeat: async () => void sent++ };
    const group = Object.assign(groupOf(coordinator), { coordinator, memberId: "m", generationId: 1 });
    const beatFor = async (ms: number) => {
      sent = 0;
      const until = performance.now() + ms;
      while (performance.now() < until) {
        await group.heartbeat({ interval: INTERVAL_MS });
        await Bun.sleep(1);
      }
      return sent;
    };
    await beatFor(3 * INTERVAL_MS);
    using _ = stepClockBack();
    const heartbeats = await beatFor(20 * INTERVAL_MS);
    expect(heartbeats).toBeGreaterThan(2);
    expect(heartbeats).toBeLessThanOrEqual(21);
  });
});
