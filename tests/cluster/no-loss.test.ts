/**
 * Goal: deleting any pod on the path loses no acknowledged event.
 * Method: 500 events/s flow from stdin while the processor, each broker and InfluxDB are deleted one after the other, each
 * awaited Ready again; then the acknowledged events are compared with the points in InfluxDB, by identity.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { pause, waitFor } from "../../scripts/cli/wait.ts";
import { ProbeSession } from "../../scripts/clients/probe-session.ts";
import { type Cluster, isReady, NAMESPACE } from "../../scripts/cluster/cluster.ts";
import { deployedServicesImage } from "../../scripts/cluster/services-image.ts";
import { ingest } from "../../scripts/ingest/ingest.ts";
import { atRest, cluster, describeOnCluster, newRun, testEvent } from "./harness.ts";

const EVENTS_PER_SECOND = 500;
const CONVEYORS = 5;
const SLICE_MS = 50;
/** Traffic before the first and after the last fault. */
const MARGIN_MS = 5000;
/** Five faults of some ten seconds each fit many times. */
const TRAFFIC_LIMIT_MS = 900_000;
const READY_LIMIT_MS = 240_000;
/** Events are stored within a second; a processor that just started on a busy machine takes a minute. */
const STORE_LIMIT_MS = 180_000;

let target: Cluster;
let context: ProbeSession;

/**
 * Deletes one pod of a workload and waits until as many as before are Ready, with a new one among them; of the scaled
 * processors at least one.
 */
async function deleteAndAwait(workload: string, podName: string): Promise<void> {
  const before = await target.pods(workload);
  const least = workload === "processor" ? 1 : before.length;
  const deleted = before.find((pod) => pod.metadata.name === podName);
  expect(deleted).toBeDefined();
  await target.kubectl(["delete", "pod", podName, "-n", NAMESPACE, "--wait=true"], { timeoutMs: READY_LIMIT_MS });
  await waitFor(
    async () => {
      const now = await target.pods(workload);
      const renewed = now.some((pod) => !before.some((old) => old.metadata.uid === pod.metadata.uid));
      return renewed && now.length >= least && now.every(isReady)
        ? { done: true, value: true }
        : { done: false, state: now.map((pod) => `${pod.metadata.name} ${pod.status.phase}`).join(", ") };
    },
    { what: `${workload} to be Ready again after ${podName} was deleted`, limitMs: READY_LIMIT_MS },
  );
}

describeOnCluster("no acknowledged event is lost", () => {
  beforeAll(async () => {
    target = await cluster();
    // A processor that its autoscaler is about to remove would not be replaced.
    await atRest(target);
    context = new ProbeSession(target, await deployedServicesImage(target), new AbortController().signal);
  }, READY_LIMIT_MS * 3);
  afterAll(() => context?.close());

  test(
    "while the processor, each broker and InfluxDB are deleted under 500 events/s",
    async () => {
      const run = newRun("noloss");
      const startMs = Date.now() - 1000;
      let faultsDone = false;
      let sent = 0;
      const limit = AbortSignal.timeout(TRAFFIC_LIMIT_MS);

      async function* traffic(): AsyncGenerator<Uint8Array> {
        const encoder = new TextEncoder();
        const startedAt = performance.now();
        while (!faultsDone) {
          limit.throwIfAborted();
          const due = Math.floor(((performance.now() - startedAt) * EVENTS_PER_SECOND) / 1000);
          const lines: string[] = [];
          const ts = Date.now();
          for (; sent < due; sent++) {
            lines.push(JSON.stringify(testEvent(run, `test-${sent % CONVEYORS}`, Math.floor(sent / CONVEYORS), ts)));
          }
          if (lines.length > 0) yield encoder.encode(`${lines.join("\n")}\n`);
          await pause(SLICE_MS);
        }
      }

      const faults = (async () => {
        try {
          await pause(MARGIN_MS);
          await deleteAndAwait("processor", (await target.pods("processor"))[0]!.metadata.name);
          for (const broker of ["kafka-0", "kafka-1", "kafka-2"]) await deleteAndAwait("kafka", broker);
          await deleteAndAwait("influxdb", "influxdb-0");
          await pause(MARGIN_MS);
        } finally {
          faultsDone = true;
        }
      })();
      const [result] = await Promise.all([
        ingest(target, traffic(), { image: context.image, signal: limit, runId: run }),
        faults,
      ]);
      expect(result).toMatchObject({ read: sent, acknowledged: sent, refused: 0, failed: 0 });
      expect(sent).toBeGreaterThan((EVENTS_PER_SECOND * MARGIN_MS * 2) / 1000);

      const store = await context.store();
      const stored = await waitFor(
        async () => {
          const found = await store.run(run, startMs, Date.now() + 1000);
          return found.points >= sent
            ? { done: true, value: found }
            : { done: false, state: `${found.points} of ${sent} acknowledged events stored` };
        },
        { what: "every acknowledged event in InfluxDB", limitMs: STORE_LIMIT_MS, intervalMs: 1000 },
      );
      const missing: string[] = [];
      for (let index = 0; index < sent; index++) {
        const [conveyor, seq] = [`test-${index % CONVEYORS}`, Math.floor(index / CONVEYORS)];
        if (!stored.sequences.get(conveyor)?.has(seq)) missing.push(`${conveyor}/${seq}`);
      }
      expect(missing).toEqual([]);
      expect(stored).toMatchObject({ points: sent, duplicates: 0 });
    },
    TRAFFIC_LIMIT_MS + STORE_LIMIT_MS + 60_000,
  );
});
