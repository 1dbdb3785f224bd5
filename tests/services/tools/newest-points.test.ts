/** Goal: newest points are read from InfluxDB's CSV. Method: an answer as InfluxDB 2 sends it. */
import { expect, test } from "bun:test";
import { parseNewest } from "../../../services/tools/newest-points.ts";

test("parseNewest reads the time of each conveyor, whatever the order of columns", () => {
  const csv = [
    ",result,table,_time,conveyor",
    ",_result,0,2026-11-25T08:00:00.123456789Z,drill-0",
    ",_result,1,2026-11-25T08:00:01Z,drill-1",
    "",
    ",result,table,conveyor,_time",
    ",_result,2,drill-2,2026-11-25T08:00:02.5Z",
    "",
  ].join("\r\n");
  expect(parseNewest(csv, "conveyor")).toEqual({
    "drill-0": Date.parse("2026-11-25T08:00:00.123Z"),
    "drill-1": Date.parse("2026-11-25T08:00:01Z"),
    "drill-2": Date.parse("2026-11-25T08:00:02.5Z"),
  });
});

test("parseNewest reads the tag that it is given", () => {
  const csv = [",result,table,_time,source", ",_result,0,2026-11-25T08:00:00Z,drill-0", ""].join("\r\n");
  expect(parseNewest(csv, "source")).toEqual({ "drill-0": Date.parse("2026-11-25T08:00:00Z") });
});

test("parseNewest returns nothing for an empty answer", () => {
  expect(parseNewest("\r\n", "conveyor")).toEqual({});
});
