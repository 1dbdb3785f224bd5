import { describe, expect, test } from "bun:test";
import Decoder from "kafkajs/src/protocol/decoder.js";
import recordBatch from "kafkajs/src/protocol/recordBatch/v0/decoder.js";
import javaBatches from "../java-batches.json" with { type: "json" };
import "./fixtures.ts";

describe("missing-codecs", () => {
  test.each(Object.entries(javaBatches))("kafkajs' own decoder reads %s of the Java client", async (_, base64) => {
    const { records } = await recordBatch(new Decoder(Buffer.from(base64, "base64")));
    expect(records).toHaveLength(500);
  });
});
