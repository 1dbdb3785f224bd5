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
import { formatDuration } from "./cli/report.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { ingest } from "./ingest/ingest.ts";
import { localTarget } from "./local-cluster/index.ts";

const FLAGS = {
  ...CLUSTER_FLAGS,
  run: { type: "string", valueName: "RUN", description: "run of events without one (default: a new run)" },
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

async function main({ flags, positionals, report, signal }: CommandContext<typeof FLAGS>): Promise<void> {
  checkRunFlag(flags.run);
  const { stream, bytes } = await openInput(positionals[0]!);
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  report.info(`target: ${cluster.describe()}`);
  const image = await deployedServicesImage(cluster);
  const result = await report.step("send events", async (step) => {
    const outcomes = await ingest(cluster, stream, {
      image,
      signal,
      runId: flags.run,
      onProgress: (sent) => {
        const share = bytes ? `, ${Math.floor((sent.bytes / bytes) * 100)} %` : "";
        step.update(`${formatted(sent.lines)} lines sent${share}`);
      },
    });
    step.update(`${formatted(outcomes.acknowledged)} acknowledged, ${outcomes.refused} refused`);
    return outcomes;
  });
  report.result(result);
  report.print(`run          ${result.run}`);
  report.print(`read         ${formatted(result.read)} lines`);
  report.print(`acknowledged ${formatted(result.acknowledged)} by Kafka (all in-sync replicas)`);
  report.print(`refused      ${formatted(result.refused)} to the dead-letter topic`);
  for (const [reason, count] of Object.entries(result.refused_by_reason)) {
    report.print(`             ${String(count).padStart(8)}  ${reason}`);
  }
  report.print(`took         ${formatDuration(result.duration_ms)} in the producer`);
}

export const command = defineCommand({
  name: "scripts/ingest.ts",
  summary: "sends events from a file or stdin (one JSON object per line) into the pipeline",
  usage: ["FILE [--run RUN]", "-"],
  positionals: [{ name: "FILE", required: true, description: "NDJSON file, or - for stdin" }],
  flags: FLAGS,
  examples: [
    ["bun scripts/ingest.ts events.ndjson", "sends a file and reports the outcome of every line"],
    ["zcat old.ndjson.gz | bun scripts/ingest.ts - --json", "from stdin, with the outcomes as JSON"],
  ],
  notes: [
    `An event: ${JSON.stringify(exampleEvent({ conveyor: "belt-0-1", run: "r1", seq: 0, ts: Date.now() }))}`,
    "Invalid lines are written to the dead-letter topic with the reason, and counted by reason.",
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
