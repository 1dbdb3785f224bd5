/**
 * InfluxDB's start script on folders like InfluxDB's, with a fake influxd that prints that it was started.
 * With the real influxd: tests/integration/disk-full.test.ts.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { influxStartScript } from "../servers/real-servers.ts";

const script = await influxStartScript();
/** Larger than any volume. */
const NO_ROOM = script.replace(/ROOM_BYTES=.*/, "ROOM_BYTES=$((1 << 62))");

let folder: string;
const engine = () => join(folder, "data", "engine");

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "conveyor-influxdb-start-"));
  await mkdir(join(folder, "bin"));
  await mkdir(join(folder, "data"));
  await writeFile(join(folder, "bin", "influxd"), "#!/bin/bash\necho started as $$\n");
  await chmod(join(folder, "bin", "influxd"), 0o755);
});
afterEach(async () => await rm(folder, { recursive: true, force: true }));

const start = (text: string) =>
  Bun.spawn(["bash", "-c", text], {
    env: { PATH: `${join(folder, "bin")}:${process.env.PATH}`, INFLUXD_ENGINE_PATH: engine() },
    stdout: "pipe",
    stderr: "pipe",
  });

async function run(text = script) {
  const child = start(text);
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { pid: child.pid, exitCode: await child.exited, stdout, stderr };
}

async function files(content: Record<string, string>): Promise<void> {
  for (const [path, text] of Object.entries(content)) {
    await mkdir(dirname(join(engine(), path)), { recursive: true });
    await writeFile(join(engine(), path), text);
  }
}

/** Path → size of the files in the engine's folder. */
async function found(): Promise<Record<string, number>> {
  const names = (await readdir(engine(), { recursive: true })).sort();
  const stats = await Promise.all(names.map(async (name) => [name, await stat(join(engine(), name))] as const));
  return Object.fromEntries(stats.filter(([, it]) => it.isFile()).map(([name, it]) => [name, it.size]));
}

test("an empty volume: execs influxd and prints nothing", async () => {
  const { pid, ...answer } = await run();
  expect(answer).toEqual({ exitCode: 0, stdout: `started as ${pid}\n`, stderr: "" });
  expect(await readdir(join(folder, "data"))).toEqual([]);
});

describe("write-ahead log", () => {
  test("adds an empty last segment to each shard and changes no other file", async () => {
    const before = {
      "wal/b1/autogen/1/_00001.wal": "older",
      "wal/b1/autogen/1/_00007.wal": "last, torn",
      // Decimal, not octal, and of the same length.
      "wal/b1/autogen/2/_00009.wal": "x",
      "wal/b1/autogen/2/other.txt": "x",
      "wal/b2/autogen/30/_00099.wal": "x",
    };
    await files(before);
    await mkdir(join(engine(), "wal/b2/autogen/31"));
    expect((await run()).exitCode).toBe(0);
    expect(await found()).toEqual({
      ...Object.fromEntries(Object.entries(before).map(([name, text]) => [name, text.length])),
      "wal/b1/autogen/1/_00008.wal": 0,
      "wal/b1/autogen/2/_00010.wal": 0,
      "wal/b2/autogen/30/_00100.wal": 0,
    });
    expect(await readFile(join(engine(), "wal/b1/autogen/1/_00007.wal"), "utf8")).toBe("last, torn");
  });

  test("repeated starts without a write add one segment only", async () => {
    await files({ "wal/b1/autogen/1/_00001.wal": "x" });
    for (let times = 0; times < 3; times++) await run();
    expect(await found()).toEqual({ "wal/b1/autogen/1/_00001.wal": 1, "wal/b1/autogen/1/_00002.wal": 0 });
  });

  test("influxd is not started when the segment cannot be created", async () => {
    await files({ "wal/b1/autogen/1/_00001.wal": "x" });
    // A missing folder, since permissions do not restrict root, who may run this test.
    const refused = script.replace(': > "$next"', ': > "$next/refused"');
    expect(refused).not.toBe(script);
    const { exitCode, stdout } = await run(refused);
    expect(exitCode).not.toBe(0);
    expect(stdout).not.toContain("started");
  });
});

test("removes field lists, keeps points and index", async () => {
  const kept = {
    "data/b1/_series/00/0000": "x",
    "data/b1/autogen/1/000000001-000000001.tsm": "x",
    "data/b1/autogen/1/index/0/L0-00000001.tsl": "x",
    "data/b1/autogen/1/index/0/MANIFEST": "x",
  };
  await files({ ...kept, "data/b1/autogen/1/fields.idx": "x", "data/b1/autogen/2/fields.idxl": "x" });
  expect((await run()).exitCode).toBe(0);
  expect(Object.keys(await found())).toEqual(Object.keys(kept));
});

describe("a full volume", () => {
  test("waits, logs the reason and changes no file; SIGTERM ends it at once", async () => {
    await files({ "wal/b1/autogen/1/_00001.wal": "x", "data/b1/autogen/1/fields.idx": "x" });
    const child = start(NO_ROOM);
    const reader = child.stdout.getReader();
    const said = new TextDecoder().decode((await reader.read()).value);
    expect(said).toMatch(
      /^ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ lvl=warn msg="waiting for room on the volume: \d+ bytes are free, InfluxDB needs \d+ to start" service=start\n$/,
    );
    child.kill("SIGTERM");
    expect(await child.exited).toBe(143);
    expect(Object.keys(await found())).toEqual(["data/b1/autogen/1/fields.idx", "wal/b1/autogen/1/_00001.wal"]);
  });

  test("exits 1 with the reason before the start-up probe's limit", async () => {
    const limit = Number(/ROOM_LIMIT_SECONDS=(\d+)/.exec(script)?.[1]);
    expect(limit).toBeGreaterThan(0);
    expect(limit).toBeLessThan(600);
    const { exitCode, stdout } = await run(NO_ROOM.replace(/ROOM_LIMIT_SECONDS=\d+/, "ROOM_LIMIT_SECONDS=0"));
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(
      /lvl=error msg="no room on the volume after \d+ s: \d+ bytes are free, InfluxDB needs \d+ to start"/,
    );
    expect(stdout).not.toContain("started");
  });
});
