/** Goal: each version of a load's events is valid, has the same identity and time, and the same values as fields. */
import { expect, test } from "bun:test";
import { parseEvent } from "../../../services/domain/event.ts";
import { Conveyor } from "../../../services/domain/fleet.ts";
import { checkGenericEvent } from "../../../services/domain/generic-event.ts";
import { renderLine } from "../../../services/domain/line-protocol.ts";
import { renderPoint } from "../../../services/domain/point.ts";
import { LOAD_SERIALIZERS } from "../../../services/tools/load-events.ts";

const event = new Conveyor("load-t-1", "r", 1).next(Date.now());

test("version 1 is the event itself", () => {
  expect(parseEvent(new TextEncoder().encode(LOAD_SERIALIZERS.v1(event)))).toEqual({ event });
});

test("version 2 has the identity of version 1, and its point differs only in measurement and tag", () => {
  const { event: checked } = checkGenericEvent(JSON.parse(LOAD_SERIALIZERS.v2(event)));
  expect(checked!.given).toEqual({ run: event.run, seq: event.seq });
  const [series, fields, timeNs] = renderLine(checked!.point).split(" ");
  const [, beltFields, beltTimeNs] = renderPoint(event).split(" ");
  expect(series).toBe("conveyor_load,source=load-t-1");
  expect(fields!.split(",").toSorted()).toEqual(beltFields!.split(",").toSorted());
  expect(timeNs).toBe(beltTimeNs!);
});
