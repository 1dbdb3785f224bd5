/**
 * Real senders of other projects, configured by the recipes of docs/senders.md, on real brokers, services and InfluxDB: every
 * point that a sender has seen acknowledged is in InfluxDB, equal in value; of Python's client although processor and broker are
 * killed meanwhile. Telegraf, MQTT and the JavaScript client: tests/cluster/senders.test.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { must } from "../../scripts/cli/process.ts";
import { silentReport } from "../scripts/cli/silent-report.ts";
import {
  allEqual,
  comparePoints,
  countStored,
  type InfluxAddress,
  KnownPoints,
  type KnownPointsOptions,
} from "../senders/known-points.ts";
import { pythonPackages, senderProgramsMissing, telegraf } from "../senders/programs.ts";
import { recipe } from "../senders/recipes.ts";
import {
  type IntakeAddress,
  pythonClient,
  recipeEnvironment,
  type Sender,
  telegrafOfFile,
} from "../senders/senders.ts";
import { freePort } from "../servers/free-ports.ts";
import { type Ledger, Pipeline, type ServiceProcess, skipReason, until } from "./harness.ts";

const report = silentReport();
const skipped = (await skipReason()) ?? (await senderProgramsMissing());
const python = skipped ? {} : await pythonPackages(report);
const POINTS = 10_000;
/** A broker start, a leader election or a backlog takes ten seconds; minutes on a busy machine. */
const STEP_LIMIT_MS = 150_000;
/** A sender writes 10,000 points within seconds, and repeats what a killed broker has not acknowledged. */
const SEND_LIMIT_MS = 300_000;
/** A dozen such steps. */
const LIMIT_MS = 900_000;
/** Compiling Telegraf takes minutes, once per machine; then three brokers start. */
const SETUP_LIMIT_MS = 1_800_000;
/** Killed while points are on their way. */
const KILLED_BROKER = 1;
/** Times of the points of different tests do not overlap. */
const RANGE_MS = 60_000;

describe.skipIf(skipped !== undefined)(`senders${skipped ? ` (skipped: ${skipped})` : ""}`, () => {
  let pipeline: Pipeline;
  let producer: ServiceProcess;
  let processor: ServiceProcess;
  let address: IntakeAddress;
  let influx: InfluxAddress;
  let ranges = 0;
  const hourAgoMs = Date.now() - 3_600_000;

  const acknowledged = () => producer.metric("conveyor_producer_events_acknowledged_total");
  const folderOf = (name: string) => join(pipeline.servers.folder, name);

  function pointsOf(
    options: Omit<KnownPointsOptions, "measurement" | "startMs"> & { measurement?: string },
  ): KnownPoints {
    return new KnownPoints({ measurement: "pump", startMs: hourAgoMs + ranges++ * RANGE_MS, ...options });
  }

  beforeAll(async () => {
    await telegraf(report);
    pipeline = await Pipeline.start(3);
    await pipeline.prepare();
    await pipeline.setup();
    const { servers } = pipeline;
    const secrets = folderOf("producer-intake");
    await mkdir(secrets);
    const token = "token-of-the-real-senders";
    const digest = new Bun.CryptoHasher("sha256").update(token).digest("hex");
    await writeFile(join(secrets, "token"), "the-shared-token-of-the-intake");
    await writeFile(
      join(secrets, "senders.json"),
      JSON.stringify({ plant: { tokens: [`sha256:${digest}`], sources: ["*"] } }),
    );
    const port = await freePort();
    producer = await pipeline.producer({
      SOURCE: "http",
      INTAKE_PORT: String(port),
      INTAKE_TOKEN_FILE: join(secrets, "token"),
      INTAKE_ORG: "conveyor",
      INTAKE_BUCKET: "telemetry",
    });
    processor = await pipeline.processor();
    await producer.ready(STEP_LIMIT_MS);
    await processor.ready(STEP_LIMIT_MS);
    const { ca } = await servers.tlsFiles("producer");
    address = { url: `https://localhost:${port}`, token, caFile: servers.tlsPaths("producer").ca };
    influx = { url: servers.influxUrl, token: servers.influxAdmin.token, ca };
  }, SETUP_LIMIT_MS);
  afterAll(async () => await pipeline?.stop());

  /** Feeds the points in quarters. The processor and a broker are killed and started again while points are on their way. */
  async function sendUnderFaults(sender: Sender, count: number): Promise<void> {
    const { servers } = pipeline;
    let fed = 0;
    const feedQuarter = async (when: string) => {
      const before = await acknowledged();
      await sender.feed(fed, fed + count / 4);
      fed += count / 4;
      await until(`acknowledgements ${when}`, STEP_LIMIT_MS, async () =>
        (await acknowledged()) > before ? true : undefined,
      );
    };
    await feedQuarter("with all servers");
    await processor.stop("SIGKILL");
    await feedQuarter("without a processor");
    await feedQuarter("without a processor");
    await servers.kill(`kafka-${KILLED_BROKER}`);
    await feedQuarter("without a broker and a processor");
    processor = await pipeline.processor();
    await processor.ready(STEP_LIMIT_MS);
    await servers.startBroker(KILLED_BROKER);
    await pipeline.inSync(STEP_LIMIT_MS);
  }

  async function expectStored(points: KnownPoints): Promise<void> {
    await until(`${points.count} points in InfluxDB`, STEP_LIMIT_MS, async () =>
      (await countStored(points, influx)) >= points.count ? true : undefined,
    );
    expect(await comparePoints(points, influx)).toEqual(allEqual(points));
  }

  test.skipIf(python.path === undefined)(
    `InfluxDB's client for Python: 10,000 points${python.problem ? ` (skipped: ${python.problem})` : ""}`,
    async () => {
      const points = pointsOf({ count: POINTS });
      await using sender = await pythonClient(points, address, folderOf("python"), python.path!);
      await sendUnderFaults(sender, POINTS);
      expect(await sender.finish(SEND_LIMIT_MS)).toBe(POINTS);
      await expectStored(points);
    },
    LIMIT_MS,
  );

  test(
    "Telegraf's outputs.http: 10,000 events of version 2",
    async () => {
      // Fields that the other points have as integers are floats here: InfluxDB takes one type per measurement and field.
      const measurement = "pump_json";
      const points = pointsOf({ measurement, count: POINTS, unitTag: "source", numbers: "floats" });
      const output = `[agent]\n  flush_interval = "1s"\n${await recipe("telegraf-http")}`;
      await using sender = await telegrafOfFile(points, address, folderOf("telegraf-http"), output, report);
      await sender.feed(0, POINTS);
      expect(await sender.finish(SEND_LIMIT_MS)).toBe(POINTS);
      await expectStored(points);
    },
    LIMIT_MS,
  );

  /** Rows of a query on the points of the last minutes. */
  async function rowsSince(startMs: number, source: string): Promise<Record<string, unknown>[]> {
    const text = await pipeline.servers.query(
      `from(bucket: "telemetry") |> range(start: time(v: ${startMs}000000)) |> filter(fn: (r) => r._measurement == "pump" and r.source == "${source}")` +
        ` |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value") |> group()`,
    );
    const [head = "", ...lines] = text.trim().split("\r\n");
    const names = head.split(",");
    return lines.map((line) => {
      const cells = line.split(",");
      return Object.fromEntries(names.map((name, index) => [name, cells[index]]));
    });
  }

  test(
    "curl: an event, a line, a compressed file",
    async () => {
      const folder = folderOf("curl");
      await mkdir(folder);
      const startMs = Date.now();
      const events = Array.from({ length: 50 }, (_, index) =>
        JSON.stringify({
          ...{ v: 2, measurement: "pump", source: "pump-file", time: startMs + index },
          fields: { flow_l_min: index / 2 },
        }),
      );
      await writeFile(join(folder, "events.ndjson"), `${events.join("\n")}\n`);
      for (const text of [await recipe("curl-event"), await recipe("curl-line"), await recipe("curl-file")]) {
        await must(["bash", "-e", "-c", text], { cwd: folder, env: recipeEnvironment(address) });
      }
      await until("the points of curl", STEP_LIMIT_MS, async () =>
        (await rowsSince(startMs, "pump-7")).length >= 2 && (await rowsSince(startMs, "pump-file")).length >= 50
          ? true
          : undefined,
      );
      const rows = await rowsSince(startMs, "pump-7");
      expect(rows).toHaveLength(2);
      for (const row of rows) expect(row).toMatchObject({ flow_l_min: "121.5", running: "true" });
      const flows = (await rowsSince(startMs, "pump-file")).map((row) => Number(row.flow_l_min));
      expect(flows.sort((a, b) => a - b)).toEqual(events.map((_, index) => index / 2));
    },
    LIMIT_MS,
  );

  test(
    "Python without a package: events with their own identity",
    async () => {
      const folder = folderOf("python-events");
      await mkdir(folder);
      const startMs = Date.now();
      const file = join(folder, "send.py");
      await writeFile(file, await recipe("python-events"));
      expect(await must(["python3", file], { cwd: folder, env: recipeEnvironment(address) })).toBe("");
      const rows = await until("100 events of Python", STEP_LIMIT_MS, async () => {
        const found = (await rowsSince(startMs, "pump-7")).filter(({ starts }) => starts);
        return found.length >= 100 ? found : undefined;
      });
      expect(rows.map(({ starts }) => Number(starts)).sort((a, b) => a - b)).toEqual(
        Array.from({ length: 100 }, (_, index) => index),
      );
      const ledger = JSON.parse((await producer.get("/ledger")).text) as Ledger;
      const runs = Object.entries(ledger.runs).filter(([run]) => run.startsWith("run-"));
      expect(runs.map(([, sources]) => sources)).toEqual([{ "pump-7": [[0, 99]] }]);
    },
    LIMIT_MS,
  );
});
