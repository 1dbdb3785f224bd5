import { describe, expect, test } from "bun:test";
import { EXIT, OperatorError } from "../../../scripts/cli/errors.ts";
import { waitFor } from "../../../scripts/cli/wait.ts";

describe("waitFor", () => {
  test("returns the value of the successful poll and reports each state before it", async () => {
    const states: string[] = [];
    let looks = 0;
    const value = await waitFor(
      async () => (++looks < 3 ? { done: false, state: `look ${looks}` } : { done: true, value: "there" }),
      { what: "it", limitMs: 5000, intervalMs: 1, onState: (state) => states.push(state) },
    );
    expect(value).toBe("there");
    expect(states).toEqual(["look 1", "look 2"]);
  });

  test("at the limit the error has what was awaited, the time and the last state, exit 4", async () => {
    const error = (await waitFor(async () => ({ done: false, state: "Pending: no node" }), {
      what: "kafka-1 to be Ready",
      limitMs: 5,
      intervalMs: 1,
      hint: "kubectl describe pod kafka-1",
    }).catch((caught: unknown) => caught)) as OperatorError;
    expect(error).toBeInstanceOf(OperatorError);
    expect(error.message).toMatch(/^waited 0\.\d s for kafka-1 to be Ready; last seen: Pending: no node$/);
    expect(error.exitCode).toBe(EXIT.timeout);
    expect(error.hint).toBe("kubectl describe pod kafka-1");
  });

  test("an error of a poll is a state and does not end the wait", async () => {
    let looks = 0;
    const value = await waitFor(
      async () => {
        if (++looks === 1) throw new Error("connection refused");
        return { done: true, value: looks };
      },
      { what: "it", limitMs: 5000, intervalMs: 1 },
    );
    expect(value).toBe(2);
  });

  test("an aborted signal ends the wait with the signal's reason", async () => {
    const abort = new AbortController();
    const waiting = waitFor(async () => ({ done: false, state: "no" }), {
      what: "it",
      limitMs: 60_000,
      intervalMs: 60_000,
      signal: abort.signal,
    });
    abort.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
  });
});
