/**
 * Dead letters: lists them by reason, shows and exports them, and replays those that are valid now.
 *
 *   bun scripts/dead-letters.ts list                                   counts by reason
 *   bun scripts/dead-letters.ts show --reason out_of_range --limit 5   single records, the newest first
 *   bun scripts/dead-letters.ts export --reason wrong_type | jq -c '.load_kg |= tonumber' | bun scripts/ingest.ts -
 *   bun scripts/dead-letters.ts replay --reason refused_by_database    sends the events, and checks that they are stored
 *   bun scripts/dead-letters.ts step-over --partition 3 --offset 120   moves a batch that cannot be read into the topic
 *
 * Records stay in the topic (30 days, at most 1 GiB a partition). A replay can be repeated: events that InfluxDB holds are not sent, and an event that
 * is sent twice rewrites its own point.
 */
import { DEAD_LETTER_REASONS } from "../services/domain/dead-letter.ts";
import { checkRunFlag } from "./audit/run-flag.ts";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, type ExitCode, OperatorError } from "./cli/errors.ts";
import { ProbeSession } from "./clients/probe-session.ts";
import { readDeployedSchemas } from "./cluster/event-schemas.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { exportBodies } from "./dead-letters/export.ts";
import { list } from "./dead-letters/list.ts";
import { replay } from "./dead-letters/replay.ts";
import type { SubCommand } from "./dead-letters/session.ts";
import { show } from "./dead-letters/show.ts";
import { stepOver } from "./dead-letters/step-over.ts";
import { localTarget } from "./local-cluster/index.ts";

const ACTIONS: Readonly<Record<string, SubCommand>> = {
  list,
  show,
  export: exportBodies,
  replay,
  "step-over": stepOver,
};

const FLAGS = {
  ...CLUSTER_FLAGS,
  since: { type: "duration", default: 86_400_000, description: "records of this last period" },
  reason: {
    type: "string",
    multiple: true,
    choices: DEAD_LETTER_REASONS,
    valueName: "REASON",
    description: "only records with this reason",
  },
  run: { type: "string", valueName: "RUN", description: "only events of this run, or read by this producer's run" },
  limit: { type: "number", default: 20, min: 1, max: 10_000, description: "show: at most this many, the newest" },
  "types-fixed": {
    type: "boolean",
    description:
      "replay: also send events that InfluxDB refused for a field's type; delete the points of the other type first",
  },
  partition: { type: "number", min: 0, max: 1_000_000, description: "step-over: the stopped partition" },
  offset: {
    type: "number",
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    description: "step-over: the offset at which it is stopped, as the alert names it",
  },
  "dry-run": { type: "boolean", description: "replay, step-over: print what would be done, change nothing" },
} as const;

async function main({ flags, positionals, report, signal }: CommandContext<typeof FLAGS>): Promise<ExitCode> {
  checkRunFlag(flags.run);
  const [action = ""] = positionals;
  if (flags["dry-run"] && action !== "replay" && action !== "step-over") {
    throw new OperatorError(`--dry-run: only for replay and step-over; ${action} changes nothing`, {
      exitCode: EXIT.usage,
    });
  }
  if (flags["types-fixed"] && action !== "replay") {
    throw new OperatorError("--types-fixed: only for replay", { exitCode: EXIT.usage });
  }
  const { partition, offset } = flags;
  const place = partition === undefined || offset === undefined ? undefined : { partition, offset };
  if (action === "step-over" ? !place : (partition ?? offset) !== undefined) {
    throw new OperatorError("--partition and --offset: both for step-over, as the alert PartitionStopped names them", {
      exitCode: EXIT.usage,
    });
  }
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  report.info(`target: ${cluster.describe()}`);
  const image = await deployedServicesImage(cluster);
  await using probes = new ProbeSession(cluster, image, signal);
  const filter = { sinceMs: Date.now() - flags.since, reasons: flags.reason, run: flags.run };
  const { limit, "dry-run": isDryRun, "types-fixed": typesFixed } = flags;
  const schemas = await readDeployedSchemas(cluster);
  const session = { cluster, image, probes, filter, limit, place, isDryRun, typesFixed, schemas, report, signal };
  return await ACTIONS[action]!(session);
}

export const command = defineCommand({
  name: "scripts/dead-letters.ts",
  summary: "lists, shows and exports refused events, and replays those that are valid now",
  usage: [
    "list",
    "show [--limit 20]",
    "export",
    "replay [--dry-run] [--types-fixed]",
    "step-over --partition N --offset N [--dry-run]",
  ],
  positionals: [{ name: "ACTION", description: "what to do", required: true, choices: Object.keys(ACTIONS) }],
  flags: FLAGS,
  examples: [
    ["bun scripts/dead-letters.ts list --since 1h", "counts by reason"],
    ["bun scripts/dead-letters.ts show --reason out_of_range", "each with its detail, its origin and its body"],
    ["bun scripts/dead-letters.ts export --reason wrong_type > wrong.ndjson", "bodies, one per line, for correction"],
    [
      "bun scripts/dead-letters.ts replay --reason refused_by_database",
      "sends events that are valid now and not stored",
    ],
    [
      "bun scripts/dead-letters.ts step-over --partition 3 --offset 120",
      "moves the batch that stops a partition into the topic; the processor goes on",
    ],
  ],
  notes: [
    "replay exits 5 when an event that it sent is not stored in InfluxDB: it was refused again, or still waits.",
    "replay does not send events that InfluxDB refused for a field's type: it keeps one type per field and day.",
    "Correct events that are still refused: export, edit, bun scripts/ingest.ts.",
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
