/**
 * Growth of memory and open files of each process of the pipeline during a load, from Prometheus. Drills replace processes,
 * so each one is compared with itself, between its start and its end.
 */
import type { PrometheusReader } from "../clients/prometheus.ts";
import { NAMESPACE } from "../cluster/cluster.ts";
import { largest, median } from "../recording/recording.ts";
import type { Growth, ProcessGrowth } from "../recording/result.ts";

/** As often as most processes are scraped. */
const STEP_MS = 15_000;
/** A younger process still grows: heaps, caches and connection pools fill. */
export const MIN_LIFE_MS = 20 * 60_000;
/** Minimum of values in each of the two compared quarters. */
const MIN_VALUES = 10;
/** Growth of fewer files is in percent of so many: ten more connections are no leak. */
const FEW_FILES = 50;
const MEBIBYTE = 1024 * 1024;

const PIPELINE = `namespace=~"${NAMESPACE}(-logging)?",pod!=""`;
/** These export no process metrics; cAdvisor counts what their containers use. */
const WITHOUT_OWN_METRICS = `${PIPELINE},container=~"influxdb|kube-state-metrics"`;
const QUERIES = {
  memory: `process_resident_memory_bytes{${PIPELINE}} or container_memory_rss{${WITHOUT_OWN_METRICS}}`,
  files: `process_open_fds{${PIPELINE}} or container_file_descriptors{${WITHOUT_OWN_METRICS}}`,
  starts: `process_start_time_seconds{${PIPELINE}}`,
} as const;

type Values = readonly (number | null)[];

/** Values of one scraped target or container, as long as the times. */
interface Observed {
  pod: string;
  container: string;
  memory?: Values;
  files?: Values;
  starts?: Values;
}

/**
 * From the second to the last quarter of the values.
 * @param summary the value of a quarter: for memory the smallest, which a leak raises. The median of InfluxDB moved by -42
 *   to +24 % in a soak of 100 minutes
 */
function growthOf(values: Values, least: number, summary: (known: readonly number[]) => number): Growth | null {
  const quarter = values.length / 4;
  const known = (from: number, to: number) =>
    values.slice(Math.floor(from * quarter), Math.floor(to * quarter)).filter((value) => value !== null);
  const [second, last] = [known(1, 2), known(3, 4)];
  if (second.length < MIN_VALUES || last.length < MIN_VALUES) return null;
  const [before, after] = [summary(second), summary(last)];
  return { before, after, percent: Math.round(((after - before) / Math.max(before, least)) * 1000) / 10 };
}

/** The lives of a process as ranges of rows [first, end): another start time is another process. */
function livesOf({ memory = [], files = [], starts = [] }: Observed): [first: number, end: number][] {
  const lives: [number, number][] = [];
  let start: number | undefined;
  for (let row = 0; row < Math.max(memory.length, files.length); row++) {
    if (memory[row] == null && files[row] == null) continue;
    const life = lives.at(-1);
    const isSame = life !== undefined && (starts[row] == null || start === undefined || starts[row] === start);
    if (isSame) life[1] = row + 1;
    else lives.push([row, row + 1]);
    if (!isSame) start = undefined;
    start = starts[row] ?? start;
  }
  return lives;
}

/** Processes that lived long enough, those of one pod in the order of their starts. */
function growthOfProcesses(observed: readonly Observed[]): ProcessGrowth[] {
  return observed
    .flatMap((one) => {
      const { pod, container, memory = [], files = [] } = one;
      const long = livesOf(one).filter(([first, end]) => (end - 1 - first) * STEP_MS >= MIN_LIFE_MS);
      return long.map(([first, end]) => ({
        ...{ pod, container, minutes: Math.round(((end - 1 - first) * STEP_MS) / 60_000) },
        memory_mebibytes: growthOf(memory.slice(first, end).map(mebibytes), 0, (known) => Math.min(...known)),
        open_files: growthOf(files.slice(first, end), FEW_FILES, (known) => median(known)!),
      }));
    })
    .toSorted((a, b) => a.pod.localeCompare(b.pod));
}

const mebibytes = (bytes: number | null) => (bytes === null ? null : Math.round((bytes / MEBIBYTE) * 10) / 10);

/** Reads the processes of the pipeline between two moments. @throws OperatorError with Prometheus' message */
export async function readProcessGrowth(
  reader: Pick<PrometheusReader, "range">,
  { startMs, endMs }: { startMs: number; endMs: number },
  signal?: AbortSignal,
): Promise<ProcessGrowth[]> {
  const steps = Math.floor((endMs - startMs) / STEP_MS);
  const timesMs = Array.from({ length: steps + 1 }, (_, step) => startMs + step * STEP_MS);
  const observed = new Map<string, Observed>();
  for (const [name, promql] of Object.entries(QUERIES)) {
    for (const { labels, values } of await reader.range(promql, timesMs, signal)) {
      const { pod = "", container = "", instance = "", name: id = "" } = labels;
      const key = [pod, container, instance, id].join(" ");
      observed.set(key, { ...(observed.get(key) ?? { pod, container }), [name]: values });
    }
  }
  return growthOfProcesses([...observed.values()]);
}

/** The largest growth of all processes; null when none lived long enough. */
export const largestGrowth = (
  processes: readonly ProcessGrowth[],
  name: "memory_mebibytes" | "open_files",
): number | null => largest(processes.flatMap((one) => one[name]?.percent ?? []));
