/** The first bytes of an input: NDJSON passes unchanged, other formats are refused before anything is sent. */
import { describe, expect, test } from "bun:test";
import { gzipSync } from "node:zlib";
import { ndjsonInput } from "../../../scripts/ingest/input-format.ts";
import { exampleEvent } from "../../../services/domain/event.ts";

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

async function passed(bytes: Uint8Array, size = bytes.length): Promise<Uint8Array> {
  const input = await ndjsonInput(chunks(bytes, Math.max(1, size)), new AbortController().signal);
  const parts: Uint8Array[] = [];
  for await (const part of input) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

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
    const input = await ndjsonInput(waiting, new AbortController().signal);
    expect((await input[Symbol.asyncIterator]().next()).value).toEqual(first);
  });
});

describe("refuses with exit 2 and the command that converts it", () => {
  const utf16be = () => Buffer.from(ndjson, "utf16le").swap16();
  test.each<[string, Uint8Array, string, string]>([
    ["gzip", gzipSync(ndjson), "gzip", "zcat FILE | bun scripts/ingest.ts -"],
    ["zstd", Bun.zstdCompressSync(encode(ndjson)), "zstd", "zstdcat FILE"],
    ["UTF-16 with a byte order mark", Buffer.from(`\ufeff${ndjson}`, "utf16le"), "UTF-16", "iconv -f UTF-16 "],
    ["UTF-16 without one", Buffer.from(ndjson, "utf16le"), "UTF-16", "iconv -f UTF-16LE "],
    ["UTF-16 in the other order", utf16be(), "UTF-16", "iconv -f UTF-16BE "],
    ["a JSON array", encode(JSON.stringify(events)), "a JSON array", "jq -c '.[]' FILE"],
    ["a JSON array over several lines", encode(JSON.stringify(events, null, 2)), "a JSON array", "jq -c '.[]' FILE"],
    [
      "objects over several lines",
      encode(JSON.stringify(events[0], null, 2)),
      "objects over several lines",
      "jq -c . FILE",
    ],
    ["objects that begin on their first line", encode('{"v":1,\n"conveyor":"a"}\n'), "several lines", "jq -c . FILE"],
    ["CSV", encode(csv(",")), "CSV", "mlr --icsv --ojsonl cat FILE"],
    ["CSV with semicolons", encode(csv(";")), "CSV", "docs/events.md"],
    ["tab-separated values", encode(csv("\t")), "CSV", "docs/events.md"],
    ["annotated CSV", encode("#group,false,true\n#datatype,string,long\n"), "CSV", "docs/events.md"],
    [
      "line protocol",
      encode('conveyor_telemetry,conveyor=belt-1 speed_mps=1.2,state="running" 1764038400000000000\n'),
      "InfluxDB line protocol",
      "docs/events.md",
    ],
    ["no byte", encode(""), "empty", "docs/events.md"],
    ["blank lines only", encode("\n \r\n\n"), "empty", "docs/events.md"],
  ])("%s", async (_, bytes, what, hint) => {
    for (const size of [1, 13, bytes.length]) {
      const error = await passed(bytes, size).catch((error: unknown) => error);
      expect(error).toMatchObject({ exitCode: 2, hint: expect.stringContaining(hint) });
      expect((error as Error).message).toContain(what);
    }
  });
});

test("an interrupt ends the wait for the first line", async () => {
  const controller = new AbortController();
  const silent = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) };
  const input = ndjsonInput(silent, controller.signal);
  controller.abort(new Error("interrupted"));
  await expect(input).rejects.toThrow("interrupted");
});
