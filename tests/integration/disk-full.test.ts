/**
 * InfluxDB on a full disk: every point acknowledged with 204 is found after the following restarts. The disk is a small
 * file system in memory, so the errors are the kernel's.
 *
 * Each test first shows the failure without the start script of k8s/influxdb. When that part fails with a newer influxd,
 * the corresponding part of the script can be removed.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { appendFileSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { MEASUREMENT } from "../../services/domain/point.ts";
import { RealServers } from "../servers/real-servers.ts";
import { skipReason, until } from "./harness.ts";

/** The start script requires 64 MiB free; InfluxDB writes less than one here. */
const DISK_MEBIBYTES = 96;
const DAY_MS = 86_400_000;
const START_LIMIT_MS = 30_000;
const CONVEYORS = 100;

const mounts = process.getuid?.() === 0 && Bun.which("mount") !== null && Bun.which("umount") !== null;
const skipped = (await skipReason()) ?? (mounts ? undefined : "only root can mount the small disk");

async function must(...command: string[]): Promise<void> {
  const child = Bun.spawn(command, { stdout: "ignore", stderr: "pipe" });
  const said = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")}: ${said}`);
}

/** InfluxDB on a small disk, and the points that it acknowledged. */
class Database {
  /** Timestamps, in InfluxDB's format, of points acknowledged with 204. */
  readonly #answered = new Set<string>();
  #written = 0;
  readonly #midnightMs = Math.floor(Date.now() / DAY_MS) * DAY_MS;

  private constructor(readonly servers: RealServers) {}

  static async start(bare: boolean): Promise<Database> {
    const servers = await RealServers.start({ brokers: 0, influx: false });
    try {
      await mkdir(servers.influxData);
      await must("mount", "-t", "tmpfs", "-o", `size=${DISK_MEBIBYTES}m`, "conveyor-test", servers.influxData);
      await servers.startInflux({ bare });
      // As in the pipeline: shards of one day.
      await servers.onboardInflux((30 * DAY_MS) / 1000);
    } catch (error) {
      await new Database(servers).stop();
      throw error;
    }
    return new Database(servers);
  }

  get #ballast(): string {
    return join(this.servers.influxData, "ballast");
  }

  /** Fills the disk completely. */
  fill(): void {
    for (const piece of [Buffer.alloc(1024 * 1024), Buffer.alloc(1)]) {
      try {
        for (;;) appendFileSync(this.#ballast, piece);
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).toBe("ENOSPC");
      }
    }
  }

  async free(): Promise<void> {
    await rm(this.#ballast);
  }

  /** Writes `points` points of as many conveyors, of a day some days ago. @returns status and text */
  async write(points: number, conveyors: number, daysAgo: number): Promise<string> {
    const times = Array.from({ length: points }, () => this.#midnightMs - daysAgo * DAY_MS + ++this.#written);
    const lines = times.map(
      (time, at) => `${MEASUREMENT},conveyor=c-${at % conveyors} seq=${time % 1_000_000}i,state="running" ${time}`,
    );
    const answer = await this.servers.influx("/api/v2/write?org=conveyor&bucket=telemetry&precision=ms", {
      method: "POST",
      body: lines.join("\n"),
    });
    if (answer.status === 204) for (const time of times) this.#answered.add(new Date(time).toISOString());
    return `${answer.status} ${await answer.text()}`.trim();
  }

  /** Kills and restarts InfluxDB. */
  async restart(bare: boolean): Promise<void> {
    await this.servers.kill("influxdb");
    await this.servers.startInflux({ bare });
  }

  /** Number of acknowledged points missing in a query of their day only: shards of other days may know their series. */
  async missing(): Promise<number> {
    const found = new Set<string>();
    for (const day of new Set([...this.#answered].map((time) => time.slice(0, 10)))) {
      const csv = await this.servers.query(
        `from(bucket: "telemetry") |> range(start: ${day}T00:00:00Z, stop: ${day}T23:59:59Z)` +
          ` |> filter(fn: (r) => r._field == "seq") |> group() |> keep(columns: ["_time"])`,
      );
      for (const time of csv.match(/\d{4}-\d\d-\d\dT[\d:.]+Z/g) ?? []) found.add(new Date(time).toISOString());
    }
    return [...this.#answered].filter((time) => !found.has(time)).length;
  }

  async stop(): Promise<void> {
    await this.servers.kill("influxdb");
    await must("umount", this.servers.influxData).catch(() => {});
    await this.servers.stop();
  }
}

describe.skipIf(skipped !== undefined)(`InfluxDB's disk is full${skipped ? ` (skipped: ${skipped})` : ""}`, () => {
  let database: Database | undefined;
  let bare = false;
  beforeEach(() => {
    database = undefined;
  });
  afterEach(async () => await database?.stop());

  describe.each([
    ["with the start script", false],
    ["influxd by itself (it still has the fault)", true],
  ] as const)("%s", (_, withoutScript) => {
    beforeEach(async () => {
      bare = withoutScript;
      database = await Database.start(bare);
    }, START_LIMIT_MS);

    test(
      "a write did not fit into the write-ahead log",
      async () => {
        const it = database!;
        expect(await it.write(1000, CONVEYORS, 1)).toBe("204");
        it.fill();
        expect(await it.write(20_000, CONVEYORS, 1)).toMatch(/^5\d\d .*no space left on device/);
        await it.free();
        // Free space is not enough (docs/runbooks/VolumeFilling.md).
        expect(await it.write(1000, CONVEYORS, 1)).toMatch(/^5\d\d .*no space left on device/);
        await it.restart(bare);
        expect(await it.missing()).toBe(0);
        expect(await it.write(500, CONVEYORS, 1)).toBe("204");
        expect(await it.missing()).toBe(0);
        await it.restart(bare);
        expect(await it.missing()).toBe(bare ? 500 : 0);
      },
      START_LIMIT_MS,
    );

    test(
      "series did not fit into the index of a new shard",
      async () => {
        const it = database!;
        expect(await it.write(CONVEYORS, CONVEYORS, 1)).toBe("204");
        // One conveyor creates the next day's shard while there is space.
        expect(await it.write(1, 1, 0)).toBe("204");
        it.fill();
        expect(await it.write(CONVEYORS, CONVEYORS, 0)).toMatch(/^5\d\d .*no space left on device/);
        await it.free();
        // Now the same write is accepted, without a restart.
        expect(await it.write(CONVEYORS, CONVEYORS, 0)).toBe("204");
        expect(await it.missing()).toBe(0);
        await it.restart(bare);
        if (bare) expect(await it.missing()).toBeGreaterThan(0);
        else expect(await it.missing()).toBe(0);
      },
      START_LIMIT_MS,
    );
  });

  test(
    "a start on a full disk waits for space, then opens all shards",
    async () => {
      database = await Database.start(false);
      const it = database;
      expect(await it.write(1000, CONVEYORS, 1)).toBe("204");
      it.fill();
      expect(await it.write(20_000, CONVEYORS, 1)).toMatch(/^5\d\d /);
      await it.servers.kill("influxdb");
      const started = it.servers.startInflux();
      const said = await until(
        "the start script to say what it waits for",
        START_LIMIT_MS,
        async () => /waiting for room.*/.exec(await it.servers.log("influxdb"))?.[0],
      );
      expect(said).toContain("on the volume: 0 bytes are free, InfluxDB needs 67108864 to start");
      await it.free();
      await started;
      expect(await it.missing()).toBe(0);
      expect(await it.write(1000, CONVEYORS, 1)).toBe("204");
      await it.restart(false);
      expect(await it.missing()).toBe(0);
    },
    START_LIMIT_MS,
  );
});
