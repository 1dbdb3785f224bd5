import { describe, expect, test } from "bun:test";
import { errorText, Logger, LogThrottle } from "../../../services/runtime/log.ts";
import { stepClockBack } from "../../stepped-clock.ts";

describe("Logger", () => {
  test("writes one JSON object per line: time, level, service, event, fields", () => {
    const lines: string[] = [];
    const now = () => Date.UTC(2026, 0, 2);
    const log = new Logger("producer", "info", { pod: "p-0" }, (line) => lines.push(line), now);
    log.info("running", { topic: "t\n" });
    log.debug("hidden");
    expect(lines).toHaveLength(1);
    expect(lines[0]!.endsWith("\n")).toBe(true);
    expect(JSON.parse(lines[0]!)).toEqual({
      timestamp: "2026-01-02T00:00:00.000Z",
      level: "info",
      service: "producer",
      event: "running",
      pod: "p-0",
      topic: "t\n",
    });
  });

  test("a line has no control or format characters, which kubectl logs would write to a terminal", () => {
    const lines: string[] = [];
    new Logger("producer", "info", {}, (line) => lines.push(line)).warn("refused", { detail: "\u009b2J\u202e\u001b" });
    expect(lines[0]!.trimEnd()).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(JSON.parse(lines[0]!).detail).toBe("\u009b2J\u202e\u001b");
  });

  test("errorText joins the causes and keeps the error code", () => {
    const inner = Object.assign(new Error("connect failed"), { code: "ECONNREFUSED" });
    expect(errorText(new Error("cannot write", { cause: inner }))).toBe("cannot write: connect failed (ECONNREFUSED)");
    const circular = new Error("round");
    circular.cause = circular;
    expect(errorText(circular)).toBe("round");
  });

  test("LogThrottle allows one line per interval and counts the others", () => {
    let now = 0;
    const throttle = new LogThrottle(1000, () => now);
    expect([throttle.allow("a"), throttle.allow("a"), throttle.allow("b")]).toEqual([0, undefined, 0]);
    now = 1000;
    expect(throttle.allow("a")).toBe(1);
  });

  test("LogThrottle allows lines after the clock stepped back", async () => {
    const throttle = new LogThrottle(20);
    expect(throttle.allow("a")).toBe(0);
    using _ = stepClockBack();
    await Bun.sleep(30);
    expect(throttle.allow("a")).toBe(0);
  });
});
