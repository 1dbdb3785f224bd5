/**
 * Dead letters: lists them by reason, shows and exports them, and replays those that are valid now.
 *
 *   bun scripts/dead-letters.ts list                                   counts by reason
 *   bun scripts/dead-letters.ts show --reason out_of_range --limit 5   single records, the newest first
 *   bun scripts/dead-letters.ts export --reason wrong_type | jq -c '.load_kg |= tonumber' | bun scripts/ingest.ts -
 *   bun scripts/dead-letters.ts replay --reason refused_by_database    sends the events, and checks that they are stored
 *
 * Records stay in the topic (30 days, at most 1 GiB a partition). A replay can be repeated: events that InfluxDB holds are not sent, and an event that
 * is sent twice rewrites its own point.
 */
import { REASONS } from "../services/domain/event.ts";
import { checkRunFlag } from "./audit/run-flag.ts";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, type ExitCode, OperatorError } from "./cli/errors.ts";
import { ProbeSession } from "./clients/probe-session.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { exportBodies } from "./dead-letters/export.ts";
import { list } from "./dead-letters/list.ts";
import { replay } from "./dead-letters/replay.ts";
import type { SubCommand } from "./dead-letters/session.ts";
import { show } from "./dead-letters/show.ts";
import { localTarget } from "./local-cluster/index.ts";

const ACTIONS: Readonly<Record<string, SubCommand>> = { list, show, export: exportBodies, replay };

const FLAGS = {
  ...CLUSTER_FLAGS,
  since: { type: "duration", default: 86_400_000, description: "records of this last period" },
  reason: {
    type: "string",
    multiple: true,
    choices: REASONS,
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
  "dry-run": { type: "boolean", description: "replay: print what would be sent, send nothing" },
} as const;

async function main({ flags, positionals, report, signal }: CommandContext<typeof FLAGS>): Promise<ExitCode> {
  checkRunFlag(flags.run);
  const [action = ""] = positionals;
  for (const flag of ["dry-run", "types-fixed"] as const) {
    if (!flags[flag] || action === "replay") continue;
    throw new OperatorError(`--${flag}: only for replay; ${action} changes nothing`, { exitCode: EXIT.usage });
  }
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  report.info(`target: ${cluster.describe()}`);
  const image = await deployedServicesImage(cluster);
  await using probes = new ProbeSession(cluster, image, signal);
  const filter = { sinceMs: Date.now() - flags.since, reasons: flags.reason, run: flags.run };
  const { limit, "dry-run": isDryRun, "types-fixed": typesFixed } = flags;
  const session = { cluster, image, probes, filter, limit, isDryRun, typesFixed, report, signal };
  return await ACTIONS[action]!(session);
}

export const command = defineCommand({
  name: "scripts/dead-letters.ts",
  summary: "lists, shows and exports refused events, and replays those that are valid now",
  usage: ["list", "show [--limit 20]", "export", "replay [--dry-run] [--types-fixed]"],
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
  ],
  notes: [
    "replay exits 5 when an event that it sent is not stored in InfluxDB: it was refused again, or still waits.",
    "replay does not send events that InfluxDB refused for a field's type: it keeps one type per field and day.",
    "Correct events that are still refused: export, edit, bun scripts/ingest.ts.",
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
