/** Goal: the slowest conveyor decides, and nothing that is unknown passes for fresh. Method: lines as the watcher prints them. */
import { expect, test } from "bun:test";
import { parseStoredSample, slowestAge } from "../../../scripts/drills/stored-watch.ts";

const CONVEYORS = ["drill-0", "drill-1"];

test("a look is read, also one without an answer; what is no look is not", () => {
  expect(parseStoredSample('{"t":5000,"newest":{"drill-0":4000}}')).toEqual({
    timeMs: 5000,
    newestMs: { "drill-0": 4000 },
  });
  expect(parseStoredSample('{"t":5000,"why":"ConnectionRefused: no"}')).toEqual({ timeMs: 5000, newestMs: null });
  expect(parseStoredSample('{"t":5000,"newe')).toBeUndefined();
  expect(parseStoredSample("error: no such file")).toBeUndefined();
});

test("one partition that stands still shows, however fresh the others are", () => {
  const newestMs = { "drill-0": 9900, "drill-1": 6000 };
  expect(slowestAge({ timeMs: 10_000, newestMs }, CONVEYORS, 0)).toBe(4);
});

test("no answer, a conveyor without events, and an earlier drill's events give no age", () => {
  expect(slowestAge({ timeMs: 10_000, newestMs: null }, CONVEYORS, 0)).toBeNull();
  expect(slowestAge({ timeMs: 10_000, newestMs: { "drill-0": 9900 } }, CONVEYORS, 0)).toBeNull();
  const newestMs = { "drill-0": 9900, "drill-1": 6000 };
  expect(slowestAge({ timeMs: 10_000, newestMs }, CONVEYORS, 7000)).toBeNull();
});
