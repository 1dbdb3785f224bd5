/** Access to Kafka in a request, and values of Kafka in an answer. */
import { count, fields, listOf, matching, optional, type Shaped, text } from "./request.ts";

/** PEM texts or paths. */
export const tlsShape = { ca: optional(text), cert: optional(text), key: optional(text) };
export type TlsFiles = Shaped<typeof tlsShape>;

export const kafkaShape = {
  brokers: listOf(matching(/^[A-Za-z0-9.-]+:\d{1,5}$/, "must be host:port")),
  tls: fields(tlsShape),
};
export type KafkaAccess = Shaped<typeof kafkaShape>;

const offsetShape = { partition: count, offset: count };
export const offsets = listOf(fields(offsetShape));
export type PartitionOffset = Shaped<typeof offsetShape>;
