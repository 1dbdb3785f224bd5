/**
 * Upstream: https://github.com/tulios/kafkajs/issues/1576
 * Symptom: decoding a record costs two decoders, two big integers and several copies: most of a consumer's CPU time.
 * Change: fetch-decoder.ts reads a fetch response in one pass. A batch that cannot be read ends its partition's
 *   records instead of the complete response.
 */
import fetchResponse from "kafkajs/src/protocol/requests/fetch/v11/response.js";
import { decodeFetch } from "../fetch-decoder.ts";
import type { Patch } from "./patch.ts";

export const { decode: kafkajsDecode } = fetchResponse;

export const slowDecode: Patch = {
  id: "slow-decode",
  members: [{ name: "fetch v11 response.decode", exists: () => typeof kafkajsDecode === "function" }],
  install() {
    fetchResponse.decode = async (payload) => decodeFetch(payload);
  },
};
