/** ConsumerGroup's private method that sends one join request; two patches wrap it. */
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import { type Member, method } from "./patch.ts";

const DESCRIPTION = "private:ConsumerGroup:join";
const key = Object.getOwnPropertySymbols(ConsumerGroup.prototype).find(
  ({ description }) => description === DESCRIPTION,
);

export const JOIN_METHOD: Member = method(ConsumerGroup, key ?? DESCRIPTION);

/** Replaces the method with `wrap(method)`. */
export function wrapJoin(
  wrap: (join: (this: ConsumerGroup) => Promise<void>) => (this: ConsumerGroup) => Promise<void>,
): void {
  const prototype = ConsumerGroup.prototype as unknown as Record<symbol, (this: ConsumerGroup) => Promise<void>>;
  prototype[key!] = wrap(prototype[key!]!);
}
