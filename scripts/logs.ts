/**
 * Searches the logs of all components, from the terminal.
 *
 *   bun scripts/logs.ts --since 15m --level error --level warn
 *   bun scripts/logs.ts --event RUN/belt-0-3/17000      the way of one event through producer and processor
 *   bun scripts/logs.ts --service processor --grep 'rebalanc' --follow
 *
 * Asks Loki; on a cluster without Loki it reads the logs of the pods that are there, with the same flags.
 */
import { runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { colorAllowed, paint, type Report } from "./cli/report.ts";
import { pause } from "./cli/wait.ts";
import {
  briefly,
  checkedGrep,
  clockOf,
  isMatch,
  LOG_LEVELS,
  type LogEntry,
  type LogLevel,
  type LogSearch,
  logQl,
  parseIdentity,
} from "./clients/log-search.ts";
import { keyOf, LogStore, nsOfMs } from "./clients/loki.ts";
import { followPodLogs, readPodLogs } from "./clients/pod-logs.ts";
import type { Cluster } from "./cluster/cluster.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";

/** How often Loki is asked for what is new; a line takes about a second to get there. */
const FOLLOW_INTERVAL_MS = 1000;
/** Lines of different pods arrive with different delays: so far back is asked again, and what was shown is left out. */
const FOLLOW_OVERLAP_MS = 10_000;
/** A Loki that restarts is back within half a minute; one that is away for longer is not worth waiting for. */
const FOLLOW_AWAY_LIMIT_MS = 180_000;
/** Keys of shown lines that are kept: those of the overlap, at 5,000 lines a second. */
const MAX_SHOWN_KEYS = 50_000;
/** Beyond this a search becomes slow to read and slow to send; the newest ones are shown. */
const MAX_LIMIT = 100_000;

const LEVEL_COLOR = { error: "red", warn: "yellow", info: "dim", debug: "dim", unknown: "dim" } as const;

function print(entry: LogEntry, color: boolean): void {
  const level = paint(color, LEVEL_COLOR[entry.level], entry.level.padEnd(7));
  const who = paint(color, "bold", entry.pod.padEnd(28));
  process.stdout.write(`${clockOf(entry.timeNs)} ${level} ${who} ${briefly(entry)}\n`);
}

const printJson = (entry: LogEntry) => void process.stdout.write(`${JSON.stringify(entry)}\n`);

async function* newLines(cluster: Cluster, query: string, sinceMs: number, report: Report, signal: AbortSignal) {
  const shown = new Set<string>();
  let fromMs = Date.now() - sinceMs;
  let store: LogStore | undefined;
  let awaySinceMs: number | undefined;
  try {
    while (!signal.aborted) {
      try {
        store ??= await LogStore.open(cluster);
        const untilMs = Date.now();
        for await (const entries of store.all(query, { startNs: nsOfMs(fromMs), endNs: nsOfMs(untilMs) }, signal)) {
          for (const entry of entries) {
            const key = keyOf(entry);
            if (shown.has(key)) continue;
            if (shown.size >= MAX_SHOWN_KEYS) shown.delete(shown.values().next().value!);
            shown.add(key);
            yield entry;
          }
        }
        fromMs = Math.max(fromMs, untilMs - FOLLOW_OVERLAP_MS);
        awaySinceMs = undefined;
      } catch (error) {
        // A port-forward ends with the pod that it leads to; a question that Loki refuses stays refused.
        if (signal.aborted || (error instanceof OperatorError && error.exitCode === EXIT.usage)) throw error;
        if (awaySinceMs === undefined) report.warn("Loki does not answer; trying again");
        awaySinceMs ??= Date.now();
        if (Date.now() - awaySinceMs > FOLLOW_AWAY_LIMIT_MS) throw error;
        await store?.close();
        store = undefined;
      }
      await pause(FOLLOW_INTERVAL_MS, signal);
    }
  } finally {
    await store?.close();
  }
}

/** Which of the two is asked: the one that was named, or else Loki where it is there. */
async function sourceOf(cluster: Cluster, wanted: string, report: Report): Promise<"loki" | "pods"> {
  if (wanted !== "auto") return wanted as "loki" | "pods";
  if (await LogStore.isThere(cluster)) return "loki";
  report.warn("no Loki on this cluster: reading the logs of the pods that are there; what deleted pods said is gone");
  return "pods";
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/logs.ts",
      summary: "searches the logs of all components, by service, level, text or the identity of an event",
      usage: [
        "[--since 15m] [--service NAME]… [--level LEVEL]… [--grep REGEX] [--event RUN[/CONVEYOR[/SEQ]]] [--follow]",
      ],
      flags: {
        ...CLUSTER_FLAGS,
        since: { type: "duration", default: 900_000, description: "how far back" },
        service: {
          type: "string",
          multiple: true,
          valueName: "NAME",
          description: "who speaks: producer, processor, kafka, influxdb, …",
        },
        level: {
          type: "string",
          multiple: true,
          choices: LOG_LEVELS,
          valueName: "LEVEL",
          description: "how bad it is",
        },
        grep: { type: "string", valueName: "REGEX", description: "the line contains this regular expression" },
        event: {
          type: "string",
          valueName: "RUN[/CONVEYOR[/SEQ]]",
          description: "lines about this event; services log events whose seq is a multiple of TRACE_EVERY_SEQ (1000)",
        },
        follow: {
          type: "boolean",
          short: "f",
          description: "go on with what comes, until Ctrl-C; with --json a line each",
        },
        limit: { type: "number", default: 1000, min: 1, max: MAX_LIMIT, description: "the newest so many lines" },
        source: {
          type: "string",
          default: "auto",
          choices: ["auto", "loki", "pods"],
          valueName: "NAME",
          description: "Loki, or the pods' own logs; auto: Loki where it is deployed",
        },
      },
      examples: [
        ["bun scripts/logs.ts --level error --level warn --since 1h", "what went wrong lately, in every component"],
        ["bun scripts/logs.ts --event 5f3a…/belt-0-3/17000", "the lines of producer and processor about one event"],
        ["bun scripts/logs.ts --service processor --grep rebalanc --follow", "watch one subject"],
        ["bun scripts/logs.ts --json --since 5m | jq '.entries[].event'", "as data"],
      ],
    },
    async ({ flags, report, signal }) => {
      const search: LogSearch = {
        services: flags.service,
        levels: flags.level as LogLevel[],
        ...(flags.grep === undefined ? {} : { grep: checkedGrep(flags.grep) }),
        ...(flags.event === undefined ? {} : { event: parseIdentity(flags.event) }),
      };
      const cluster = await selectCluster(flags, localTarget);
      await requireReachable(cluster, signal);
      const source = await sourceOf(cluster, flags.source, report);
      const color = colorAllowed(process.stdout) && !process.argv.includes("--no-color");
      const show = report.json ? printJson : (entry: LogEntry) => print(entry, color);
      const query = logQl(search);

      if (source === "pods") {
        if (flags.follow) {
          for await (const entry of followPodLogs(cluster, flags.since, signal))
            if (isMatch(search, entry)) show(entry);
          return EXIT.ok;
        }
        const found = (await readPodLogs(cluster, flags.since, signal)).filter((entry) => isMatch(search, entry));
        return finish(found.slice(-flags.limit), found.length > flags.limit);
      }
      if (flags.follow) {
        for await (const entry of newLines(cluster, query, flags.since, report, signal)) show(entry);
        return EXIT.ok;
      }
      const store = await LogStore.open(cluster);
      try {
        const endMs = Date.now();
        const range = { startNs: nsOfMs(endMs - flags.since), endNs: nsOfMs(endMs) };
        // One more than asked for tells whether there are more.
        const found = await store.newest(query, range, flags.limit + 1, signal);
        return finish(found.slice(-flags.limit), found.length > flags.limit);
      } finally {
        await store.close();
      }

      function finish(entries: readonly LogEntry[], isCut: boolean) {
        if (report.json) report.result({ source, query, cut: isCut, count: entries.length, entries });
        else for (const entry of entries) show(entry);
        if (isCut) report.warn(`only the newest ${entries.length} lines; --limit shows more, --grep and --level fewer`);
        if (entries.length === 0) report.info(`no line matches ${query} in the last ${flags.since / 1000} s`);
        return EXIT.ok;
      }
    },
  );
}
