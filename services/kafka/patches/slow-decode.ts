/**
 * Upstream: https://github.com/tulios/kafkajs/issues/1576
 * Symptom: decoding a record costs two decoders, two big integers and several copies: most of a consumer's CPU time.
 * Change: fetch-decoder.ts reads a fetch response in one pass. A batch that cannot be read ends its partition's
 *   records instead of the complete response.
 */
import fetchResponse from "kafkajs/src/protocol/requests/fetch/v11/response.js";
import { ExpansionLimitError } from "../compression.ts";
import { decodeFetch, UnreadableBatch } from "../fetch-decoder.ts";
import type { Patch } from "./patch.ts";

export const { decode: kafkajsDecode } = fetchResponse;

/**
 * kafkajs' decoder, for the audit's second reader. A response with a batch that cannot be read is an error for kafkajs as
 * a whole; the own decoder then returns its other records.
 */
export const independentDecode: Patch = {
  id: "independent-decode",
  members: [],
  install() {
    fetchResponse.decode = async (payload) => {
      try {
        return await kafkajsDecode(payload);
      } catch (error) {
        const own = decodeFetch(payload);
        const hasUnreadable = own.responses.some(({ partitions }) =>
          partitions.some(({ messages }) => messages.at(-1) instanceof UnreadableBatch),
        );
        // The own decoder leaves a batch that would expand too far to the next response.
        if (!hasUnreadable && !(error instanceof ExpansionLimitError)) throw error;
        return own;
      }
    };
  },
};

export const slowDecode: Patch = {
  id: "slow-decode",
  members: [{ name: "fetch v11 response.decode", exists: () => typeof kafkajsDecode === "function" }],
  install() {
    fetchResponse.decode = async (payload) => decodeFetch(payload);
  },
};
