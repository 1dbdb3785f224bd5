import { describe, expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { BUCKET_RETENTION_MS, checkEventTime, MAX_AHEAD_MS } from "../../../services/domain/event-window.ts";

const NOW_MS = 1_795_000_000_000;

describe("checkEventTime", () => {
  test("accepts both ends of the window and refuses the next millisecond, with limit and value", () => {
    const [least, most] = [NOW_MS - BUCKET_RETENTION_MS, NOW_MS + MAX_AHEAD_MS];
    expect([least, NOW_MS, most].map((ts) => checkEventTime(ts, NOW_MS))).toEqual([undefined, undefined, undefined]);
    expect(checkEventTime(least - 1, NOW_MS)).toEqual({
      reason: "bad_timestamp",
      field: "ts",
      detail: `ts: must be at least ${least} (30 days ago, the retention); got ${least - 1}`,
    });
    expect(checkEventTime(most + 1, NOW_MS)).toEqual({
      reason: "bad_timestamp",
      field: "ts",
      detail: `ts: must be at most ${most} (1 day ahead of the clock); got ${most + 1}`,
    });
  });
});

describe("the retention", () => {
  test("is the one that the documentation and the dashboard name", async () => {
    const root = join(import.meta.dir, "../../..");
    const days = `${BUCKET_RETENTION_MS / 86_400_000} days`;
    expect(await readFile(join(root, "docs/events.md"), "utf8")).toContain(`retention of InfluxDB (${days})`);
    const dashboard = await readFile(join(root, "k8s/grafana/dashboards/processor-influxdb.json"), "utf8");
    expect(dashboard).toContain(`retention is ${days}.`);
  });

  test("is defined once: no other file of services or scripts holds the number of days in milliseconds or seconds", async () => {
    const root = join(import.meta.dir, "../../..");
    const numbers = /\b(?:2_?592_?000(?:_?000)?|30 \* 86_400(?:_000)?|30 \* DAY_MS)\b/;
    const found: string[] = [];
    for (const folder of ["services", "scripts"]) {
      for (const name of await readdir(join(root, folder), { recursive: true })) {
        if (!name.endsWith(".ts")) continue;
        if (numbers.test(await readFile(join(root, folder, name), "utf8"))) found.push(`${folder}/${name}`);
      }
    }
    // The certificates' renewal period is another 30 days.
    expect(found.filter((path) => path !== "scripts/deploy/certificates.ts")).toEqual([
      "services/domain/event-window.ts",
    ]);
  });
});
