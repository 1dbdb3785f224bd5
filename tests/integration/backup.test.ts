/**
 * The backup of docs/operations.md with a real InfluxDB: points of each kind of event are exported, deleted, and restored by
 * the page's own command; they are equal then, with the types of their fields.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { TelemetryStore } from "../../scripts/clients/influxdb.ts";
import { PARTS, partDir } from "../../scripts/local-cluster/index.ts";
import { exampleEvent } from "../../services/domain/event.ts";
import { checkGenericEvent } from "../../services/domain/generic-event.ts";
import { renderLine } from "../../services/domain/line-protocol.ts";
import { MEASUREMENT, renderPoint } from "../../services/domain/point.ts";
import { readOperations } from "../docs/operations-blocks.ts";
import { RealServers } from "../servers/real-servers.ts";
import { skipReason } from "./harness.ts";

const skipped = await skipReason();
const LIMIT_MS = 300_000;
/** Of each kind: the export has one line for each field, and is sent in several bodies. */
const POINTS = 1000;
const MEASUREMENTS = [MEASUREMENT, "pump, a=1"];

function linesOf(nowMs: number): string[] {
  return Array.from({ length: POINTS }, (_, seq) => {
    const time = nowMs - 60_000 + seq;
    const fields = {
      ...{
        flow: seq + 0.25,
        big: { integer: "9007199254740993" },
        most: { unsigned: "18446744073709551615" },
        ok: true,
      },
      ...{ note: 'a "quoted" \\ text,with=all 😀', empty: "", "key with, all=signs": 1 },
    };
    const tags = { site: "Köln, Süd=1", path: "C:\\Windows\\x" };
    const { event } = checkGenericEvent({ v: 2, measurement: MEASUREMENTS[1], source: "pump-7", time, tags, fields });
    return [renderPoint(exampleEvent({ conveyor: "belt-1", run: "r", seq, ts: time })), renderLine(event!.point)];
  }).flat();
}

async function bash(commands: string, cwd: string, env: Record<string, string>): Promise<string> {
  const child = Bun.spawn(["bash", "-euo", "pipefail", "-c", commands], {
    ...{ cwd, stdout: "pipe", stderr: "pipe", timeout: LIMIT_MS },
    env: { PATH: process.env.PATH, ...env },
  });
  const [out, error] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`${commands}\n${out}${error}`);
  return out;
}

describe.skipIf(skipped !== undefined)(`backup of InfluxDB${skipped ? ` (skipped: ${skipped})` : ""}`, () => {
  let servers: RealServers;
  beforeAll(async () => {
    servers = await RealServers.start({ brokers: 0 });
  }, LIMIT_MS);
  afterAll(async () => await servers?.stop());

  test(
    "points of every measurement are restored as they were",
    async () => {
      const token = await servers.onboardInflux();
      const { ca } = await servers.tlsFiles("admin");
      const store = TelemetryStore.at({ url: servers.influxUrl, token, ca });
      const nowMs = Date.now();
      const stored = async () => {
        const fields: string[] = [];
        for (const measurement of MEASUREMENTS) {
          await store.eachFieldValue(measurement, nowMs - 3_600_000, nowMs, ({ key, field }) => {
            fields.push(`${key} ${field}`);
          });
        }
        return fields.sort();
      };
      const body = linesOf(nowMs).join("\n");
      const written = await servers.influx("/api/v2/write?org=conveyor&bucket=telemetry", { method: "POST", body });
      expect(written.status).toBe(204);
      const before = await stored();
      expect(before.length).toBe(POINTS * (7 + 7));

      const buckets = await servers.influx("/api/v2/buckets?name=telemetry&org=conveyor");
      const [{ id }] = ((await buckets.json()) as { buckets: [{ id: string }] }).buckets;
      const engine = join(servers.influxData, "engine");
      const influxd = `${partDir(PARTS.influxd!)}/influxd inspect export-lp --bucket-id ${id} --engine-path ${engine}`;
      await bash(`${influxd} --compress --log-level error --output-path - > telemetry.lp.gz`, servers.folder, {});
      const removal = {
        method: "POST",
        body: JSON.stringify({ start: "2020-01-01T00:00:00Z", stop: new Date(nowMs).toISOString() }),
      };
      expect((await servers.influx("/api/v2/delete?org=conveyor&bucket=telemetry", removal)).status).toBe(204);
      expect(await stored()).toEqual([]);

      await copyFile(servers.tlsPaths("admin").ca, join(servers.folder, "conveyor-ca.crt"));
      const restore = (await readOperations()).find(({ commands }) =>
        commands.includes("zcat telemetry.lp.gz | split"),
      )!;
      const command = restore.commands.slice(restore.commands.indexOf("zcat"));
      expect(command).toContain("https://localhost:18086/");
      const output = await bash(command.replace("https://localhost:18086", servers.influxUrl), servers.folder, {
        token,
      });
      expect(output.trim()).toBe(`${Math.ceil(before.length / 5000)} answered 204`);
      expect(await stored()).toEqual(before);
    },
    LIMIT_MS,
  );
});
