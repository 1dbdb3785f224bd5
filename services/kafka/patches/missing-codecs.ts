/**
 * Upstream: https://github.com/tulios/kafkajs/issues/1475
 * Symptom: a batch in Snappy, LZ4 or zstd ends the consumer; one in gzip is decompressed to any size.
 * Change: all codecs are decoded, up to the limit of fetch-decoder.ts. This project's producers do not compress.
 */
import { CompressionCodecs } from "kafkajs";
import { CODECS, decompress } from "../compression.ts";
import { MAX_EXPANDED_BYTES } from "../fetch-decoder.ts";
import type { Patch } from "./patch.ts";

const compress = async () => {
  throw new Error("batches are written uncompressed");
};

export const missingCodecs: Patch = {
  id: "missing-codecs",
  members: [{ name: "CompressionCodecs", exists: () => typeof CompressionCodecs === "object" }],
  install() {
    for (const codec of Object.keys(CODECS).map(Number)) {
      CompressionCodecs[codec as keyof typeof CompressionCodecs] = () => ({
        compress,
        decompress: async (source: Buffer) => decompress(codec, source, MAX_EXPANDED_BYTES),
      });
    }
  },
};
