import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type DaemonFolders,
  endProcesses,
  ensureDaemon,
  identify,
  isAlive,
  livingDaemon,
  markedProcesses,
  mustLive,
  readPidFile,
  startTicksOf,
  stopDaemons,
} from "../../../scripts/local-cluster/processes.ts";
import { eventually } from "../../eventually.ts";

let folders: DaemonFolders;
beforeAll(async () => {
  const root = await mkdtemp(join(tmpdir(), "conveyor-processes-"));
  folders = { state: root, run: join(root, "run"), logs: join(root, "logs"), path: [] };
});
afterAll(async () => {
  await endProcesses(await markedProcesses(folders.state), { signal: "SIGKILL" });
  await rm(folders.state, { recursive: true, force: true });
});

const sleeper = (name: string, extra: { command?: string[]; reads?: string[] } = {}) => ({
  name,
  command: extra.command ?? ["sleep", "300"],
  ...(extra.reads ? { reads: extra.reads } : {}),
});

describe("startTicksOf", () => {
  test("reads the start time after a name with spaces and brackets", () => {
    const fields = Array.from({ length: 50 }, (_, index) => String(index + 3));
    fields[0] = "S";
    expect(startTicksOf(`12 (a) R (b) c) ${fields.join(" ")}`)).toBe(22);
  });

  test("returns undefined for a zombie", () => {
    const fields = Array.from({ length: 50 }, (_, index) => String(index + 3));
    fields[0] = "Z";
    expect(startTicksOf(`12 (x) ${fields.join(" ")}`)).toBeUndefined();
  });
});

describe("daemons", () => {
  test("ensureDaemon finds a running program and does not start another", async () => {
    const first = await ensureDaemon(sleeper("same"), folders);
    const second = await ensureDaemon(sleeper("same"), folders);
    expect(first.started).toBe(true);
    expect(second.started).toBe(false);
    expect(second.file.pid).toBe(first.file.pid);
  });

  test("ensureDaemon restarts a program whose command or input files changed", async () => {
    const first = await ensureDaemon(sleeper("changed", { reads: ["a"] }), folders);
    const second = await ensureDaemon(sleeper("changed", { reads: ["b"] }), folders);
    const third = await ensureDaemon(sleeper("changed", { command: ["sleep", "301"], reads: ["b"] }), folders);
    expect(new Set([first.file.pid, second.file.pid, third.file.pid]).size).toBe(3);
    expect(isAlive(first.file)).toBe(false);
    expect(isAlive(second.file)).toBe(false);
  });

  test("a process id that now belongs to another process is not ours and is not killed", async () => {
    const { file } = await ensureDaemon(sleeper("recycled"), folders);
    await Bun.sleep(50); // start times are counted in hundredths of a second
    const stranger = Bun.spawn(["sleep", "300"]);
    try {
      const forged = { ...file, pid: stranger.pid };
      await writeFile(join(folders.run, "recycled.json"), JSON.stringify(forged));
      expect(await livingDaemon(folders.run, "recycled")).toBeUndefined();
      await stopDaemons(folders.run, ["recycled"]);
      expect(identify(stranger.pid)).toBeDefined();
    } finally {
      stranger.kill();
      await stranger.exited;
    }
  });

  test("a pid file of an earlier boot matches no process", async () => {
    const { file } = await ensureDaemon(sleeper("rebooted"), folders);
    expect(isAlive(file)).toBe(true);
    expect(isAlive({ ...file, boot_id: "another" })).toBe(false);
  });

  test("a truncated pid file counts as none", async () => {
    await ensureDaemon(sleeper("torn"), folders);
    await writeFile(join(folders.run, "torn.json"), '{"pid": 12');
    expect(await readPidFile(folders.run, "torn")).toBeUndefined();
    expect((await ensureDaemon(sleeper("torn"), folders)).started).toBe(true);
  });

  test("endProcesses kills a program that ignores SIGTERM after the limit", async () => {
    const deaf = sleeper("deaf", { command: ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done"] });
    const { file } = await ensureDaemon(deaf, folders);
    const log = join(folders.logs, "deaf.log");
    await eventually("it to ignore signals", async () => (await readFile(log, "utf8")).includes("deaf"));
    await endProcesses([file], { termLimitMs: 100 });
    expect(isAlive(file)).toBe(false);
  });

  test("mustLive reports an ended program with the end of its log", async () => {
    const { file } = await ensureDaemon(
      sleeper("dying", { command: ["sh", "-c", "sleep 0.05; echo no such disk"] }),
      folders,
    );
    await eventually("its end", () => !isAlive(file));
    const error = (await mustLive(file, folders.logs).catch((caught) => caught)) as Error;
    expect(error.message).toBe("dying has ended");
    expect((error.cause as Error).message).toContain("no such disk");
  });

  test("markedProcesses finds a process without a pid file by its mark, only for its state folder", async () => {
    const { file } = await ensureDaemon(sleeper("stray"), folders);
    await rm(join(folders.run, "stray.json"));
    // Until the child has executed its program, its environment is that of this process.
    await eventually("the mark", async () => {
      const found = await markedProcesses(folders.state);
      return found.some(({ pid }) => pid === file.pid);
    });
    expect((await markedProcesses(`${folders.state}-other`)).length).toBe(0);
  });
});
