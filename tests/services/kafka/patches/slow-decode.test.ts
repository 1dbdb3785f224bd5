import { describe, expect, test } from "bun:test";
import fetchResponse from "kafkajs/src/protocol/requests/fetch/v11/response.js";
import { kafkajsDecode } from "../../../../services/kafka/patches/slow-decode.ts";
import "./fixtures.ts";

describe("slow-decode", () => {
  test("kafkajs decodes fetch responses with fetch-decoder.ts", async () => {
    expect(fetchResponse.decode).not.toBe(kafkajsDecode);
    // No topics: throttle time, error code and session id, then an empty array.
    const decoded = await fetchResponse.decode(Buffer.alloc(14));
    expect(decoded).toMatchObject({ responses: [], errorCode: 0, sessionId: 0 });
  });
});
