/** A set of hashes that may name one too many and never one too few, in 8 MiB whatever their number. */

/** 16 bits for each of four million hashes: one of five hundred others is named too. */
const BITS = 2 ** 26;
const INDEXES = 3;

export class BloomFilter {
  readonly #words = new Uint32Array(BITS / 32);

  /** @param hash 16 hexadecimal digits */
  add(hash: string): void {
    for (const index of indexesOf(hash)) this.#words[index >>> 5]! |= 1 << (index & 31);
  }

  mayHave(hash: string): boolean {
    return indexesOf(hash).every((index) => (this.#words[index >>> 5]! >>> (index & 31)) & 1);
  }
}

function indexesOf(hash: string): number[] {
  const [high, low] = [Number.parseInt(hash.slice(0, 8), 16), Number.parseInt(hash.slice(8), 16)];
  return Array.from({ length: INDEXES }, (_, index) => (high + index * low) % BITS);
}
