/**
 * Decompresses record batches in every codec of Kafka, whichever the topic or the producer is set to. gzip and zstd are
 * Bun's own; docs/dependencies.md says why Snappy and LZ4 are decoded here. Checksums inside the frames are not verified:
 * the batch's own CRC covers them.
 */
import zlib from "node:zlib";

/** Number of the codec in a batch's attributes. */
export const CODECS = { 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd" } as const;

/** A batch of at most 1 MiB expands to more than the limit: the process must not allocate that much. */
export class ExpansionLimitError extends Error {
  constructor(readonly limit: number) {
    super(`expands to more than ${limit} bytes`);
  }
}

/** The decompressed bytes, grown up to a limit. Both formats are sequences of literals and of copies of earlier output. */
class Output {
  #bytes: Buffer;
  length = 0;

  constructor(
    private readonly limit: number,
    expected: number,
  ) {
    this.#bytes = Buffer.allocUnsafe(Math.min(limit, expected));
  }

  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.length);
  }

  #reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.#bytes.length) return;
    if (needed > this.limit) throw new ExpansionLimitError(this.limit);
    const larger = Buffer.allocUnsafe(Math.min(this.limit, Math.max(needed, 2 * this.#bytes.length)));
    this.#bytes.copy(larger, 0, 0, this.length);
    this.#bytes = larger;
  }

  literals(source: Buffer, from: number, count: number): void {
    if (from + count > source.length) throw new Error("the compressed data are truncated");
    this.#reserve(count);
    this.length += source.copy(this.#bytes, this.length, from, from + count);
  }

  /** Repeats `count` bytes from `distance` before the end; both ranges may overlap. */
  copy(distance: number, count: number): void {
    if (distance === 0 || distance > this.length)
      throw new Error("the compressed data refer to bytes before their start");
    this.#reserve(count);
    const bytes = this.#bytes;
    const end = this.length + count;
    for (let to = this.length, from = to - distance; to < end; ) bytes[to++] = bytes[from++]!;
    this.length = end;
  }
}

function byteAt(source: Buffer, at: number): number {
  if (at >= source.length) throw new Error("the compressed data are truncated");
  return source[at]!;
}

/** One Snappy block (github.com/google/snappy, format_description.txt). */
function readSnappyBlock(source: Buffer, output: Output, limit: number): void {
  let at = 0;
  let declared = 0;
  for (let factor = 1; ; factor *= 128) {
    const byte = byteAt(source, at++);
    declared += (byte & 0x7f) * factor;
    if (declared > limit) throw new ExpansionLimitError(limit);
    if (byte < 0x80) break;
  }
  const end = output.length + declared;
  while (at < source.length) {
    const tag = source[at++]!;
    const kind = tag & 3;
    const bits = tag >>> 2;
    if (kind === 0) {
      const lengthBytes = Math.max(0, bits - 59);
      byteAt(source, at + lengthBytes);
      const count = (lengthBytes === 0 ? bits : source.readUIntLE(at, lengthBytes)) + 1;
      at += lengthBytes;
      output.literals(source, at, count);
      at += count;
    } else if (kind === 1) {
      output.copy(((tag >>> 5) << 8) | byteAt(source, at++), (bits & 7) + 4);
    } else {
      const offsetBytes = kind === 2 ? 2 : 4;
      byteAt(source, at + offsetBytes - 1);
      output.copy(source.readUIntLE(at, offsetBytes), bits + 1);
      at += offsetBytes;
    }
    if (output.length > end) break;
  }
  if (output.length !== end) throw new Error(`the Snappy block has not the ${declared} bytes that it declares`);
}

/** Beginning of the stream of Java's Snappy library: 8 bytes, two versions, then blocks, each after its length. */
const XERIAL_MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);
const XERIAL_HEADER_BYTES = 16;

function decompressSnappy(source: Buffer, limit: number): Buffer {
  const output = new Output(limit, 4 * source.length);
  if (!source.subarray(0, XERIAL_MAGIC.length).equals(XERIAL_MAGIC)) {
    readSnappyBlock(source, output, limit);
    return output.bytes;
  }
  for (let at = XERIAL_HEADER_BYTES; at < source.length; ) {
    byteAt(source, at + 3);
    const end = at + 4 + source.readUInt32BE(at);
    if (end > source.length) throw new Error("the compressed data are truncated");
    readSnappyBlock(source.subarray(at + 4, end), output, limit);
    at = end;
  }
  return output.bytes;
}

/** One LZ4 block (github.com/lz4/lz4, lz4_Block_format.md). */
function readLz4Block(source: Buffer, output: Output): void {
  let at = 0;
  const lengthFrom = (nibble: number): number => {
    let length = nibble;
    for (let byte = nibble === 15 ? 255 : 0; byte === 255; length += byte) byte = byteAt(source, at++);
    return length;
  };
  while (at < source.length) {
    const token = source[at++]!;
    const count = lengthFrom(token >>> 4);
    output.literals(source, at, count);
    at += count;
    // The last sequence has literals only.
    if (at === source.length) return;
    byteAt(source, at + 1);
    const distance = source.readUInt16LE(at);
    at += 2;
    output.copy(distance, lengthFrom(token & 15) + 4);
  }
}

const LZ4_MAGIC = 0x184d2204;
/** Flags of the frame's descriptor, from lz4_Frame_format.md. */
const LZ4 = { version: 0xc0, version1: 0x40, blockChecksum: 0x10, contentSize: 0x08, dictionary: 0x01 } as const;
/** Magic, flags, block size; the header's checksum follows the optional content size. */
const LZ4_HEADER_BYTES = 6;
const LZ4_IS_RAW = 0x8000_0000;

function decompressLz4(source: Buffer, limit: number): Buffer {
  byteAt(source, LZ4_HEADER_BYTES);
  if (source.readUInt32LE(0) !== LZ4_MAGIC) throw new Error("not an LZ4 frame");
  const flags = source[4]!;
  if ((flags & LZ4.version) !== LZ4.version1) throw new Error("an LZ4 frame of an unknown version");
  if ((flags & LZ4.dictionary) !== 0) throw new Error("an LZ4 frame with a dictionary");
  const output = new Output(limit, 4 * source.length);
  for (let at = LZ4_HEADER_BYTES + ((flags & LZ4.contentSize) === 0 ? 0 : 8) + 1; ; ) {
    byteAt(source, at + 3);
    const header = source.readUInt32LE(at);
    at += 4;
    if (header === 0) return output.bytes;
    const size = header & ~LZ4_IS_RAW;
    if (at + size > source.length) throw new Error("the compressed data are truncated");
    if (header >= LZ4_IS_RAW) output.literals(source, at, size);
    else readLz4Block(source.subarray(at, at + size), output);
    at += size + ((flags & LZ4.blockChecksum) === 0 ? 0 : 4);
  }
}

function bounded(limit: number, work: (options: { maxOutputLength: number }) => Buffer): Buffer {
  try {
    return work({ maxOutputLength: limit });
  } catch (error) {
    if ((error as { code?: string }).code === "ERR_BUFFER_TOO_LARGE") throw new ExpansionLimitError(limit);
    throw error;
  }
}

/**
 * The records of a compressed batch, at most `limit` bytes.
 * @throws ExpansionLimitError beyond the limit, Error for corrupt data or an unknown codec
 */
export function decompress(codec: number, source: Buffer, limit: number): Buffer {
  switch (CODECS[codec as keyof typeof CODECS]) {
    case "gzip":
      return bounded(limit, (options) => zlib.gunzipSync(source, options));
    case "snappy":
      return decompressSnappy(source, limit);
    case "lz4":
      return decompressLz4(source, limit);
    case "zstd":
      return bounded(limit, (options) => zlib.zstdDecompressSync(source, options));
    default:
      throw new Error(`Kafka has no compression codec ${codec}`);
  }
}
