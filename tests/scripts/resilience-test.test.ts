/** Drills on a cluster that this project did not make are confirmed. */
import { expect, test } from "bun:test";
import { OperatorError } from "../../scripts/cli/errors.ts";
import { requireConfirmation } from "../../scripts/resilience-test.ts";

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
