/** `step-over`: puts a batch that cannot be read into the dead-letter topic and lets the processor go on after it. */
import { EVENTS_TOPIC, PROCESSOR_GROUP } from "../../services/domain/kafka-layout.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { KAFKA, readBy } from "../clients/probe-session.ts";
import type { SubCommand } from "./session.ts";

/** Reading the batch, up to three dead letters, one commit. */
const STEP_LIMIT_MS = 50_000;
/** The processor reads a stopped partition again every 15 s. */
const PASSED_LIMIT_MS = 60_000;
const PASSED_POLL_MS = 2000;

export const stepOver: SubCommand = async (session) => {
  const { probes, report, signal, place, isDryRun } = session;
  const { partition, offset } = place!;
  const { result } = await probes.probeFrom("admin", {
    result: {
      kind: "step_over",
      ...KAFKA,
      topic: EVENTS_TOPIC,
      partition,
      offset,
      dry_run: isDryRun,
      timeout_ms: STEP_LIMIT_MS,
    },
  });
  if (!result.ok && result.outcome === "readable") {
    throw new OperatorError(`nothing to step over: ${result.detail}`, { exitCode: EXIT.precondition });
  }
  if (!result.ok && result.outcome === "unknown_end") {
    throw new OperatorError(result.detail, {
      exitCode: EXIT.precondition,
      hint: "another replica may be intact; otherwise the group's offset is reset: docs/runbooks/PartitionStopped.md",
    });
  }
  const done = readBy(result, `${EVENTS_TOPIC}/${partition} at offset ${offset}`);
  const { first_offset, last_offset, reason, bytes, dead_letters, already } = done;
  report.print(`${EVENTS_TOPIC}/${partition}: offsets ${first_offset} to ${last_offset} cannot be read: ${reason}`);
  if (isDryRun) {
    report.result({ ...done, passed: false });
    report.print(`${bytes} bytes would go to the dead-letter topic, and the processor to offset ${last_offset + 1}`);
    return EXIT.ok;
  }
  const written = dead_letters.map((letter) => `${letter.partition}/${letter.offset}`).join(", ");
  report.print(
    already ? "its bytes are in the dead-letter topic already" : `its ${bytes} bytes are dead letter ${written}`,
  );
  await report.step("the processor goes on", async (step) => {
    await waitFor(
      async () => {
        const { offsets } = await probes.probeFrom("admin", {
          offsets: { kind: "kafka_offsets", ...KAFKA, topic: EVENTS_TOPIC, group: PROCESSOR_GROUP },
        });
        const now = readBy(offsets, "Kafka's offsets").find((found) => found.partition === partition)?.committed ?? 0;
        return now > last_offset ? { done: true, value: now } : { done: false, state: `at offset ${now}` };
      },
      {
        what: `the processor to pass offset ${last_offset} of partition ${partition}`,
        limitMs: PASSED_LIMIT_MS,
        intervalMs: PASSED_POLL_MS,
        signal,
        hint: "the instruction stays in Kafka: a processor that starts later follows it",
        onState: (state) => step.update(state),
      },
    );
  });
  report.result({ ...done, passed: true });
  return EXIT.ok;
};
