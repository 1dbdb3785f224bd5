/** Decompresses bodies and files of senders: gzip, zstd and deflate, complete or not at all. */
import { pipeline, Readable } from "node:stream";
import zlib from "node:zlib";
import { isControl } from "./text-encoding.ts";
import { UnreadableError } from "./unreadable-error.ts";

/** "deflate" is the raw format; most senders that name it send zlib's (RFC 9110, 8.4.1.2). */
export type Compression = "gzip" | "zlib" | "deflate" | "zstd";

const CODECS = {
  gzip: { whole: zlib.gunzipSync, stream: zlib.createGunzip },
  zlib: { whole: zlib.inflateSync, stream: zlib.createInflate },
  deflate: { whole: zlib.inflateRawSync, stream: zlib.createInflateRaw },
  zstd: { whole: zlib.zstdDecompressSync, stream: zlib.createZstdDecompress },
} as const;

/** Codings that the intake takes, for its header Accept-Encoding. */
export const ACCEPTED_CODINGS = "gzip, deflate, zstd";

/**
 * The compression that a Content-Encoding names.
 * @returns undefined for none, "unknown" for one that is not supported, or for several
 */
export function compressionNamed(header: string, body: Uint8Array): Compression | "unknown" | undefined {
  switch (header.trim().toLowerCase()) {
    case "":
    case "identity":
      return undefined;
    case "gzip":
    case "x-gzip":
      return "gzip";
    case "deflate":
      return isZlibHeader(body) ? "zlib" : "deflate";
    case "zstd":
      return "zstd";
    default:
      return "unknown";
  }
}

const startsWith = (bytes: Uint8Array, start: readonly number[]) => start.every((byte, index) => bytes[index] === byte);

/** RFC 1950: method 8, and a checksum of the first two bytes. */
const isZlibHeader = ([first = 0, second = 0]: Uint8Array) => (first & 15) === 8 && (first * 256 + second) % 31 === 0;

/** Third byte: deflate, the only method of gzip. */
const GZIP_START = [0x1f, 0x8b, 0x08];
const ZSTD_START = [0x28, 0xb5, 0x2f, 0xfd];
/** The usual window of zlib; other windows make letters of the first byte, which text can begin with. */
const ZLIB_FIRST = 0x78;
/** Bytes in which data that begin like text are searched for a byte that no text has. */
const ZLIB_SEARCHED_BYTES = 64;

/** The compression that the first bytes show: a sender may compress without naming it. Raw deflate has no signature. */
export function compressionOf(head: Uint8Array): Compression | undefined {
  if (startsWith(head, GZIP_START)) return "gzip";
  if (startsWith(head, ZSTD_START)) return "zstd";
  // "x^" is also text.
  const isBinary = head.subarray(0, ZLIB_SEARCHED_BYTES).some(isControl);
  return head[0] === ZLIB_FIRST && isZlibHeader(head) && isBinary ? "zlib" : undefined;
}

/** What the data expand to has more bytes than their reader takes. */
export class InflatedSizeError extends Error {
  constructor(readonly maxBytes: number) {
    super(`what the data expand to must have at most ${maxBytes} bytes`);
  }
}

const damaged = (compression: Compression, found: string) =>
  new UnreadableError(`the ${compression} data are damaged or cut off: ${found}`, "compress and send them again");
const TRAILING = "bytes follow their end";

/** An error of the codec, and no error of the source. */
const isOfCodec = (error: unknown): error is Error =>
  error instanceof Error && /^Z(?:STD)?_/.test((error as NodeJS.ErrnoException).code ?? "");

/**
 * Decompresses data that are held as a whole.
 * @param maxBytes the work ends there, however much the data would expand to
 * @throws UnreadableError when they are damaged or cut off, InflatedSizeError
 */
export function inflateWhole(bytes: Uint8Array, compression: Compression, maxBytes: number): Uint8Array {
  try {
    const options = { maxOutputLength: maxBytes, info: true };
    // With `info`, the codec is returned beside the data; the type declarations do not know it.
    const { buffer, engine } = CODECS[compression].whole(bytes, options) as unknown as {
      buffer: Buffer;
      engine: { bytesWritten: number };
    };
    if (compression === "zstd") checkFrames(bytes);
    else if (engine.bytesWritten !== bytes.length) throw damaged(compression, TRAILING);
    return buffer;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") throw new InflatedSizeError(maxBytes);
    if (isOfCodec(error)) throw damaged(compression, error.message);
    throw error;
  }
}

function checkFrames(bytes: Uint8Array): void {
  const frames = new ZstdFrames();
  frames.push(bytes);
  frames.end();
}

/**
 * Decompresses a stream in bounded memory.
 * @throws UnreadableError when it is damaged or cut off
 */
export async function* inflateStream(
  chunks: AsyncIterable<Uint8Array>,
  compression: Compression,
): AsyncGenerator<Uint8Array, void, void> {
  const decoder = CODECS[compression].stream();
  const frames = compression === "zstd" ? new ZstdFrames() : undefined;
  let taken = 0;
  const counted = (async function* () {
    for await (const chunk of chunks) {
      taken += chunk.length;
      frames?.push(chunk);
      yield chunk;
    }
  })();
  // Its errors are thrown where the decoder is read.
  pipeline(Readable.from(counted), decoder, () => {});
  try {
    yield* decoder as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw isOfCodec(error) ? damaged(compression, error.message) : error;
  }
  frames?.end();
  if (!frames && decoder.bytesWritten !== taken) throw damaged(compression, TRAILING);
}

const ZSTD_MAGIC = 0xfd2fb528;
/** The last four bits are free. */
const SKIPPABLE_MAGIC = 0x184d2a50;
const RLE_BLOCK = 1;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;

/**
 * Follows the frames and blocks of zstd data (RFC 8878), since the decoder of Bun takes data that are cut off, or
 * followed by others, for complete.
 */
class ZstdFrames {
  #walk = zstdFrame();
  /** Bytes that the walk waits for; negative: bytes that it skips. */
  #wanted = this.#walk.next().value as number;
  #held: number[] = [];
  #isInFrame = false;

  /** @throws UnreadableError when other data follow a frame */
  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      this.#isInFrame = true;
      if (this.#wanted > 0) {
        this.#held.push(chunk[at++]!);
        if (this.#held.length < this.#wanted) continue;
      } else {
        const skipped = Math.min(-this.#wanted, chunk.length - at);
        at += skipped;
        this.#wanted += skipped;
        if (this.#wanted < 0) continue;
      }
      this.#advance();
    }
  }

  #advance(): void {
    let step = this.#walk.next(Buffer.from(this.#held));
    this.#held = [];
    if (step.done) {
      this.#isInFrame = false;
      this.#walk = zstdFrame();
      step = this.#walk.next();
    }
    this.#wanted = step.value as number;
  }

  /** @throws UnreadableError when the last frame is not complete */
  end(): void {
    if (this.#isInFrame) throw damaged("zstd", "unexpected end");
  }
}

/** One frame: yields how many bytes it needs, or, negative, how many it skips. It never yields 0. */
function* zstdFrame(): Generator<number, void, Buffer> {
  const magic = (yield 4).readUInt32LE();
  if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC) {
    const size = (yield 4).readUInt32LE();
    if (size > 0) yield -size;
    return;
  }
  if (magic !== ZSTD_MAGIC) throw damaged("zstd", TRAILING);
  const descriptor = (yield 1)[0]!;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const contentSize = descriptor >> 6 === 0 && isSingleSegment ? 1 : CONTENT_SIZE_BYTES[descriptor >> 6]!;
  const rest = contentSize + DICTIONARY_BYTES[descriptor & 3]! + (isSingleSegment ? 0 : 1);
  yield -rest;
  for (let isLast = false; !isLast; ) {
    const header = (yield 3).readUIntLE(0, 3);
    isLast = (header & 1) === 1;
    const size = ((header >> 1) & 3) === RLE_BLOCK ? 1 : header >> 3;
    if (size > 0) yield -size;
  }
  if ((descriptor & 4) !== 0) yield -4;
}
