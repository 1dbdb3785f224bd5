/** Logs of the existing pods through the API server, for clusters without a log store. Logs of deleted pods are lost there. */

import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { byTime, type LogEntry, nsOfTime, readLine } from "./log-search.ts";

/** Some minutes of all components; the logs of a day need a log store. */
const READ_LIMIT_MS = 120_000;
/** kubectl opens one connection per container. */
const MAX_CONTAINERS = 60;

const SELECTOR = "app.kubernetes.io/part-of=conveyor";

/** One line of `kubectl logs --prefix --timestamps`: "[pod/NAME/CONTAINER] 2026-11-25T03:00:00.123456789Z text". */
export function readPrefixedLine(line: string, appOf: (pod: string) => string): LogEntry | undefined {
  const match = /^\[pod\/([^/]+)\/([^\]]+)\] (\S+) ?(.*)$/s.exec(line);
  if (!match) return undefined;
  const [, pod, container, time, text] = match as unknown as [string, string, string, string, string];
  const timeNs = nsOfTime(time);
  if (timeNs === undefined) return undefined;
  const app = appOf(pod);
  const { service, ...read } = readLine(text);
  return {
    timeNs,
    service: service ?? app,
    app,
    pod,
    container,
    ...read,
    line: text,
  };
}

async function argsOf(cluster: Cluster, sinceMs: number): Promise<{ args: string[]; appOf: (pod: string) => string }> {
  const pods = await cluster.list("pods", SELECTOR);
  const apps = new Map(
    pods.map(({ metadata }) => [metadata.name, metadata.labels?.["app.kubernetes.io/name"] ?? metadata.name]),
  );
  const seconds = Math.max(1, Math.ceil(sinceMs / 1000));
  const args = ["logs", "-n", NAMESPACE, "-l", SELECTOR, "--all-containers", "--prefix", "--timestamps"];
  args.push("--ignore-errors", `--since=${seconds}s`, "--tail=-1", `--max-log-requests=${MAX_CONTAINERS}`);
  return { args, appOf: (pod) => apps.get(pod) ?? pod };
}

/** Log entries of the existing pods, from the oldest. */
export async function readPodLogs(cluster: Cluster, sinceMs: number, signal?: AbortSignal): Promise<LogEntry[]> {
  const { args, appOf } = await argsOf(cluster, sinceMs);
  const { stdout } = await cluster.kubectl(args, { timeoutMs: READ_LIMIT_MS, signal });
  return stdout
    .split("\n")
    .map((line) => readPrefixedLine(line, appOf))
    .filter((entry) => entry !== undefined)
    .sort(byTime);
}

/** New log entries until the signal, without those of pods that start later. */
export async function* followPodLogs(cluster: Cluster, sinceMs: number, signal: AbortSignal): AsyncGenerator<LogEntry> {
  const { args, appOf } = await argsOf(cluster, sinceMs);
  for await (const line of cluster.lines([...args, "--follow"], signal, { mustSucceed: true })) {
    const entry = readPrefixedLine(line, appOf);
    if (entry) yield entry;
  }
}
