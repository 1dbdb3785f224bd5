/** Text in other encodings than UTF-8, as UTF-8. UTF-8 itself passes unchanged. */
import { UnreadableError } from "./unreadable-error.ts";

export const TEXT_ENCODINGS = ["utf-8", "utf-16le", "utf-16be", "windows-1252"] as const;
export type TextEncoding = (typeof TEXT_ENCODINGS)[number];

/** A byte that no text in UTF-8 has. */
export const isControl = (byte: number): boolean => byte < 9 || (byte > 13 && byte < 32);

/** A character that text in UTF-16 may begin with: one byte of it is 0. */
const isAscii = (byte: number | undefined) => byte !== undefined && byte >= 9 && byte < 127;

/**
 * The encoding that the first bytes show: UTF-16 by its byte order mark, or, since the formats begin with ASCII
 * characters, by the zero bytes beside them. Windows' own encodings cannot be distinguished.
 */
export function encodingOf(head: Uint8Array): TextEncoding {
  const [first, second, third = head[0], fourth = head[1]] = head;
  if (first === 0xff && second === 0xfe) return "utf-16le";
  if (first === 0xfe && second === 0xff) return "utf-16be";
  if (first === 0 && third === 0 && isAscii(second) && isAscii(fourth)) return "utf-16be";
  if (second === 0 && fourth === 0 && isAscii(first) && isAscii(third)) return "utf-16le";
  return "utf-8";
}

const invalid = (encoding: TextEncoding) =>
  encoding === "utf-8"
    ? new UnreadableError(
        "the text is not UTF-8",
        "name its encoding (--encoding, or charset in Content-Type); CSV that Excel saved on Windows often has windows-1252",
      )
    : new UnreadableError(`the text is not ${encoding}`, "name its encoding, or save it as UTF-8");

/** Decodes text in parts, without a byte order mark. @throws UnreadableError when it is not in this encoding */
export class TextReader {
  readonly #decoder;

  constructor(private readonly encoding: TextEncoding) {
    this.#decoder = new TextDecoder(encoding, { fatal: true });
  }

  /** @param bytes undefined: the text ends */
  read(bytes?: Uint8Array): string {
    try {
      return this.#decoder.decode(bytes, { stream: bytes !== undefined });
    } catch {
      throw invalid(this.encoding);
    }
  }
}

/** A whole text, without a byte order mark. @throws UnreadableError when it is not in this encoding, also in its last character */
export function textOf(bytes: Uint8Array, encoding: TextEncoding): string {
  const reader = new TextReader(encoding);
  return reader.read(bytes) + reader.read();
}

const utf8 = new TextEncoder();

/** @throws UnreadableError when it is not in this encoding */
export const toUtf8 = (bytes: Uint8Array, encoding: TextEncoding): Uint8Array =>
  encoding === "utf-8" ? bytes : utf8.encode(textOf(bytes, encoding));

/** As toUtf8(), for a stream. */
export async function* utf8Stream(chunks: AsyncIterable<Uint8Array>, encoding: TextEncoding) {
  if (encoding === "utf-8") return yield* chunks;
  const reader = new TextReader(encoding);
  for await (const chunk of chunks) yield utf8.encode(reader.read(chunk));
  yield utf8.encode(reader.read());
}
