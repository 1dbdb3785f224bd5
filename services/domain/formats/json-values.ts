/** JSON values that are not one per line: arrays, values over several lines, values one after the other. */

const NEWLINE = 0x0a;
const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

const isWhitespace = (byte: number) => byte === 0x20 || byte === NEWLINE || byte === 0x0d || byte === 0x09;

/**
 * Writes every value on a separate line, without whitespace between its parts: the elements of arrays, and the values
 * beside them. Keeps nothing of a value, so its memory does not depend on the input. Text that is not JSON stays invalid:
 * each line is checked as an event later.
 */
export class JsonLines {
  /** Open brackets and braces; an array on the outermost level does not count. */
  #depth = 0;
  #isInArray = false;
  #isInString = false;
  #isEscaped = false;
  /** Bytes of the current line. */
  #length = 0;
  #position = 0;

  /** The lines, and parts of lines, that this chunk completes. */
  push(chunk: Uint8Array): Uint8Array {
    // A line break follows a value, and at most every byte is one.
    const out = new Uint8Array(2 * chunk.length + 1);
    let end = 0;
    for (const byte of chunk) {
      if (this.#position < 3 && byte === BYTE_ORDER_MARK[this.#position++]) continue;
      const isAtStart = this.#length === 0;
      const isTaken = this.#take(byte);
      if (isTaken) out[end++] = byte;
      if (this.#length === 0 && (isTaken || !isAtStart)) out[end++] = NEWLINE;
    }
    return out.subarray(0, end);
  }

  /** The end of the last line: of a value that was cut off, or a number. */
  end(): Uint8Array {
    return this.#length > 0 ? new Uint8Array([NEWLINE]) : new Uint8Array();
  }

  /** True when the byte belongs to the line. #length becomes 0 at the end of a value. */
  #take(byte: number): boolean {
    if (this.#isInString) return this.#takeInString(byte);
    if (this.#depth === 0) {
      if (isWhitespace(byte) || byte === COMMA) return this.#endValue();
      if (byte === OPEN_BRACKET && !this.#isInArray && this.#length === 0) {
        this.#isInArray = true;
        return false;
      }
      if (byte === CLOSE_BRACKET && this.#isInArray) {
        this.#isInArray = false;
        return this.#endValue();
      }
    }
    if (isWhitespace(byte)) return false;
    this.#length++;
    if (byte === QUOTE) this.#isInString = true;
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) this.#depth++;
    else if ((byte === CLOSE_BRACE || byte === CLOSE_BRACKET) && --this.#depth <= 0) {
      this.#depth = 0;
      this.#length = 0;
    }
    return true;
  }

  #takeInString(byte: number): boolean {
    // JSON has no line break in a string: the quote before it was a stray one.
    if (byte === NEWLINE) {
      this.#isInString = false;
      this.#isEscaped = false;
      return false;
    }
    this.#length++;
    if (this.#isEscaped) this.#isEscaped = false;
    else if (byte === BACKSLASH) this.#isEscaped = true;
    else if (byte === QUOTE) this.#isInString = false;
    return true;
  }

  #endValue(): false {
    this.#length = 0;
    return false;
  }
}
