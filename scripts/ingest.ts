/**
 * Sends events from a file or stdin (NDJSON) through a producer pod into the pipeline.
 *
 *   bun scripts/ingest.ts events.ndjson
 *   generate-events | bun scripts/ingest.ts -
 *
 * Reports the outcome of every line: acknowledged by Kafka, or written to the dead-letter topic with its reason. An event
 * with its own run and seq can be sent again: it rewrites the same point.
 */
import { stat } from "node:fs/promises";
import { exampleEvent } from "../services/domain/event.ts";
import { checkRunFlag } from "./audit/run-flag.ts";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { formatDuration, type Report } from "./cli/report.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { DEFAULT_TIME_LIMIT_MS, IngestError, type IngestOutcomes, ingest } from "./ingest/ingest.ts";
import { ndjsonInput } from "./ingest/input-format.ts";
import { localTarget } from "./local-cluster/index.ts";

const FLAGS = {
  ...CLUSTER_FLAGS,
  run: {
    type: "string",
    valueName: "RUN",
    description:
      "run of this ingest itself, in its result and its dead letters; events have their own (default: a new one)",
  },
  "time-limit": {
    type: "duration",
    default: DEFAULT_TIME_LIMIT_MS,
    description: "the input must end within this time; a longer one is ended with an error",
  },
} as const;

async function openInput(path: string): Promise<{ stream: AsyncIterable<Uint8Array>; bytes?: number }> {
  if (path === "-") return { stream: Bun.stdin.stream() as unknown as AsyncIterable<Uint8Array> };
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) {
    throw new OperatorError(`FILE: no file "${path}"`, {
      exitCode: EXIT.usage,
      hint: "a file with one JSON event per line, or - for stdin",
    });
  }
  return { stream: Bun.file(path).stream() as unknown as AsyncIterable<Uint8Array>, bytes: found.size };
}

const formatted = (count: number) => count.toLocaleString("en");

function printOutcomes(outcomes: IngestOutcomes, report: Report): void {
  report.print(`run          ${outcomes.run}`);
  report.print(`read         ${formatted(outcomes.read)} of ${formatted(outcomes.sent)} lines sent`);
  report.print(`acknowledged ${formatted(outcomes.acknowledged)} by Kafka (all in-sync replicas)`);
  report.print(`refused      ${formatted(outcomes.refused)} to the dead-letter topic`);
  for (const [reason, count] of Object.entries(outcomes.refused_by_reason)) {
    report.print(`             ${String(count).padStart(8)}  ${reason}`);
  }
  if (outcomes.dropped_from_ledger > 0) {
    report.print(
      `not listed   ${formatted(outcomes.dropped_from_ledger)} acknowledged events, in the ledger of --json`,
    );
  }
  report.print(`took         ${formatDuration(outcomes.duration_ms)} in the producer`);
}

async function main({ flags, positionals, report, signal }: CommandContext<typeof FLAGS>): Promise<void> {
  checkRunFlag(flags.run);
  const { stream, bytes } = await openInput(positionals[0]!);
  // Before the cluster is used: another format must not leave a trace there.
  const input = await ndjsonInput(stream, signal);
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  report.info(`target: ${cluster.describe()}`);
  const image = await deployedServicesImage(cluster);
  try {
    const outcomes = await report.step("send events", async (step) => {
      const outcomes = await ingest(cluster, input, {
        image,
        signal,
        runId: flags.run,
        timeLimitMs: flags["time-limit"],
        onProgress: (sent) => {
          const share = bytes ? `, ${Math.floor((sent.bytes / bytes) * 100)} %` : "";
          step.update(`${formatted(sent.lines)} lines sent${share}`);
        },
      });
      step.update(`${formatted(outcomes.acknowledged)} acknowledged, ${outcomes.refused} refused`);
      if (outcomes.acknowledged === 0) {
        throw new IngestError("no line was acknowledged: every line was refused", outcomes, {
          hint: "bun scripts/dead-letters.ts list has the reasons, docs/events.md the format",
        });
      }
      return outcomes;
    });
    report.result(outcomes);
    printOutcomes(outcomes, report);
  } catch (error) {
    if (error instanceof IngestError) printOutcomes(error.outcomes, report);
    throw error;
  }
}

export const command = defineCommand({
  name: "scripts/ingest.ts",
  summary: "sends events from a file or stdin (one JSON object per line) into the pipeline",
  usage: ["FILE [--run RUN] [--time-limit DURATION]", "-"],
  positionals: [{ name: "FILE", required: true, description: "NDJSON file, or - for stdin" }],
  flags: FLAGS,
  examples: [
    ["bun scripts/ingest.ts events.ndjson", "sends a file and reports the outcome of every line"],
    ["zcat old.ndjson.gz | bun scripts/ingest.ts - --json", "from stdin, with the outcomes as JSON"],
  ],
  notes: [
    "FILE is NDJSON in UTF-8. JSON arrays, compressed files, UTF-16, CSV and line protocol are refused before anything is sent.",
    "Exit 0: every line was read by the producer, none was lost, and at least one was acknowledged.",
    `An event: ${JSON.stringify(exampleEvent({ conveyor: "belt-0-1", run: "r1", seq: 0, ts: Date.now() }))}`,
    "Invalid lines are written to the dead-letter topic with the reason, and counted by reason.",
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
