/** HistoryWriter, openHistory and IdentityTable. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { appendFile, mkdtemp, readdir, readFile, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HistoryWriter, openHistory, type Records } from "../../../scripts/audit/history.ts";
import { IdentityTable } from "../../../scripts/audit/identity-table.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "conveyor-history-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function read<K extends "attempts" | "sink">(kind: K): Promise<Records[K][]> {
  const records: Records[K][] = [];
  await (await openHistory(folder)).each(kind, (record) => void records.push(record));
  return records;
}

describe("HistoryWriter and openHistory", () => {
  test("return records in order, over many blocks", async () => {
    const writer = await HistoryWriter.open(folder);
    const sent = Array.from({ length: 5000 }, (_, seq) => ({ run: "r", conveyor: "förderband", seq, t_ms: seq }));
    for (const record of sent) await writer.append("attempts", record);
    await writer.close({ quiescent: true });
    expect(await read("attempts")).toEqual(sent);
    expect((await openHistory(folder)).meta).toEqual({ quiescent: true });
  });

  test("a begun kind without records is recorded, a kind that was not begun is not", async () => {
    const writer = await HistoryWriter.open(folder);
    await writer.begin("dlq");
    await writer.close({});
    const history = await openHistory(folder);
    expect(history.recorded("dlq")).toBe(true);
    expect(history.recorded("log")).toBe(false);
  });

  test("sync resolves after the record is on disk", async () => {
    const writer = await HistoryWriter.open(folder);
    await writer.append("attempts", { run: "r", conveyor: "c", seq: 0 });
    await writer.sync("attempts");
    expect(await readFile(join(folder, "attempts.jsonl"), "utf8")).toBe('{"run":"r","conveyor":"c","seq":0}\n');
    await writer.close({});
  });

  test("skip an incomplete last line; an invalid line elsewhere is an error with file and line number", async () => {
    const writer = await HistoryWriter.open(folder);
    await writer.append("sink", { run: "r", conveyor: "c", seq: 0 });
    await writer.close({});
    await appendFile(join(folder, "sink.jsonl"), '{"run":"r","conv');
    expect(await read("sink")).toHaveLength(1);
    await appendFile(join(folder, "sink.jsonl"), "\n");
    expect(read("sink")).rejects.toThrow("sink.jsonl:2: is not JSON");
  });

  test("an interrupted recording closes its files and is rejected", async () => {
    const openFiles = async () =>
      (
        await Promise.all((await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")))
      ).filter((path) => path.startsWith(folder));
    const interrupted = async () => {
      await using writer = await HistoryWriter.open(folder);
      await writer.append("attempts", { run: "r", conveyor: "c", seq: 0 });
      expect(await openFiles()).toHaveLength(1);
      throw new Error("interrupted");
    };
    await expect(interrupted()).rejects.toThrow("interrupted");
    expect(await openFiles()).toEqual([]);
    await expect(openHistory(folder)).rejects.toThrow("meta.json");
  });

  test("openHistory rejects a folder without meta.json", async () => {
    expect(openHistory(folder)).rejects.toThrow("meta.json");
  });
});

describe("IdentityTable", () => {
  const id = (seq: number, conveyor = "c") => ({ run: "r", conveyor, seq });

  test("addRange equals add of each event, for ranges of any alignment", () => {
    const table = new IdentityTable();
    for (const [first, last] of [
      [5, 5],
      [30, 70],
      [1000, 5000],
      [999_999_999_990, 999_999_999_999],
    ] as const) {
      table.addRange("sink", id(first), last);
      for (let seq = first; seq <= last; seq++) table.add("log", id(seq));
    }
    expect(table.select((word) => word("sink") ^ word("log")).count).toBe(0);
    expect(table.select((word) => word("sink")).count).toBe(1 + 41 + 4001 + 10);
    expect(table.addRange("sink", id(69), 72)).toBe(2);
    expect(table.has("sink", id(71))).toBe(true);
    expect(table.has("sink", id(73))).toBe(false);
  });

  test("select returns the number of events and at most five examples", () => {
    const table = new IdentityTable();
    table.addRange("acknowledged", id(0), 9999);
    table.addRange("sink", id(0), 9989);
    expect(table.select((word) => word("acknowledged") & ~word("sink"))).toEqual({
      count: 10,
      examples: [9990, 9991, 9992, 9993, 9994].map((seq) => id(seq)),
    });
  });

  test("rejects invalid sequence numbers and ranges", () => {
    const table = new IdentityTable();
    expect(() => table.add("log", id(-1))).toThrow("seq");
    expect(() => table.addRange("log", id(5), 4)).toThrow("last_seq");
    expect(() => table.addRange("log", id(0), 1e12)).toThrow("last_seq");
  });
});
