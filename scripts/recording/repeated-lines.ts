/** Log lines that differ only in their numbers: of a broker that is down, clients log hundreds. */

const MAX_REPEATS = 2;
/** Beyond it two lines differ in details. */
const KEY_CHARACTERS = 300;

export class RepeatedLines {
  readonly #counts = new Map<string, number>();

  /** Whether the line is among the first two of its kind from its pod. */
  accepts({ pod, line }: { pod: string; line: string }): boolean {
    // Times, offsets and ids are numbers.
    const key = `${pod} ${line.replaceAll(/\d+/g, "").slice(0, KEY_CHARACTERS)}`;
    const count = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, count);
    return count <= MAX_REPEATS;
  }

  clear(): void {
    this.#counts.clear();
  }
}
