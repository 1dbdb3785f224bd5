/** Splits chunks of bytes into lines, in bounded memory: only the beginning of a too long line is kept. */

export interface Line {
  /** Without line break; only the first `keepBytes` of a longer line. */
  bytes: Uint8Array;
  /** Length of the complete line. */
  length: number;
  /** From 1. */
  number: number;
}

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

export class LineSplitter {
  #rest: Uint8Array[] = [];
  #kept = 0;
  #length = 0;
  #number = 0;

  /** @param keepBytes limit of `Line.bytes`; more than the largest valid line, so that a longer one is detected. */
  constructor(private readonly keepBytes: number) {}

  /** The lines that this chunk completes. */
  *push(chunk: Uint8Array): Generator<Line> {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      if (end < 0) break;
      yield this.#complete(chunk.subarray(start, end));
      start = end + 1;
    }
    if (start < chunk.length) this.#keep(chunk.slice(start));
  }

  /** The last line, when the input did not end with a line break. */
  *end(): Generator<Line> {
    if (this.#length > 0) yield this.#complete(new Uint8Array());
  }

  #keep(bytes: Uint8Array): void {
    this.#length += bytes.length;
    const room = this.keepBytes - this.#kept;
    if (room <= 0) return;
    const part = bytes.length > room ? bytes.subarray(0, room) : bytes;
    this.#rest.push(part);
    this.#kept += part.length;
  }

  #complete(last: Uint8Array): Line {
    let bytes: Uint8Array = last;
    let length = last.length;
    if (this.#length > 0) {
      this.#keep(last);
      bytes = this.#rest.length === 1 ? this.#rest[0]! : Buffer.concat(this.#rest);
      length = this.#length;
    } else if (bytes.length > this.keepBytes) {
      bytes = bytes.subarray(0, this.keepBytes);
    }
    this.#rest = [];
    this.#kept = 0;
    this.#length = 0;
    if (bytes.length === length && bytes[bytes.length - 1] === CARRIAGE_RETURN) {
      bytes = bytes.subarray(0, -1);
      length--;
    }
    return { bytes, length, number: ++this.#number };
  }
}

/** Longest line of a program's output that is read as text; more is a defect of the program, not data. */
const MAX_TEXT_LINE_BYTES = 16 * 2 ** 20;

export interface TextLineOptions {
  maxBytes?: number;
  /** Skip a last line without line break: its writer was interrupted. */
  skipCutEnd?: boolean;
}

/** Lines of a byte stream as text while they arrive, without empty ones. @throws Error when a line is too long. */
export async function* textLines(
  chunks: AsyncIterable<Uint8Array>,
  { maxBytes = MAX_TEXT_LINE_BYTES, skipCutEnd = false }: TextLineOptions = {},
): AsyncGenerator<string, void, void> {
  const splitter = new LineSplitter(maxBytes);
  const decoder = new TextDecoder();
  const textOf = ({ bytes, length, number }: Line) => {
    if (length > maxBytes) throw new Error(`line ${number} has ${length} bytes; at most ${maxBytes} are read`);
    return decoder.decode(bytes);
  };
  for await (const chunk of chunks) {
    for (const line of splitter.push(chunk)) if (line.length > 0) yield textOf(line);
  }
  if (!skipCutEnd) for (const line of splitter.end()) yield textOf(line);
}

export function isBlank(bytes: Uint8Array): boolean {
  for (const byte of bytes) if (byte !== 0x20 && byte !== 0x09 && byte !== CARRIAGE_RETURN) return false;
  return true;
}
