/** Writes dead letters to their topic: one implementation for the producer and the processor. */
import type { DeadLetter } from "../domain/dead-letter.ts";
import type { Logger } from "../runtime/log.ts";
import type { EventProducer } from "./event-producer.ts";

type DeadLetterOutcome = "acknowledged" | "rejected";

export class DeadLetterProducer {
  constructor(
    private readonly producer: EventProducer,
    private readonly topic: string,
    private readonly log: Logger,
  ) {}

  /**
   * Offers a dead letter to the buffer; false when the buffer is full. `settled` is called once: when Kafka has
   * acknowledged the dead letter, or when Kafka rejects it even without its body.
   */
  offer(deadLetter: DeadLetter, settled: (outcome: DeadLetterOutcome) => void): boolean {
    const { key, value, headers } = deadLetter;
    return this.producer.offer({
      topic: this.topic,
      key,
      value,
      headers,
      settled: (outcome) => {
        if (outcome === "acknowledged") return settled("acknowledged");
        this.log.error("dead_letter_too_large", { ...headers, bytes: value.length });
        // The topic allows less than a dead letter's size: without the body, reason and origin are still kept.
        const isShortened = value.length > 0 && this.offer({ key, value: new Uint8Array(), headers }, settled);
        if (!isShortened) settled("rejected");
      },
    });
  }

  /**
   * Resolves when every dead letter is acknowledged; waits for Kafka without a limit.
   * @throws Error when Kafka rejects one or the producer has stopped.
   */
  async deliver(deadLetters: readonly DeadLetter[]): Promise<void> {
    const deliveries: Promise<void>[] = [];
    for (const deadLetter of deadLetters) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      // Awaited below, but maybe only after a wait for room.
      promise.catch(() => {});
      deliveries.push(promise);
      const settled = (outcome: DeadLetterOutcome) =>
        outcome === "acknowledged" ? resolve() : reject(new Error("the dead-letter topic rejects a dead letter"));
      while (!this.offer(deadLetter, settled)) {
        if (!(await this.producer.whenRoom())) throw new Error("the producer of dead letters has stopped");
      }
    }
    await Promise.all(deliveries);
  }
}
