/** Drills on a cluster that this project did not make are confirmed; flags of a run that make no sense are refused. */
import { expect, test } from "bun:test";
import { OperatorError } from "../../scripts/cli/errors.ts";
import { requireConfirmation, scheduleOf } from "../../scripts/resilience-test.ts";

test("drills on another cluster than the local one need --yes: exit 2 without it", () => {
  const staging = { context: "staging", isLocal: false };
  expect(() => requireConfirmation({ context: "conveyor-local", isLocal: true }, false)).not.toThrow();
  expect(() => requireConfirmation(staging, true)).not.toThrow();
  try {
    requireConfirmation(staging, false);
  } catch (error) {
    expect(error).toBeInstanceOf(OperatorError);
    expect(error).toMatchObject({
      exitCode: 2,
      message: "--yes: must confirm drills on context staging, which is not the local cluster",
    });
    return;
  }
  throw new Error("accepted");
});

test("--every: a drill per interval until --time-limit, which it needs; errors name the flag and the value", () => {
  expect(scheduleOf({})).toEqual({ everyMs: undefined, timeLimitMs: 21_600_000 });
  const soak = { every: 300_000, "time-limit": 7_200_000 };
  expect(scheduleOf(soak)).toEqual({ everyMs: 300_000, timeLimitMs: 7_200_000 });
  const refused = [
    [{ every: 300_000 }, "--every: needs --time-limit, the length of the run"],
    [{ ...soak, every: 1000 }, "--every: must be at least 1 min 00 s; got 1.0 s"],
    [{ ...soak, "time-limit": 240_000 }, "--time-limit: must be at least --every, 5 min 00 s; got 4 min 00 s"],
    [{ ...soak, repeat: 2 }, "--every: must not be combined with --repeat, since it repeats the drills; got 2"],
    [{ ...soak, "without-fault": "kill-kafka" }, "--every: must not be combined with --without-fault, a single drill"],
    [{ "time-limit": 25_200_000 }, "--time-limit: must be at most 360 min 00 s; got 420 min 00 s"],
  ] as const;
  for (const [flags, message] of refused) expect(() => scheduleOf(flags)).toThrow(message);
});
