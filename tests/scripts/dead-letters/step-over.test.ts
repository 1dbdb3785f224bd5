/** The answers of the probe that step-over cannot act on. */
import { expect, test } from "bun:test";
import type { DeadLetterSession } from "../../../scripts/dead-letters/session.ts";
import { stepOver } from "../../../scripts/dead-letters/step-over.ts";

test.each([
  ["readable", "nothing to step over: partition 3", undefined],
  ["unknown_end", "partition 3", expect.stringContaining("docs/runbooks/PartitionStopped.md")],
])("a batch that is %s: exit 3 with the next step", async (outcome, message, hint) => {
  const probes = { probeFrom: async () => ({ result: { ok: false, outcome, detail: "partition 3" } }) };
  const session = { probes, isDryRun: false, place: { partition: 3, offset: 120 } };
  await expect(stepOver(session as unknown as DeadLetterSession)).rejects.toMatchObject({ exitCode: 3, message, hint });
});
