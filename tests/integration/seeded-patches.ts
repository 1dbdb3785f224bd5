/**
 * The defects of seeded-defects.test.ts, each as a replacement of text in a service's source. The fast test
 * tests/services/seeded-defect-locations.test.ts fails when the text to replace has changed.
 */
import type { Patch } from "./variants.ts";

/** The first answer that acknowledges a batch is lost: the producer must resend the batch. */
export const ANSWER_LOST: Patch = {
  file: "kafka/event-producer.ts",
  was: "      const answer = await refreshWhileWaiting(produce(broker, queues), () => this.#refresh());\n",
  becomes: `      const answer = await refreshWhileWaiting(produce(broker, queues), () => this.#refresh());
      const appended = answer.topics.some(
        ({ topicName, partitions }) =>
          topicName.startsWith("events-") && partitions.some(({ errorCode }) => errorCode === NO_ERROR),
      );
      if (!globalThis.answerLost && appended) {
        globalThis.answerLost = true;
        this.#options.log.warn("answer_lost");
        throw new Error("the answer was lost");
      }
`,
};

export const COMMIT_BEFORE_WRITE: Patch = {
  file: "processor/batch-handler.ts",
  was: `      if (!(await this.#store(payload, slice))) return;
      payload.resolveOffset(messages[to - 1]!.offset);
`,
  becomes: `      payload.resolveOffset(messages[to - 1]!.offset);
      await payload.commitOffsetsIfNecessary(payload.uncommittedOffsets());
      if (!(await this.#store(payload, slice))) return;
`,
};

export const MILLISECONDS: Patch = {
  file: "domain/point.ts",
  was: "return seq.length >= SLOT_DIGITS ? ts + seq.slice(-SLOT_DIGITS) : ts + ZEROS[SLOT_DIGITS - seq.length] + seq;",
  becomes: 'return ts + "000000";',
};

/** A digit before each temperature: 61.2 becomes 161.2. */
export const WRONG_VALUE: Patch = {
  file: "domain/point.ts",
  was: "`motor_temp_c=$",
  becomes: "`motor_temp_c=1$",
};

const LINE_STORED = "        slice.lines.push(text);\n";

/** A point without its last field. */
export const FIELD_DROPPED: Patch = {
  file: "processor/batch-handler.ts",
  was: LINE_STORED,
  becomes: '        slice.lines.push(text.replace(/,[^, ]+( \\d+)$/, "$1"));\n',
};

/** An integer without its last digit. */
export const FIELD_CHANGED: Patch = {
  file: "processor/batch-handler.ts",
  was: LINE_STORED,
  becomes: '        slice.lines.push(text.replace(/=(\\d+)\\di/, "=$1i"));\n',
};

/** A number stored as text. */
export const TYPE_CHANGED: Patch = {
  file: "processor/batch-handler.ts",
  was: LINE_STORED,
  becomes: "        slice.lines.push(text.replace(/=(\\d+)i/, '=\"$1\"'));\n",
};

/** Every second line is committed and not stored. */
export const LINES_SKIPPED: Patch = {
  file: "processor/batch-handler.ts",
  was: LINE_STORED,
  becomes: `        if (index % 2 === 1) continue;\n${LINE_STORED}`,
};

export const SWALLOWED_422: Patch = {
  file: "processor/influx-writer.ts",
  was: "  if (status === 422 || (status === 400 && LINE_FAULT.test(body))) {\n",
  becomes: `  if (status === 422) return { kind: "written" };
  if (status === 400 && LINE_FAULT.test(body)) {
`,
};

export const ACKNOWLEDGED_WHEN_BUFFERED: readonly Patch[] = [
  {
    file: "producer/event-publisher.ts",
    was: "    if (!this.options.producer.offer(outgoing)) return false;\n    this.counts.attempted++;\n",
    becomes: `    if (!this.options.producer.offer(outgoing)) return false;
    this.#onAcknowledged(run, conveyor, seq, source);
    this.counts.attempted++;
`,
  },
  {
    file: "producer/event-publisher.ts",
    was: "          this.#onAcknowledged(run, conveyor, seq, source);\n          settled?.",
    becomes: "          settled?.",
  },
  {
    file: "producer.ts",
    was: '  shutdown.step("flush", FLUSH_LIMIT_MS, () => producer.flush());\n',
    becomes: "",
  },
];

export const ONE_ACK: Patch = { file: "kafka/event-producer.ts", was: "    acks: -1,\n", becomes: "    acks: 1,\n" };

export const NOT_IDEMPOTENT: Patch = {
  file: "kafka/event-producer.ts",
  was: "    producerId: queues[0]!.producerId,\n    producerEpoch: queues[0]!.producerEpoch,\n",
  becomes: "",
};

/** The epoch in the commit is ignored, as by kafkajs as it is released. */
export const TRUNCATION_IGNORED: Patch = {
  file: "kafka/patches/lost-position.ts",
  was: "  const { epoch } = state;\n",
  becomes: "  const epoch = undefined as number | undefined;\n",
};

/** All seeded defects by name. */
export const SEEDED: Readonly<Record<string, readonly Patch[]>> = {
  ANSWER_LOST: [ANSWER_LOST],
  COMMIT_BEFORE_WRITE: [COMMIT_BEFORE_WRITE],
  MILLISECONDS: [MILLISECONDS],
  WRONG_VALUE: [WRONG_VALUE],
  FIELD_DROPPED: [FIELD_DROPPED],
  FIELD_CHANGED: [FIELD_CHANGED],
  TYPE_CHANGED: [TYPE_CHANGED],
  LINES_SKIPPED: [LINES_SKIPPED],
  SWALLOWED_422: [SWALLOWED_422],
  ACKNOWLEDGED_WHEN_BUFFERED: ACKNOWLEDGED_WHEN_BUFFERED,
  ONE_ACK: [ONE_ACK],
  NOT_IDEMPOTENT: [NOT_IDEMPOTENT],
  TRUNCATION_IGNORED: [TRUNCATION_IGNORED],
};
