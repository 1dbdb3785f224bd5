/** Goal: each process is compared with itself, whatever drills replace. Method: series by hand, as Prometheus returns them. */
import { describe, expect, test } from "bun:test";
import type { RangeSeries } from "../../../scripts/clients/prometheus.ts";
import { largestGrowth, readProcessGrowth } from "../../../scripts/load/process-growth.ts";

const MEBIBYTE = 1024 * 1024;
const STEP_MS = 15_000;
const HOUR_MS = 3_600_000;
const ROWS = HOUR_MS / STEP_MS + 1;

const constant = (value: number | null) => Array<number | null>(ROWS).fill(value);
/** The values of a process from one row to before another; it is not scraped otherwise. */
const between = (from: number, to: number, value: (row: number) => number) =>
  Array.from({ length: ROWS }, (_, row) => (row >= from && row < to ? value(row - from) : null));

interface Series {
  labels?: Record<string, string>;
  memory?: (number | null)[];
  files?: (number | null)[];
  starts?: (number | null)[];
}

async function growth(...series: Series[]) {
  const queries: string[] = [];
  const reader = {
    range: async (promql: string, timesMs: readonly number[]): Promise<RangeSeries[]> => {
      queries.push(promql);
      expect([timesMs.length, timesMs[1]! - timesMs[0]!, timesMs[0]]).toEqual([ROWS, STEP_MS, 1000]);
      const name = promql.includes("resident") ? "memory" : promql.includes("open_fds") ? "files" : "starts";
      return series.flatMap(({ labels = { pod: "kafka-0", container: "kafka", instance: "a" }, [name]: values }) =>
        values ? [{ labels, values }] : [],
      );
    },
  };
  return await readProcessGrowth(reader, { startMs: 1000, endMs: 1000 + HOUR_MS + 5 });
}

describe("readProcessGrowth", () => {
  test("compares the second with the last quarter, of memory and of open files", async () => {
    const memory = between(0, ROWS, (row) => (row < ROWS / 2 ? 100 : 130) * MEBIBYTE);
    const files = between(0, ROWS, (row) => (row < ROWS / 2 ? 200 : 190));
    expect(await growth({ memory, files, starts: constant(5) })).toEqual([
      {
        ...{ pod: "kafka-0", container: "kafka", minutes: 60 },
        memory_mebibytes: { before: 100, after: 130, percent: 30 },
        open_files: { before: 200, after: 190, percent: -5 },
      },
    ]);
  });

  test("memory is what remains between cycles: they are no growth, a leak below them is", async () => {
    // A cycle of 12 minutes whose peak is in the last quarter and not in the second.
    const cycle = (row: number) => 100 + 2 * ((row + 15) % 48);
    const memory = (leak: number) => between(0, ROWS, (row) => (cycle(row) + leak * row) * MEBIBYTE);
    expect(largestGrowth(await growth({ memory: memory(0) }), "memory_mebibytes")).toBe(0);
    expect(largestGrowth(await growth({ memory: memory(0.5) }), "memory_mebibytes")).toBeGreaterThan(30);
  });

  test("a restarted process is another one, in the same pod and in a new one; a short life does not count", async () => {
    // 30 minutes with 100 MiB, a scrape without an answer, then a new process with 400 MiB for 25 minutes.
    const memory = between(0, 220, (row) => (row < 120 ? 100 : 400) * MEBIBYTE);
    memory[60] = null;
    const starts = between(0, 220, (row) => (row < 120 ? 5 : 1900));
    const replaced = { pod: "kafka-0", container: "kafka", instance: "b" };
    const short = between(222, ROWS, (row) => (100 + 50 * row) * MEBIBYTE);
    const found = await growth({ memory, starts }, { labels: replaced, memory: short, starts: constant(3200) });
    expect(found.map(({ minutes, memory_mebibytes }) => [minutes, memory_mebibytes?.percent])).toEqual([
      [30, 0],
      [25, 0],
    ]);
    expect(largestGrowth(found, "memory_mebibytes")).toBe(0);
    expect(largestGrowth(found, "open_files")).toBeNull();
  });

  test("a process without its own start time (cAdvisor) is one per container", async () => {
    const labels = (name: string) => ({ pod: "influxdb-0", container: "influxdb", instance: "node", name });
    const found = await growth(
      { labels: labels("1"), files: between(0, 100, () => 60) },
      { labels: labels("2"), files: between(101, ROWS, () => 900) },
    );
    expect(found.map(({ minutes, open_files }) => [minutes, open_files?.after])).toEqual([
      [25, 60],
      [35, 900],
    ]);
  });

  test("a few more files of a small process are in percent of fifty", async () => {
    const files = between(0, ROWS, (row) => (row < ROWS / 2 ? 12 : 17));
    expect(largestGrowth(await growth({ files }), "open_files")).toBe(10);
    const leaking = between(0, ROWS, (row) => 12 + row);
    expect(largestGrowth(await growth({ files: leaking }), "open_files")).toBeGreaterThan(100);
  });

  test("nothing is measured in a load shorter than twenty minutes", async () => {
    expect(await growth({ memory: between(0, 79, () => MEBIBYTE), starts: constant(5) })).toEqual([]);
    expect(largestGrowth([], "memory_mebibytes")).toBeNull();
  });
});
