import { expect, test } from "bun:test";
import { identityHeaders, identityOf } from "../../../services/domain/record-identity.ts";
import { assignedRun, newRunId, producerRunOf, runStart } from "../../../services/domain/run-id.ts";

const identity = { run: "r1", conveyor: "pump-7", seq: 999_999_999_999_999 };

test("an identity is read from the headers that it was written to, as text or bytes", () => {
  for (const isAssigned of [true, false]) {
    const headers = identityHeaders({ ...identity, isAssigned });
    expect(identityOf(headers)).toEqual({ ...identity, isAssigned });
    const received = Object.fromEntries(Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)]));
    expect(identityOf(received)).toEqual({ ...identity, isAssigned });
  }
});

test("the sender's identity counts where there are both", () => {
  expect(identityOf({ assigned: "p a 1", event: "r b 2" })).toMatchObject({ run: "r", isAssigned: false });
});

test.each([
  undefined,
  {},
  { event: null },
  { event: "r1 pump-7" },
  { event: "r1 pump 7 1" },
  { event: "r1 pump-7 -1" },
  { event: "r1 pump-7 01" },
  { event: "r1 pump-7 1000000000000000" },
  { event: [Buffer.from("r1 a 1"), Buffer.from("r1 a 2")] },
])("%j is no identity", (headers) => expect(identityOf(headers)).toBeUndefined());

test("a run that a producer assigns begins when the producer's began, and names it", () => {
  const run = newRunId(1_795_000_000_000, 0, 7);
  const assigned = assignedRun(run, 12);
  expect(runStart(assigned)).toBe(1_795_000_000_000);
  expect(producerRunOf(assigned)).toBe(run);
  expect(producerRunOf(run)).toBe(run);
  // The longest name that an operator can give.
  expect(
    identityOf(identityHeaders({ ...identity, run: assignedRun("r".repeat(64), 1), isAssigned: true })),
  ).toBeDefined();
});
