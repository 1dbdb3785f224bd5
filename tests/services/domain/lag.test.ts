import { expect, test } from "bun:test";
import { lagOf } from "../../../services/domain/lag.ts";

test("lagOf counts from the commit to the end", () => {
  expect(lagOf("0", "100", "40")).toBe(60);
  expect(lagOf("0", "100", "100")).toBe(0);
});
test("lagOf counts all events of a partition without a commit", () => {
  expect(lagOf("0", "100", "-1")).toBe(100);
  expect(lagOf("30", "100", "-1")).toBe(70);
  // The offset kafkajs keeps after an offset out of range: "from the beginning".
  expect(lagOf("30", "100", "-2")).toBe(70);
});
test("lagOf counts remaining events only and is never negative", () => {
  expect(lagOf("30", "100", "10")).toBe(70);
  expect(lagOf("0", "100", "105")).toBe(0);
});
