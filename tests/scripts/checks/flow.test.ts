import { expect, test } from "bun:test";
import { judgeStored } from "../../../scripts/checks/flow.ts";
import { exampleEvent } from "../../../services/domain/event.ts";
import { valuesChecksum } from "../../../services/domain/point.ts";

const event = exampleEvent({ conveyor: "check-0", run: "r", seq: 0, ts: 1 });
const CONVEYORS = 4;
const EVENTS_EACH = 500;

function stored(values: number[], missing?: number) {
  const all = Array.from({ length: EVENTS_EACH }, (_, seq) => seq).filter((seq) => seq !== missing);
  const sequences = new Map(Array.from({ length: CONVEYORS }, (_, index) => [`check-${index}`, new Set(all)]));
  return { points: CONVEYORS * all.length, duplicates: 0, sequences, values: new Set(values) };
}

test("the end-to-end check passes on every event with its values, and fails on a missing one and on a wrong value", () => {
  const right = valuesChecksum(event);
  const wrong = valuesChecksum({ ...event, load_kg: 9999 });
  expect(judgeStored("r", stored([right]))).toMatchObject({ ok: true });
  expect(judgeStored("r", stored([right], 7))).toMatchObject({
    ok: false,
    detail: expect.stringContaining("check-0/7"),
  });
  expect(judgeStored("r", stored([right, wrong]))).toMatchObject({
    ok: false,
    detail: "a stored point says something else than its event",
  });
});
