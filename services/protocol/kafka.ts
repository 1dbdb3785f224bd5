/** Access to Kafka in a request, and values of Kafka in an answer. */
import { optional, required, type Shaped } from "./request.ts";

/** PEM texts or paths. */
export const tlsShape = { ca: optional<string>(), cert: optional<string>(), key: optional<string>() };
export type TlsFiles = Shaped<typeof tlsShape>;

/** The program connects as its environment says: KAFKA_BROKERS, KAFKA_AUTH and so on. */
export const BY_ENVIRONMENT = "environment";

export const kafkaShape = { brokers: required<string[] | typeof BY_ENVIRONMENT>(), tls: optional<TlsFiles>() };
export type KafkaAccess = Shaped<typeof kafkaShape>;

export interface PartitionOffset {
  partition: number;
  offset: number;
}
