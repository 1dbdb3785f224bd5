import { describe, expect, test } from "bun:test";
import Runner from "kafkajs/src/consumer/runner.js";
import { groupOf, HANGS_MS, silent } from "./fixtures.ts";

/** A few for each fetcher; without the patch they do not end. */
const CHECKS_LIMIT = 100;

describe("stopped-fetchers-spin", () => {
  test.each([
    ["left", [0]],
    ["came back", [0, 1, 2]],
  ])(
    "a consumer that is stopped while its fetchers are replaced, because a broker %s, leaves its group",
    async (_, after) => {
      let nodeIds = [0, 1];
      let stopped = false;
      let checks = 0;
      let left = 0;
      const crashes: Error[] = [];
      const fetches = nodeIds.map(() => Promise.withResolvers<void>());
      const group = Object.assign(groupOf(undefined), {
        connect: async () => {},
        joinAndSync: async () => {},
        heartbeat: async () => {},
        leave: async () => void left++,
        fetch: async (nodeId: number) => {
          await fetches[nodeId]!.promise;
          return [];
        },
        // Called before each fetch. Without the patch no timer runs that could end this test: the error does.
        getNodeIds() {
          if (stopped && ++checks > CHECKS_LIMIT) throw new Error("the fetchers spin");
          return nodeIds;
        },
      });
      const runner = new Runner({
        logger: silent,
        consumerGroup: group,
        instrumentationEmitter: { emit() {} },
        onCrash: (error: Error) => void crashes.push(error),
        concurrency: 1,
        retry: { retries: 0 },
      });
      await runner.start();
      nodeIds = after;
      // This fetcher finds the change, and the replacement waits for the other one.
      fetches[0]!.resolve();
      await Bun.sleep(0);
      stopped = true;
      const stop = runner.stop();
      fetches[1]!.resolve();
      await stop;
      expect({ left, crashes }).toEqual({ left: 1, crashes: [] });
      expect(checks).toBeGreaterThan(0);
      expect(checks).toBeLessThanOrEqual(CHECKS_LIMIT);
    },
    HANGS_MS,
  );
});
