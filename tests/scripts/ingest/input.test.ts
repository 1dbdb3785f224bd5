/** The first bytes of an input: NDJSON passes unchanged, other formats are refused before anything is sent. */
import { describe, expect, test } from "bun:test";
import { deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { type Input, type InputOptions, readInput } from "../../../scripts/ingest/input.ts";
import { exampleEvent } from "../../../services/domain/event.ts";
import { csvSettings } from "../../../services/domain/formats/csv-settings.ts";

const events = [0, 1, 2].map((seq) =>
  exampleEvent({ conveyor: "belt-1", run: "r1", seq, ts: 1_764_038_400_000 + seq }),
);
const ndjson = `${events.map((event) => JSON.stringify(event)).join("\n")}\n`;
const encode = (text: string) => new TextEncoder().encode(text);
const csv = (separator: string) =>
  [Object.keys(events[0]!), ...events.map((event) => Object.values(event))]
    .map((row) => row.join(separator))
    .join("\n");

/** The input in chunks of this size. */
async function* chunks(bytes: Uint8Array, size: number) {
  for (let from = 0; from < bytes.length; from += size) yield bytes.slice(from, from + size);
}

const { signal } = new AbortController();

const read = (bytes: Uint8Array, size = bytes.length, options: Partial<InputOptions> = {}) =>
  readInput(() => chunks(bytes, Math.max(1, size)), true, {
    csv: csvSettings({}),
    precision: "ns",
    signal,
    ...options,
  });

async function bytesOf({ lines }: Input): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of lines) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

const passed = async (bytes: Uint8Array, size?: number) => await bytesOf(await read(bytes, size));
const eventsIn = async (bytes: Uint8Array, size?: number, options?: Partial<InputOptions>) => {
  const text = Buffer.from(await bytesOf(await read(bytes, size, options))).toString();
  return text.split("\n").filter((line) => line !== "");
};

describe("passes unchanged", () => {
  test.each([
    ["NDJSON", ndjson],
    ["one event without line break", JSON.stringify(events[0])],
    ["blank lines and CRLF", `\r\n\n${ndjson.replaceAll("\n", "\r\n")}`],
    ["a byte order mark", `\ufeff${ndjson}`],
    ["an invalid first line", `no event at all\n${ndjson}`],
    ["a first line that was cut", `{"v":1,"conveyor":\n${ndjson}`],
    ["a first line with commas before events", `a,b,c\n${ndjson}`],
    ["an array of values as the first line", `["r1",0]\n${ndjson}`],
    ["a log line as the first line", `[2026-01-01] sent\n${ndjson}`],
    ["a first line longer than what is looked at", `{"note":"${"x".repeat(100_000)}"}\n${ndjson}`],
  ])("%s", async (_, text) => {
    const bytes = encode(text);
    for (const size of [1, 7, bytes.length]) expect(await passed(bytes, size)).toEqual(bytes);
  });

  test("a source that sends its first event and waits", async () => {
    const first = encode(`${JSON.stringify(events[0])}\n`);
    const waiting = (async function* () {
      yield first;
      await new Promise(() => {});
    })();
    const { lines } = await readInput(() => waiting, false, { csv: csvSettings({}), precision: "ns", signal });
    expect((await lines[Symbol.asyncIterator]().next()).value).toEqual(first);
  });
});

const utf16be = (text: string) => Buffer.from(text, "utf16le").swap16();
const pretty = events.map((event) => JSON.stringify(event, null, 2)).join("\n");
const array = JSON.stringify(events);

describe("reads as the same events", () => {
  test.each<[string, Uint8Array]>([
    ["gzip", gzipSync(ndjson)],
    ["gzip in two parts", Buffer.concat([gzipSync(ndjson.slice(0, 100)), gzipSync(ndjson.slice(100))])],
    ["zlib", deflateSync(ndjson)],
    ["zstd", zstdCompressSync(ndjson)],
    ["UTF-16 with a byte order mark", Buffer.from(`\ufeff${ndjson}`, "utf16le")],
    ["UTF-16 without one", Buffer.from(ndjson, "utf16le")],
    ["UTF-16 in the other order", utf16be(ndjson)],
    ["UTF-16 in gzip", gzipSync(utf16be(`\ufeff${ndjson}`))],
    ["an array", encode(array)],
    ["an array over several lines, with a byte order mark", encode(`\ufeff${JSON.stringify(events, null, 2)}`)],
    ["an array a line", encode(events.map((event) => JSON.stringify([event])).join("\n"))],
    ["objects over several lines", encode(pretty)],
    ["objects over several lines with CRLF", encode(pretty.replaceAll("\n", "\r\n"))],
    ["objects one after the other", encode(ndjson.replaceAll("\n", ""))],
    ["an array in gzip in small parts", gzipSync(array)],
  ])("%s", async (_, bytes) => {
    for (const size of [1, 13, bytes.length]) expect(await eventsIn(bytes, size)).toEqual(ndjson.trim().split("\n"));
  });

  test("a value that is cut off is one line", async () => {
    expect(await eventsIn(encode(`[${ndjson.split("\n")[0]},{"v":1,\n"a":`))).toEqual([
      ndjson.split("\n")[0]!,
      '{"v":1,"a":',
    ]);
  });

  test("line protocol of another precision is in nanoseconds; comments are left out, and invalid lines stay", async () => {
    const text = "# pumps\r\npump v=1i 1764038400000\r\nno point\n\n";
    for (const size of [1, 13, text.length]) {
      expect(await eventsIn(encode(text), size, { precision: "ms" })).toEqual([
        "pump v=1i 1764038400000000000",
        "no point",
      ]);
    }
  });

  test("line protocol passes unchanged", async () => {
    const line = 'pump,source=pump-7,site=hall\\ 1 flow=1.2,note="a, b=c" 1764038400000000000\n';
    for (const size of [1, 13, line.length]) {
      const input = await read(encode(line), size);
      expect(input.format).toBe("line");
      expect(Buffer.from(await bytesOf(input)).toString()).toBe(line);
    }
  });
});

describe("refuses with exit 2 and what to do", () => {
  test.each<[string, Uint8Array, string, string]>([
    ["no byte", encode(""), "the input is empty", "docs/events.md"],
    ["blank lines only", encode("\n \r\n\n"), "empty", "docs/events.md"],
    ["CSV without a mapping", encode(csv(";")), "CSV: measurement: must be given", "its columns: v, conveyor, run"],
    ["a gzip of a tar", gzipSync(tar()), "a gzip of a tar archive", "unpack it"],
    ["gzip twice", gzipSync(gzipSync(ndjson)), "gzip in gzip", "once"],
    ["annotated CSV", encode("#group,false,true\n#datatype,string,long\n"), "annotated CSV", "line protocol"],
    ["windows-1252", Buffer.from("time,Temp \xb0C\n2026-01-01T00:00:00Z,1\n", "latin1"), "not UTF-8", "windows-1252"],
  ])("%s", async (_, bytes, what, hint) => {
    for (const size of [600, bytes.length]) {
      const error = await passed(bytes, size).catch((error: unknown) => error);
      expect(error).toMatchObject({ exitCode: 2, hint: expect.stringContaining(hint) });
      expect((error as Error).message).toContain(what);
      expect((error as Error).message).toEndWith(": nothing was sent");
    }
  });

  test("a named format is not recognised again", async () => {
    const { format } = await read(encode(csv(",")), undefined, { format: "ndjson" });
    expect(format).toBe("ndjson");
  });
});

/** A tar archive of one empty file. */
function tar(): Uint8Array {
  const bytes = new Uint8Array(1024);
  bytes.set(encode("data.csv"), 0);
  bytes.set(encode("ustar"), 257);
  return bytes;
}

describe("a table", () => {
  const text =
    "time,source,flow\n2026-01-01T00:00:00Z,p-1,1.5\n2026-01-01T00:00:01Z,p-1,\n2026-01-01T00:00:01Z,p-2,2\n";
  const mapped = { csv: csvSettings({ measurement: "pump" }) };

  test("of a file: the same content has the same run, compressed or not; another one another run", async () => {
    const plain = await eventsIn(encode(text), undefined, mapped);
    expect(plain.map((event) => JSON.parse(event))).toMatchObject([
      { measurement: "pump", source: "p-1", seq: 0, time: Date.parse("2026-01-01T00:00:00Z"), fields: { flow: 1.5 } },
      { source: "p-2", seq: 0, fields: { flow: 2 } },
    ]);
    for (const size of [1, 13]) expect(await eventsIn(gzipSync(text), size, mapped)).toEqual(plain);
    const [other] = await eventsIn(encode(text.replace("1.5", "1.6")), undefined, mapped);
    expect(JSON.parse(other!).run).not.toBe(JSON.parse(plain[0]!).run);
  });

  test("of stdin has the run that was given", async () => {
    const csv = csvSettings({ measurement: "pump" }, "r7");
    const input = await readInput(() => chunks(encode(text), 9), false, { csv, precision: "ns", signal });
    expect(
      JSON.parse(
        Buffer.from(await bytesOf(input))
          .toString()
          .split("\n")[0]!,
      ).run,
    ).toBe("r7");
    expect(input.table!.emptyRows).toBe(1);
  });

  test("of a file with an error in its last row is refused before anything is sent", async () => {
    const error = await read(encode(`${text}2026-01-01T00:00:01Z,"p-3,2\n`), undefined, mapped).catch((error) => error);
    expect(error).toMatchObject({ exitCode: 2, message: expect.stringContaining("row at line 5") });
  });
});

test("damage is found in a file before it is sent, and in a stream where it is", async () => {
  const large = Array.from({ length: 20_000 }, (_, seq) => `{"seq":${seq},"x":"${Math.sin(seq)}"}\n`).join("");
  for (const compressed of [gzipSync(large), zstdCompressSync(large), deflateSync(large)]) {
    const cut = compressed.subarray(0, compressed.length - 9);
    await expect(read(cut, 1000)).rejects.toThrow("damaged or cut off");
    const input = await readInput(() => chunks(cut, 1000), false, { csv: csvSettings({}), precision: "ns", signal });
    await expect(bytesOf(input)).rejects.toThrow("damaged or cut off");
  }
});

test("an interrupt ends the wait for the first line", async () => {
  const controller = new AbortController();
  const silent = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) };
  const input = readInput(() => silent, false, { csv: csvSettings({}), precision: "ns", signal: controller.signal });
  controller.abort(new Error("interrupted"));
  await expect(input).rejects.toThrow("interrupted");
});
