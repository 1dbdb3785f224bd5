/** The schedule of a load: what is due depends on the clock alone. */
import { expect, test } from "bun:test";
import { dueEvents, dueTimeMs, formatStages, parseStages, stageAt } from "../../../services/domain/load-stages.ts";

test("parseStages accepts seconds, minutes and hours; formatStages is its inverse", () => {
  const stages = parseStages("60s@500, 2m@5000,1.5s@0,2h@1");
  expect(stages).toEqual([
    { seconds: 60, events_per_second: 500 },
    { seconds: 120, events_per_second: 5000 },
    { seconds: 1.5, events_per_second: 0 },
    { seconds: 7200, events_per_second: 1 },
  ]);
  expect(parseStages(formatStages(stages))).toEqual(stages);
});

test.each([
  ["60s", 'stage 1: must be DURATION@EVENTS_PER_SECOND, for example 60s@500; got "60s"'],
  ["1s@1,60@500", 'stage 2: must be DURATION@EVENTS_PER_SECOND, for example 60s@500; got "60@500"'],
  ["0s@5", 'stage 1: must last at least 1s; got "0s@5"'],
  ["1s@900000", 'stage 1: must be at most 200000 events/s; got "1s@900000"'],
  ["361m@1", "stages: must last at most 21600s together; got 21660s"],
])("%s is refused with the stage, the rule and the value", (text, message) => {
  expect(() => parseStages(text)).toThrow(message);
});

test("dueEvents grows with the rate of each stage and stops after the last", () => {
  const stages = parseStages("2s@100,1s@0,1s@1000");
  expect([0, 10, 1000, 2000, 2999, 3500, 4000, 9000].map((ms) => dueEvents(stages, ms))).toEqual([
    0, 1, 100, 200, 200, 700, 1200, 1200,
  ]);
});

test("dueTimeMs is the inverse of dueEvents", () => {
  const stages = parseStages("2s@100,1s@0,1s@1000");
  for (const index of [0, 1, 99, 199, 200, 700, 1199]) {
    const dueMs = dueTimeMs(stages, index);
    expect(dueEvents(stages, dueMs + 0.01)).toBeGreaterThan(index);
    expect(dueEvents(stages, dueMs - 0.01)).toBeLessThanOrEqual(index);
  }
});

test("stageAt returns the stage of a moment", () => {
  const stages = parseStages("2s@100,1s@0");
  expect([0, 1999, 2000, 2999, 3000].map((ms) => stageAt(stages, ms))).toEqual([0, 0, 1, 1, undefined]);
});
