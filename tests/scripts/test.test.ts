/** `npm test` removes only a cluster that it made. */
import { expect, test } from "bun:test";
import { ownershipOf } from "../../scripts/test.ts";

test("a stopped cluster is started and stopped again, and keeps its data like a running one", () => {
  expect(ownershipOf("absent")).toEqual({ wasRunning: false, isOwned: true });
  expect(ownershipOf("stopped")).toEqual({ wasRunning: false, isOwned: false });
  for (const state of ["ready", "degraded"] as const) {
    expect(ownershipOf(state)).toEqual({ wasRunning: true, isOwned: false });
  }
});
