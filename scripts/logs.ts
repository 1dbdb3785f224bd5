/**
 * Searches the logs of all components.
 *
 *   bun scripts/logs.ts --since 15m --level error --level warn
 *   bun scripts/logs.ts --event RUN/belt-0-3/17000      one event, from producer to processor
 *   bun scripts/logs.ts --service processor --grep 'rebalanc' --follow
 *
 * Queries the log store (Loki or VictoriaLogs); on a cluster without one it reads the logs of the existing pods.
 */
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { checkedGrep, LOG_LEVELS, type LogLevel, parseIdentity } from "./clients/log-search.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";
import { LOG_SOURCES, type SearchOptions, searchLogs } from "./logs/search.ts";

/** More lines are slow to read and to send. */
const MAX_LIMIT = 100_000;

const FLAGS = {
  ...CLUSTER_FLAGS,
  since: { type: "duration", default: 900_000, description: "lines of this last period" },
  service: {
    type: "string",
    multiple: true,
    valueName: "NAME",
    description: "only this component: producer, processor, kafka, influxdb, …",
  },
  level: {
    type: "string",
    multiple: true,
    choices: LOG_LEVELS,
    valueName: "LEVEL",
    description: "only this level",
  },
  grep: { type: "string", valueName: "REGEX", description: "only lines that contain this regular expression" },
  event: {
    type: "string",
    valueName: "RUN[/CONVEYOR[/SEQ]]",
    description: "lines about this event; services log events whose seq is a multiple of TRACE_EVERY_SEQ (1000)",
  },
  follow: {
    type: "boolean",
    short: "f",
    description: "also print new lines, until Ctrl-C; with --json one document per line",
  },
  limit: { type: "number", default: 1000, min: 1, max: MAX_LIMIT, description: "at most this many lines, the newest" },
  source: {
    type: "string",
    default: "auto",
    choices: LOG_SOURCES,
    valueName: "NAME",
    description: "a log store, or the logs of the pods; auto: the deployed store, the pods without one",
  },
} as const;

async function main({ flags, report, signal }: CommandContext<typeof FLAGS>): Promise<void> {
  const options: SearchOptions = {
    search: {
      services: flags.service,
      levels: flags.level as LogLevel[],
      grep: flags.grep && checkedGrep(flags.grep),
      event: flags.event === undefined ? undefined : parseIdentity(flags.event),
    },
    source: flags.source as SearchOptions["source"],
    sinceMs: flags.since,
    follow: flags.follow,
    limit: flags.limit,
  };
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  await searchLogs(cluster, options, report, signal);
}

export const command = defineCommand({
  name: "scripts/logs.ts",
  summary: "searches the logs of all components by service, level, text or event",
  usage: ["[--since 15m] [--service NAME]… [--level LEVEL]… [--grep REGEX] [--event RUN[/CONVEYOR[/SEQ]]] [--follow]"],
  flags: FLAGS,
  examples: [
    ["bun scripts/logs.ts --level error --level warn --since 1h", "recent errors and warnings of every component"],
    ["bun scripts/logs.ts --event 5f3a…/belt-0-3/17000", "the lines of producer and processor about one event"],
    ["bun scripts/logs.ts --service processor --grep rebalanc --follow", "follow one subject"],
    ["bun scripts/logs.ts --json --since 5m | jq '.entries[].event'", "as data"],
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
