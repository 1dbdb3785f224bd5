/**
 * Goal: what a real sender outside the cluster has seen acknowledged is in InfluxDB, equal in value, although processor and
 * broker are deleted meanwhile.
 * Method: the intake is exposed at a node port. Telegraf, machines over MQTT and InfluxDB's client for JavaScript run on this
 * machine with the recipes of docs/senders.md, and their own token; the points are then read from InfluxDB itself.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "../../scripts/cli/wait.ts";
import {
  type Cluster,
  isReady,
  type KubernetesObject,
  NAMESPACE,
  type PortForward,
} from "../../scripts/cluster/cluster.ts";
import { intakeEndpoint, readExposure } from "../../scripts/cluster/intake-exposure.ts";
import { readSecret } from "../../scripts/cluster/secret-values.ts";
import { silentReport } from "../scripts/cli/silent-report.ts";
import { allEqual, comparePoints, countStored, type InfluxAddress, KnownPoints } from "../senders/known-points.ts";
import { mosquitto, senderProgramsMissing, telegraf } from "../senders/programs.ts";
import { recipe } from "../senders/recipes.ts";
import {
  type IntakeAddress,
  javascriptClient,
  machinesOverMqtt,
  type Sender,
  telegrafOfFile,
} from "../senders/senders.ts";
import { freePort } from "../servers/free-ports.ts";
import { atRest, cluster, describeOnCluster, newRun, script, scriptDocument } from "./harness.ts";

const POINTS = 100_000;
/** Four parts: points are on their way at each fault. */
const PARTS = 4;
const READY_LIMIT_MS = 240_000;
/** A processor that just started on a busy machine takes a minute for a backlog. */
const STORE_LIMIT_MS = 180_000;
/** 100,000 points take some ten seconds, and a broker's failover as long. */
const SEND_LIMIT_MS = 300_000;
const LIMIT_MS = 2 * READY_LIMIT_MS + STORE_LIMIT_MS + SEND_LIMIT_MS;
/** Compiling Telegraf takes minutes, once per machine; then two deploys. */
const SETUP_LIMIT_MS = 2_700_000;
const DEPLOY_LIMIT_MS = 600_000;
/** Times of the points of different tests do not overlap. */
const RANGE_MS = 60_000;

const report = silentReport();
const missing = process.env.CONVEYOR_CLUSTER_TESTS === "1" ? await senderProgramsMissing() : undefined;
const site = newRun("hall");
const sender = newRun("senders");
const hourAgoMs = Date.now() - 3_600_000;

let target: Cluster;
let folder = "";
let forward: PortForward | undefined;
let address: IntakeAddress;
let influx: InfluxAddress;
let wasExposed = true;

/** Deletes a pod at once and waits until as many pods as before are Ready, with a new one among them. */
async function deleteAndAwait(workload: string, index: number): Promise<void> {
  const before = await target.pods(workload);
  const { name, uid } = before[index]!.metadata;
  await target.kubectl(["delete", "pod", name, "-n", NAMESPACE, "--now", "--wait=true"], { timeoutMs: READY_LIMIT_MS });
  const least = workload === "processor" ? 1 : before.length;
  await waitFor(
    async () => {
      const now = await target.pods(workload);
      const isDone = now.length >= least && now.every(isReady) && now.every((pod) => pod.metadata.uid !== uid);
      return isDone
        ? { done: true, value: true }
        : { done: false, state: now.map((pod) => `${pod.metadata.name} ${pod.status.phase}`).join(", ") };
    },
    { what: `${workload} to be Ready again after ${name} was deleted`, limitMs: READY_LIMIT_MS },
  );
}

/** Feeds the points; processor and broker are deleted while points are on their way. */
async function sendUnderFaults(sender: Sender, also: () => Promise<void> = async () => {}): Promise<void> {
  const part = POINTS / PARTS;
  await sender.feed(0, part);
  const processor = deleteAndAwait("processor", 0);
  await sender.feed(part, 2 * part);
  await processor;
  await sender.feed(2 * part, 3 * part);
  await also();
  const broker = deleteAndAwait("kafka", 1);
  await sender.feed(3 * part, POINTS);
  await broker;
}

async function expectStored(points: KnownPoints): Promise<void> {
  await waitFor(
    async () => {
      const found = await countStored(points, influx);
      return found >= POINTS ? { done: true, value: true } : { done: false, state: `${found} of ${POINTS} points` };
    },
    { what: "every acknowledged point in InfluxDB", limitMs: STORE_LIMIT_MS, intervalMs: 1000 },
  );
  expect(await comparePoints(points, influx)).toEqual(allEqual(points));
}

const pointsOf = (place: number, numbers: "exact" | "safe" = "exact") =>
  new KnownPoints({ measurement: "pump", count: POINTS, startMs: hourAgoMs + place * RANGE_MS, site, numbers });

async function deploy(...flags: string[]): Promise<void> {
  const args = ["scripts/deploy.ts", "--local", "--no-check", ...flags];
  const { exitCode, stderr } = await script(args, { limitMs: DEPLOY_LIMIT_MS });
  if (exitCode !== 0) throw new Error(`deploy ${flags.join(" ")} ended with exit ${exitCode}: ${stderr.slice(-2000)}`);
}

type Node = KubernetesObject & { status: { addresses?: { type: string; address: string }[] } };

describeOnCluster(`senders outside the cluster${missing ? ` (skipped: ${missing})` : ""}`, () => {
  beforeAll(async () => {
    if (missing) return;
    await Promise.all([telegraf(report), mosquitto("mosquitto", report)]);
    target = await cluster();
    folder = await mkdtemp(join(tmpdir(), "conveyor-senders-"));
    wasExposed = (await readExposure(target)) !== undefined;
    const { items: nodes } = await target.json<{ items: Node[] }>(["get", "nodes"]);
    const host = nodes
      .flatMap(({ status }) => status.addresses ?? [])
      .find(({ type }) => type === "InternalIP")!.address;
    await deploy("--expose", "nodeport", "--intake-host", host);
    await atRest(target);
    const endpoint = await intakeEndpoint(target, { mode: "nodeport" });
    if ("problem" in endpoint) throw new Error(endpoint.problem);
    const { token } = await scriptDocument<{ token: string }>(["scripts/senders.ts", "add", sender, "--local"]);
    const caFile = join(folder, "ca.crt");
    await writeFile(caFile, (await readSecret(target, "producer-tls"))["ca.crt"]!);
    address = { url: `https://${host}:${endpoint.port}`, token, caFile };
    forward = await target.portForward("svc/influxdb", 8086);
    influx = {
      url: `https://localhost:${forward.port}`,
      token: (await readSecret(target, "influxdb-token-reader")).token!.trim(),
      ca: (await readSecret(target, "influxdb-tls"))["ca.crt"]!,
    };
  }, SETUP_LIMIT_MS);
  afterAll(async () => {
    await forward?.close();
    if (address) await script(["scripts/senders.ts", "revoke", sender, "--local"]);
    if (!wasExposed) await deploy("--expose", "none");
    if (folder) await rm(folder, { recursive: true, force: true });
  }, DEPLOY_LIMIT_MS);

  test.skipIf(missing !== undefined)(
    "Telegraf: 100,000 points through the write API",
    async () => {
      const points = pointsOf(0);
      const output = await recipe("telegraf-influxdb");
      await using sender = await telegrafOfFile(points, address, join(folder, "telegraf"), output, report);
      await sendUnderFaults(sender);
      expect(await sender.finish(SEND_LIMIT_MS)).toBe(POINTS);
      await expectStored(points);
    },
    LIMIT_MS,
  );

  test.skipIf(missing !== undefined)(
    "machines over MQTT: 100,000 messages, while also Telegraf is killed",
    async () => {
      const points = pointsOf(1, "safe");
      await using sender = await machinesOverMqtt(points, address, join(folder, "mqtt"), await freePort(), report);
      await sendUnderFaults(sender, () => sender.restartTelegraf());
      // What the killed Telegraf had not told Mosquitto is delivered again.
      expect(await sender.finish(SEND_LIMIT_MS)).toBeGreaterThanOrEqual(POINTS);
      await expectStored(points);
    },
    LIMIT_MS,
  );

  test.skipIf(missing !== undefined)(
    "InfluxDB's client for JavaScript: 100,000 points through the write API",
    async () => {
      const points = pointsOf(2);
      await using sender = await javascriptClient(points, address, join(folder, "javascript"));
      await sendUnderFaults(sender);
      expect(await sender.finish(SEND_LIMIT_MS)).toBe(POINTS);
      await expectStored(points);
    },
    LIMIT_MS,
  );
});
