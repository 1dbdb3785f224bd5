import { expect, test } from "bun:test";
import { UnreadableBatch } from "../../../services/kafka/fetch-decoder.ts";
import { hiddenOffsets } from "../../../services/tools/log-reader.ts";

test("a batch that cannot be read hides its offsets, up to the end of the read", () => {
  const batch = new UnreadableBatch(100, 119, "CRC", Buffer.alloc(0));
  expect(hiddenOffsets(batch, 100, 500)).toEqual({ first_offset: 100, last_offset: 119 });
  expect(hiddenOffsets(batch, 100, 110)).toEqual({ first_offset: 100, last_offset: 109 });
  expect(hiddenOffsets(batch, 90, 100)).toBeUndefined();
});

test("a batch without a known end hides everything after it, also where the log has grown meanwhile", () => {
  const endless = new UnreadableBatch(100, 100, "CRC", Buffer.alloc(0), 0, 900);
  expect(hiddenOffsets(endless, 100, 500)).toEqual({ first_offset: 100, last_offset: 499 });
  // Its first offset may be wrong too.
  expect(hiddenOffsets(endless, 40, 60)).toEqual({ first_offset: 40, last_offset: 59 });
});
