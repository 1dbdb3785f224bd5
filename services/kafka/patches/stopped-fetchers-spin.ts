/**
 * Upstream: none.
 * Symptom: a consumer that is stopped while its fetchers are replaced, because a broker left the cluster or came back,
 *   starts the new ones after the stop. Each fetches nothing, at once and without end. No timer and no signal handler of
 *   the process runs any more: it neither leaves its group nor ends, until it is killed.
 * Change: a fetch after the stop ends the fetchers.
 */
import Runner from "kafkajs/src/consumer/runner.js";
import { method, type Patch } from "./patch.ts";

export const stoppedFetchersSpin: Patch = {
  id: "stopped-fetchers-spin",
  members: [method(Runner, "fetch")],
  install() {
    const { fetch } = Runner.prototype;
    Runner.prototype.fetch = async function (this: Runner, nodeId) {
      if (this.running) return await fetch.call(this, nodeId);
      // Not awaited: it resolves when this fetch has returned.
      void this.fetchManager.stop();
      return [];
    };
  },
};
