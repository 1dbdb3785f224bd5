/**
 * What a point says, as hashes: a point of version 2 has no identity, so that an audit compares it with its event by
 * series, time and fields. The log's readers and those of the database make the same hashes. They are xxHash's, which do
 * not change with the version of the engine.
 */
import { type FieldType, type FieldValue, type Point, seriesOf } from "./line-protocol.ts";

/** Hexadecimal digits of the hash of a field's name, and of its type and value. */
export const FIELD_NAME_CHARS = 8;
export const FIELD_HASH_CHARS = 16;

/** Names a point: the hash of its series (seriesOf()) and time. 64 bits: none of a million points shares one. */
export const pointKey = (series: string, timeNs: string): string =>
  Bun.hash.xxHash64(`${series} ${timeNs}`).toString(16).padStart(16, "0");

const hash32 = (text: string) => Bun.hash.xxHash32(text).toString(16).padStart(8, "0");

/** One notation per value: numbers are written differently by senders, and by the database. */
function canonicalValue(type: FieldType, text: string): string {
  switch (type) {
    case "float":
      // 0 of both signs is one value.
      return String(Number(text));
    case "integer":
    case "unsigned":
      return String(BigInt(text));
    default:
      return text;
  }
}

/** The hash of a field's name, followed by that of its type and value. */
export const fieldHash = (name: string, { type, text }: FieldValue): string =>
  hash32(name) + hash32(`${type} ${canonicalValue(type, text)}`);

/** Key and field hashes of a valid point. */
export const contentOf = (point: Point): { key: string; fields: string[] } => ({
  key: pointKey(seriesOf(point), point.timeNs),
  fields: [...point.fields].map(([name, value]) => fieldHash(name, value)),
});
