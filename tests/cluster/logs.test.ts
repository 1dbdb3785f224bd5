/**
 * Log search in pods and in the deployed log store: the lines of producer and processor about one event, and numbered lines
 * across restarts of the collector and the store.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pause, waitFor } from "../../scripts/cli/wait.ts";
import type { LogEntry } from "../../scripts/clients/log-search.ts";
import { deployedLogBackend, openLogStore } from "../../scripts/clients/log-store.ts";
import type { LokiStore } from "../../scripts/clients/loki.ts";
import type { Cluster } from "../../scripts/cluster/cluster.ts";
import { awaitRollout } from "../../scripts/cluster/rollout.ts";
import { deployedServicesImage } from "../../scripts/cluster/services-image.ts";
import { runCanary } from "../../scripts/logs/log-canary.ts";
import { cluster, describeOnCluster, newRun, script, scriptDocument, testEvent } from "./harness.ts";

const isOn = process.env.CONVEYOR_CLUSTER_TESTS === "1";
const backend = isOn ? await deployedLogBackend(await cluster()) : undefined;

/** An event's line is in the store after a second, of a quiet pod after ten; later on a busy machine. */
const LINE_LIMIT_MS = 60_000;
const RESTART_LIMIT_MS = 180_000;
const LOGGING_NAMESPACE = "conveyor-logging";

interface Found {
  source: string;
  count: number;
  entries: LogEntry[];
}

async function search(...args: string[]): Promise<Found> {
  return await scriptDocument<Found>(["scripts/logs.ts", "--local", ...args]);
}

/** Sends one event whose sequence number is logged. Returns its identity. */
async function sendTraced(): Promise<{ run: string; conveyor: string; seq: number }> {
  const identity = { run: newRun("logs"), conveyor: "test-0", seq: 17_000 };
  const folder = await mkdtemp(join(tmpdir(), "conveyor-logs-"));
  try {
    const path = join(folder, "events.ndjson");
    const event = testEvent(identity.run, identity.conveyor, identity.seq, Date.now());
    const other = testEvent(identity.run, identity.conveyor, identity.seq + 1, Date.now());
    await Bun.write(path, `${JSON.stringify(event)}\n${JSON.stringify(other)}\n`);
    await scriptDocument(["scripts/ingest.ts", path, "--local"]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return identity;
}

async function awaitLines(expected: number, ...args: string[]): Promise<Found> {
  return await waitFor(
    async () => {
      const found = await search(...args);
      return found.count >= expected ? { done: true, value: found } : { done: false, state: `${found.count} lines` };
    },
    { what: `${expected} lines of ${args.join(" ")}`, limitMs: LINE_LIMIT_MS, intervalMs: 1000 },
  );
}

describeOnCluster("log search", () => {
  let identity: { run: string; conveyor: string; seq: number };
  beforeAll(async () => {
    identity = await sendTraced();
  }, 120_000);
  const eventOf = () => `${identity.run}/${identity.conveyor}/${identity.seq}`;

  test("--source pods finds the processor's line about an event by its identity", async () => {
    const found = await awaitLines(1, "--source", "pods", "--event", eventOf());
    expect(found.source).toBe("pods");
    expect(found.entries.map(({ service, event }) => `${service} ${event}`)).toContain("processor event_stored");
  }, 120_000);

  test("finds no line of an unknown event", async () => {
    expect((await search("--event", `${newRun("never")}/test-0/1000`)).count).toBe(0);
  }, 60_000);

  test("exits 2 on an invalid value of a flag", async () => {
    for (const args of [
      ["--event", "a/b/c/d"],
      ["--grep", "("],
      ["--level", "loud"],
      ["--since", "soon"],
    ]) {
      const { exitCode } = await script(["scripts/logs.ts", "--local", ...args]);
      expect([args.join(" "), exitCode]).toEqual([args.join(" "), 2]);
    }
  }, 60_000);

  test("a log store is deployed", () => expect(backend?.name).toBeOneOf(["loki", "victorialogs"]));

  describe.skipIf(!backend)("in the log store", () => {
    test("an identity finds the lines of producer and processor, also of a deleted pod", async () => {
      const found = await awaitLines(2, "--event", eventOf());
      expect(found.source).toBe(backend!.name);
      // Their order is a race: Kafka answers the producer and a waiting fetch at the same time.
      expect(found.entries.map(({ service, event }) => `${service} ${event}`).sort()).toEqual([
        "processor event_stored",
        "producer event_acknowledged",
      ]);
      // The next event is not logged: one of a thousand is.
      expect((await search("--event", `${identity.run}/${identity.conveyor}/${identity.seq + 1}`)).count).toBe(0);
    }, 120_000);

    test.skipIf(backend?.name !== "loki")(
      "Loki has only the labels of the collector (only with Loki)",
      async () => {
        const store = (await openLogStore(await cluster())) as LokiStore;
        try {
          const labels = await store.get<{ data: string[] }>("/loki/api/v1/labels", { since: "1h" });
          expect(labels.data.sort()).toEqual(["app", "container", "level", "namespace", "pod", "service"]);
        } finally {
          await store.close();
        }
      },
      60_000,
    );

    test("service, level and text restrict the search; every component has lines, each with a level of the fixed set", async () => {
      for (const service of ["producer", "processor", "kafka", "influxdb", "prometheus"]) {
        const { entries } = await search("--service", service, "--since", "1h", "--limit", "50");
        expect([service, entries.length > 0]).toEqual([service, true]);
        for (const { level } of entries) expect(["debug", "info", "warn", "error", "unknown"]).toContain(level);
        expect(entries.some(({ level }) => level !== "unknown")).toBe(true);
      }
      const lines = await search(
        "--service",
        "processor",
        "--level",
        "info",
        "--grep",
        "event_stored",
        "--since",
        "1h",
      );
      expect(lines.count).toBeGreaterThan(0);
      for (const { service, level, line } of lines.entries) {
        expect([service, level, line.includes("event_stored")]).toEqual(["processor", "info", true]);
      }
    }, 120_000);

    test("10,000 lines across restarts of the collector and the store: none lost, none repeated", async () => {
      const target: Cluster = await cluster();
      const { signal } = new AbortController();
      const restart = async (kind: "DaemonSet" | "Deployment", name: string, namespace: string) => {
        const before = (await target.pods(name, namespace)).map(({ metadata }) => metadata.uid);
        await target.kubectl(
          ["delete", "pod", "-n", namespace, "-l", `app.kubernetes.io/name=${name}`, "--wait=true"],
          {
            timeoutMs: RESTART_LIMIT_MS,
          },
        );
        await awaitRollout(target, kind, name, { limitMs: RESTART_LIMIT_MS, signal, namespace });
        const after = (await target.pods(name, namespace)).map(({ metadata }) => metadata.uid);
        expect(after.filter((uid) => before.includes(uid))).toEqual([]);
      };
      const verdict = await runCanary(target, {
        image: await deployedServicesImage(target),
        lines: 10_000,
        ratePerSecond: 150,
        signal,
        meanwhile: async () => {
          // One after the other, while lines are written.
          await pause(10_000);
          await restart("DaemonSet", backend!.collector.toLowerCase(), LOGGING_NAMESPACE);
          await restart("Deployment", backend!.name, "conveyor");
        },
      });
      expect(verdict).toMatchObject({ written: 10_000, found: 10_000, missing: [], repeated: 0, foreign: 0 });
    }, 600_000);
  });
});
