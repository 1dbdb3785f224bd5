/** Searches the logs of all components, in the log store or in the logs of the existing pods, and prints the entries. */
import { printable } from "../../services/domain/printable.ts";
import { colorAllowed, paint, type Report } from "../cli/report.ts";
import { nsOfMs } from "../clients/log-backend.ts";
import { briefly, clockOf, isMatch, type LogEntry, type LogSearch } from "../clients/log-search.ts";
import { deployedLogBackend, LOG_BACKENDS, openLogStore } from "../clients/log-store.ts";
import { logQl } from "../clients/loki.ts";
import { followPodLogs, readPodLogs } from "../clients/pod-logs.ts";
import { logsQl } from "../clients/victorialogs.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { followStore } from "./follow-store.ts";

/** Where lines are read: a log store by its name, or the existing pods. */
type LogSource = keyof typeof LOG_BACKENDS | "pods";
/** Values of `--source`; auto: the deployed store, or the pods without one. */
export const LOG_SOURCES = ["auto", ...Object.keys(LOG_BACKENDS), "pods"] as const;

export interface SearchOptions {
  search: LogSearch;
  source: LogSource | "auto";
  sinceMs: number;
  /** Print new lines until the signal. */
  follow: boolean;
  /** The newest entries that are printed. */
  limit: number;
}

const LEVEL_COLOR = { error: "red", warn: "yellow", info: "dim", debug: "dim", unknown: "dim" } as const;

function print(entry: LogEntry, color: boolean): void {
  const level = paint(color, LEVEL_COLOR[entry.level], entry.level.padEnd(7));
  const pod = paint(color, "bold", entry.pod.padEnd(28));
  process.stdout.write(`${clockOf(entry.timeNs)} ${level} ${pod} ${briefly(entry)}\n`);
}

const printJson = (entry: LogEntry) => void process.stdout.write(`${printable(JSON.stringify(entry))}\n`);

async function sourceOf(cluster: Cluster, requested: SearchOptions["source"], report: Report): Promise<LogSource> {
  if (requested !== "auto") return requested;
  const backend = await deployedLogBackend(cluster);
  if (backend) return backend.name;
  report.warn("no log store on this cluster: the logs of the existing pods are read; those of deleted pods are lost");
  return "pods";
}

async function* followPods(cluster: Cluster, { search, sinceMs }: SearchOptions, signal: AbortSignal) {
  for await (const entry of followPodLogs(cluster, sinceMs, signal)) if (isMatch(search, entry)) yield entry;
}

/** The newest entries, one more than the limit when there are more. */
async function newest(cluster: Cluster, source: LogSource, options: SearchOptions, signal: AbortSignal) {
  const { search, sinceMs, limit } = options;
  if (source === "pods") {
    return (await readPodLogs(cluster, sinceMs, signal)).filter((entry) => isMatch(search, entry));
  }
  await using store = await openLogStore(cluster, source);
  const endMs = Date.now();
  const range = { startNs: nsOfMs(endMs - sinceMs), endNs: nsOfMs(endMs) };
  return await store.newest(search, range, limit + 1, signal);
}

/** Prints the entries that match: the newest, or with `follow` also each new one. */
export async function searchLogs(
  cluster: Cluster,
  options: SearchOptions,
  report: Report,
  signal: AbortSignal,
): Promise<void> {
  const { sinceMs, limit } = options;
  const source = await sourceOf(cluster, options.source, report);
  const query = source === "victorialogs" ? logsQl(options.search) : logQl(options.search);
  const color = colorAllowed(process.stdout) && !process.argv.includes("--no-color");
  const show = report.json ? printJson : (entry: LogEntry) => print(entry, color);
  if (options.follow) {
    const entries =
      source === "pods" ? followPods(cluster, options, signal) : followStore(cluster, options, report, signal);
    for await (const entry of entries) show(entry);
    return;
  }
  const found = await newest(cluster, source, options, signal);
  const entries = found.slice(-limit);
  const isCut = found.length > limit;
  if (report.json) report.result({ source, query, cut: isCut, count: entries.length, entries });
  else for (const entry of entries) show(entry);
  if (isCut) report.warn(`only the newest ${entries.length} lines; --limit shows more, --grep and --level fewer`);
  if (entries.length === 0) report.info(`no line matches in the last ${sinceMs / 1000} s`);
}
