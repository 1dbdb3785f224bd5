/** The dead-letter topic: a letter counts as delivered when Kafka has acknowledged it. */
import type { DeadLetter } from "../domain/dead-letter.ts";
import type { Logger } from "../runtime/log.ts";
import type { EventProducer } from "./event-producer.ts";

export class DeadLetterProducer {
  constructor(
    private readonly producer: EventProducer,
    private readonly topic: string,
    private readonly log: Logger,
  ) {}

  /** Resolves when every letter is acknowledged, however long Kafka takes. */
  async deliver(letters: readonly DeadLetter[]): Promise<void> {
    const acknowledged: Promise<void>[] = [];
    for (const letter of letters) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      // Looked at below, perhaps only after waiting for room for the next letter.
      promise.catch(() => {});
      acknowledged.push(promise);
      while (!this.#offer(letter, letter.value, resolve, reject)) {
        if (!(await this.producer.whenRoom())) throw new Error("the producer of dead letters has stopped");
      }
    }
    await Promise.all(acknowledged);
  }

  #offer(letter: DeadLetter, value: Uint8Array, resolve: () => void, reject: (error: Error) => void): boolean {
    return this.producer.offer({
      topic: this.topic,
      key: letter.key,
      value,
      headers: letter.headers,
      settled: (outcome) => {
        if (outcome === "acknowledged") return resolve();
        this.log.error("dead_letter_too_large", { ...letter.headers, bytes: value.length });
        // A topic configured smaller than ours: the reason and the place are worth more than the bytes.
        const shorter = value.length > 0 && this.#offer(letter, new Uint8Array(), resolve, reject);
        if (!shorter) reject(new Error("the dead-letter topic refuses a letter"));
      },
    });
  }
}
