import { describe, expect, test } from "bun:test";
import { Health } from "../../../services/runtime/health.ts";

describe("Health", () => {
  test("live() names a watch without progress within its limit; attempts count as progress", () => {
    let now = 0;
    const health = new Health(() => now);
    health.watch({ name: "progress", limitMs: 1000 });
    now = 900;
    expect(health.live().ok).toBe(true);
    health.progress("progress");
    now = 1900;
    expect(health.live().ok).toBe(true);
    now = 2000;
    expect(health.live()).toMatchObject({
      ok: false,
      checks: { progress: { ok: false, age_ms: 1100, limit_ms: 1000 } },
    });
  });

  test("a watch that is not busy needs no progress; its time starts with the work", () => {
    let now = 0;
    let busy = false;
    const health = new Health(() => now);
    health.watch({ name: "send", limitMs: 1000, busy: () => busy });
    now = 10_000;
    expect(health.live().ok).toBe(true);
    busy = true;
    expect(health.live().ok).toBe(true);
    now = 11_500;
    expect(health.live().ok).toBe(false);
  });

  test("readiness() names the condition that fails", () => {
    const health = new Health();
    health.ready("a", () => true);
    health.ready("b", () => false);
    expect(health.readiness()).toEqual({ ok: false, conditions: { a: true, b: false } });
  });
});
