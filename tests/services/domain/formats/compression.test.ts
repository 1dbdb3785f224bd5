import { describe, expect, test } from "bun:test";
import { deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import {
  type Compression,
  compressionNamed,
  compressionOf,
  InflatedSizeError,
  inflateStream,
  inflateWhole,
} from "../../../../services/domain/formats/compression.ts";

const text = Array.from({ length: 3000 }, (_, index) => `line ${index} ${Math.sin(index)}\n`).join("");
const CODECS: [Compression, (data: string | Uint8Array) => Uint8Array][] = [
  ["gzip", gzipSync],
  ["zlib", deflateSync],
  ["deflate", deflateRawSync],
  ["zstd", zstdCompressSync],
];

async function streamed(bytes: Uint8Array, compression: Compression, size: number): Promise<string> {
  const parts: Uint8Array[] = [];
  const chunks = (async function* () {
    for (let from = 0; from < bytes.length; from += size) yield bytes.slice(from, from + size);
  })();
  for await (const part of inflateStream(chunks, compression)) parts.push(part);
  return Buffer.concat(parts).toString();
}

describe.each(CODECS)("%s", (compression, compress) => {
  const bytes = compress(text);

  test("is decompressed, whole and streamed", async () => {
    expect(Buffer.from(inflateWhole(bytes, compression, text.length)).toString()).toBe(text);
    for (const size of [1, 7, 1000, bytes.length]) expect(await streamed(bytes, compression, size)).toBe(text);
  });

  test("ends at the limit", () => {
    expect(() => inflateWhole(bytes, compression, text.length - 1)).toThrow(InflatedSizeError);
  });

  test("of 1 GiB in 1 MiB ends at the limit, in bounded memory", () => {
    const bomb = compress(new Uint8Array(64 * 1024 * 1024));
    const before = process.memoryUsage().rss;
    expect(() => inflateWhole(bomb, compression, 4 * 1024 * 1024)).toThrow(InflatedSizeError);
    expect(process.memoryUsage().rss - before).toBeLessThan(32 * 1024 * 1024);
  });

  test("cut off at any of its last bytes is refused, and in the middle", async () => {
    const cuts = [1, 2, 3, 4, 5, 8, 9, 12, 100, bytes.length >> 1, bytes.length - 1];
    for (const cut of cuts) {
      const part = bytes.subarray(0, bytes.length - cut);
      expect(() => inflateWhole(part, compression, 2 * text.length), `cut ${cut}`).toThrow("damaged or cut off");
      await expect(streamed(part, compression, 1000), `cut ${cut}`).rejects.toThrow("damaged or cut off");
    }
  });

  test("followed by other bytes is refused", async () => {
    const trailed = Buffer.concat([bytes, Buffer.from("and more")]);
    expect(() => inflateWhole(trailed, compression, 2 * text.length)).toThrow("damaged or cut off");
    await expect(streamed(trailed, compression, 1000)).rejects.toThrow("damaged or cut off");
  });
});

test("an error of the source is thrown as it is", async () => {
  const failing = (async function* () {
    yield gzipSync(text).subarray(0, 100);
    throw new Error("source");
  })();
  await expect(Array.fromAsync(inflateStream(failing, "gzip"))).rejects.toThrow("source");
});

describe.each(["gzip", "zstd"] as const)("%s in parts", (compression) => {
  const compress = compression === "gzip" ? gzipSync : zstdCompressSync;
  test("is one text", async () => {
    const parts = Buffer.concat([compress("one "), compress(""), compress("two")]);
    expect(Buffer.from(inflateWhole(parts, compression, 100)).toString()).toBe("one two");
    expect(await streamed(parts, compression, 1)).toBe("one two");
  });
});

test("the walk of zstd's frames ends where they end, for any content", () => {
  let state = 7;
  const random = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state / 2 ** 32;
  };
  for (let round = 0; round < 200; round++) {
    const length = Math.floor(random() * 300_000 * random());
    const alphabet = 1 + Math.floor(random() * 255);
    const data = Uint8Array.from({ length }, () => Math.floor(random() * alphabet));
    const params = { [100]: 1 + Math.floor(random() * 19) };
    const bytes = zstdCompressSync(data, { params });
    expect(inflateWhole(bytes, "zstd", 300_001).length).toBe(length);
    const cut = 1 + Math.floor(random() * (bytes.length - 1));
    expect(() => inflateWhole(bytes.subarray(0, cut), "zstd", 300_001)).toThrow("damaged or cut off");
  }
});

describe("what a compression is recognised by", () => {
  test.each<[string, Uint8Array, Compression | undefined]>([
    ["gzip", gzipSync("a"), "gzip"],
    ["zstd", zstdCompressSync("a"), "zstd"],
    ...[0, 1, 5, 6, 9].map((level): [string, Uint8Array, Compression] => [
      `zlib ${level}`,
      deflateSync("abc", { level }),
      "zlib",
    ]),
    ["a text that begins like zlib", Buffer.from("x^2;y\n1;2\n"), undefined],
    ["JSON", Buffer.from('{"v":1}'), undefined],
    ["nothing", new Uint8Array(), undefined],
  ])("%s", (_, bytes, compression) => expect(compressionOf(bytes)).toBe(compression));

  test.each<[string, Uint8Array, string | undefined]>([
    ["", Buffer.from("{}"), undefined],
    ["identity", Buffer.from("{}"), undefined],
    ["GZIP", gzipSync("a"), "gzip"],
    ["x-gzip", gzipSync("a"), "gzip"],
    ["deflate", deflateSync("a"), "zlib"],
    ["deflate", deflateRawSync("a"), "deflate"],
    ["zstd", zstdCompressSync("a"), "zstd"],
    ["br", Buffer.from("a"), "unknown"],
    ["gzip, gzip", gzipSync("a"), "unknown"],
  ])("content-encoding %j", (header, body, expected) => expect(compressionNamed(header, body)).toBe(expected as never));
});
