/**
 * Sends events from a file or stdin (NDJSON) through a producer pod into the pipeline.
 *
 *   bun scripts/ingest.ts events.ndjson
 *   generate-events | bun scripts/ingest.ts -
 *
 * Every line is accounted for: acknowledged by Kafka, or dead-lettered with its reason. An event that names its own
 * run and seq may be sent again: it rewrites the same point.
 */
import { stat } from "node:fs/promises";
import { checkRunFlag } from "./audit/run-flag.ts";
import { runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { formatDuration } from "./cli/report.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { ingest } from "./ingest/ingest.ts";
import { localTarget } from "./local-cluster/index.ts";

async function openInput(path: string): Promise<{ stream: AsyncIterable<Uint8Array>; bytes?: number }> {
  if (path === "-") return { stream: Bun.stdin.stream() as unknown as AsyncIterable<Uint8Array> };
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) {
    throw new OperatorError(`FILE: no file "${path}"`, {
      exitCode: EXIT.usage,
      hint: "a file with one JSON event a line, or - for stdin",
    });
  }
  return { stream: Bun.file(path).stream() as unknown as AsyncIterable<Uint8Array>, bytes: found.size };
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/ingest.ts",
      summary: "sends events from a file or stdin (one JSON object a line) into the pipeline",
      usage: ["FILE [--run RUN]", "-"],
      positionals: [{ name: "FILE", required: true, description: "NDJSON file, or - for stdin" }],
      flags: {
        ...CLUSTER_FLAGS,
        run: { type: "string", valueName: "RUN", description: "run of the events that name none (default: a new one)" },
      },
      examples: [
        ["bun scripts/ingest.ts events.ndjson", "sends a file; says what became of every line"],
        ["zcat old.ndjson.gz | bun scripts/ingest.ts - --json", "from stdin, with the account as JSON"],
      ],
      notes: [
        'An event: {"v":1,"conveyor":"belt-0-1","run":"r1","seq":0,"ts":1764038400000,"speed_mps":1.25,"load_kg":320.5,' +
          '"motor_temp_c":61.2,"vibration_mm_s":2.1,"state":"running"}',
        "Lines that are no valid event go to the dead-letter topic with the reason, and are counted here by reason.",
      ],
    },
    async ({ flags, positionals, report, signal }) => {
      checkRunFlag(flags.run);
      const { stream, bytes } = await openInput(positionals[0]!);
      const cluster = await selectCluster(flags, localTarget);
      await requireReachable(cluster, signal);
      report.info(`target: ${cluster.describe()}`);
      const image = await deployedServicesImage(cluster);
      const result = await report.step("send events", async (step) => {
        const account = await ingest(cluster, stream, {
          image,
          signal,
          ...(flags.run ? { runId: flags.run } : {}),
          onProgress: (sent) => {
            const share = bytes ? `, ${Math.floor((sent.bytes / bytes) * 100)} %` : "";
            step.update(`${sent.lines.toLocaleString("en")} lines sent${share}`);
          },
        });
        step.update(`${account.acknowledged.toLocaleString("en")} acknowledged, ${account.refused} refused`);
        return account;
      });
      report.result(result);
      report.print(`run          ${result.run}`);
      report.print(`read         ${result.read.toLocaleString("en")} lines`);
      report.print(`acknowledged ${result.acknowledged.toLocaleString("en")} by Kafka (all in-sync replicas)`);
      report.print(`refused      ${result.refused.toLocaleString("en")} to the dead-letter topic`);
      for (const [reason, count] of Object.entries(result.refused_by_reason)) {
        report.print(`             ${String(count).padStart(8)}  ${reason}`);
      }
      report.print(`took         ${formatDuration(result.duration_ms)} in the producer`);
      return EXIT.ok;
    },
  );
}
