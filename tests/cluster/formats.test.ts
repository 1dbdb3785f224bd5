/**
 * Formats of senders on the deployed pipeline. Every wrapping at both doors: taken, or refused with what to do, and the
 * dead letters afterwards are exactly the invalid events. A table as machines export it: every value is read back.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "../../scripts/cli/wait.ts";
import { TelemetryStore } from "../../scripts/clients/influxdb.ts";
import { KAFKA, ProbeSession, readBy } from "../../scripts/clients/probe-session.ts";
import type { Cluster } from "../../scripts/cluster/cluster.ts";
import { readSecret } from "../../scripts/cluster/secret-values.ts";
import { deployedServicesImage } from "../../scripts/cluster/services-image.ts";
import type { CsvSettingTexts } from "../../services/domain/formats/csv-settings.ts";
import type { IngestResult } from "../../services/protocol/final-document.ts";
import { VALID, type Wrapping, wrappings } from "../wrappings.ts";
import { cluster, describeOnCluster, newRun, script, scriptDocument } from "./harness.ts";

/** Each file needs a pod, which mostly waits for its start. */
const FILES_AT_ONCE = 3;
/** The processor stores some thousand points within seconds. */
const STORE_LIMIT_MS = 120_000;

let folder = "";
let target: Cluster;
let context: ProbeSession;

/** Name and value of every setting of a table, as flags and as query parameters have them. */
const settingsOf = (csv: CsvSettingTexts = {}): [string, string][] =>
  Object.entries(csv).flatMap(([name, values]) =>
    [values ?? []].flat().map((value): [string, string] => [name, value]),
  );

const flagsOf = (csv?: CsvSettingTexts) => settingsOf(csv).map(([name, value]) => `--${name}=${value}`);

/** Reasons of the dead letters since a time, of one door. */
async function deadLettersSince(startMs: number, source: "http" | "stdin"): Promise<string[]> {
  const { result } = await context.probeFrom("admin", {
    result: { kind: "dlq_read", ...KAFKA, from_timestamp_ms: startMs, max: 20_000 },
  });
  return readBy(result, "the dead-letter topic")
    .filter(({ headers }) => headers.source === source)
    .map(({ headers }) => headers.reason!)
    .sort();
}

const expectedReasons = (cases: readonly Wrapping[], door: "intake" | "ingest") =>
  cases.flatMap((one) => (one[door] === undefined ? [one.reason!] : [])).sort();

describeOnCluster("formats", () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-formats-"));
    target = await cluster();
    context = new ProbeSession(target, await deployedServicesImage(target), new AbortController().signal);
  });
  afterAll(async () => {
    await context?.close();
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  test("every wrapping at the intake", async () => {
    const startMs = Date.now();
    const cases = wrappings(newRun("wrapped"), startMs);
    const [{ token }, { "ca.crt": ca }] = await Promise.all([
      readSecret(target, "producer-intake"),
      readSecret(target, "producer-tls"),
    ]);
    await using forward = await target.portForward("svc/producer", 8443);
    for (const { name, bytes, headers, csv, intake } of cases) {
      const response = await fetch(`https://localhost:${forward.port}/events?${new URLSearchParams(settingsOf(csv))}`, {
        method: "POST",
        headers: { authorization: `Bearer ${token!.trim()}`, ...headers },
        body: bytes as BodyInit,
        tls: { ca: ca! },
      });
      const answer = (await response.json()) as { acknowledged?: number; refused_count?: number; error?: string };
      if (intake === undefined) {
        expect({ name, status: response.status, ...answer }).toMatchObject({
          name,
          status: 207,
          acknowledged: VALID,
          refused_count: 1,
        });
      } else {
        expect({ name, status: response.status, error: answer.error }).toEqual({
          name,
          status: 415,
          error: expect.stringContaining(intake),
        });
      }
    }
    expect(await deadLettersSince(startMs, "http")).toEqual(expectedReasons(cases, "intake"));
  }, 300_000);

  test("every wrapping as a file", async () => {
    const startMs = Date.now();
    const cases = wrappings(newRun("wrapped"), startMs);
    const check = async ({ name, bytes, csv, reason, ingest }: Wrapping, index: number) => {
      const path = join(folder, `wrapped-${index}`);
      await writeFile(path, bytes);
      const { exitCode, stdout, stderr } = await script([
        "scripts/ingest.ts",
        path,
        "--local",
        "--json",
        ...flagsOf(csv),
      ]);
      if (ingest === undefined) {
        expect({ name, exitCode, ...(JSON.parse(stdout) as IngestResult) }).toMatchObject({
          name,
          exitCode: 0,
          acknowledged: VALID,
          refused: 1,
          refused_by_reason: { [reason!]: 1 },
        });
      } else {
        expect({ name, exitCode, stderr }).toEqual({ name, exitCode: 2, stderr: expect.stringContaining(ingest) });
      }
    };
    const rest = [...cases.entries()];
    const worker = async () => {
      for (let next = rest.shift(); next; next = rest.shift()) await check(next[1], next[0]);
    };
    await Promise.all(Array.from({ length: FILES_AT_ONCE }, worker));
    expect(await deadLettersSince(startMs, "stdin")).toEqual(expectedReasons(cases, "ingest"));
  }, 900_000);

  test("a table of eight sensors with gaps and local time: every value is read back, and a second time adds no point", async () => {
    const COUNT = 3000;
    const SENSORS = [
      "Accel 1 RMS",
      "Accel 2 RMS",
      "Current",
      "Pressure",
      "Temperature",
      "Thermocouple",
      "Voltage",
      "Volume Flow RateRMS",
    ];
    const names = ["accel_1", "accel_2", "current", "pressure", "temperature", "thermocouple", "voltage", "flow"];
    const measurement = `test_${newRun("table").replaceAll(/[^a-z0-9]/gi, "_")}`;
    const endMs = Math.floor(Date.now() / 1000) * 1000;
    const startMs = endMs - COUNT * 1000;
    const local = new Intl.DateTimeFormat("sv-SE", {
      timeZone: "Europe/Berlin",
      dateStyle: "short",
      timeStyle: "medium",
    });
    const expected = new Map<string, number>();
    const rows = Array.from({ length: COUNT }, (_, row) => {
      const ms = startMs + row * 1000;
      const cells = names.map((name, sensor) => {
        // A gap now and then.
        if ((row * 7 + sensor * 11) % 41 === 0) return "";
        const value = Number((Math.sin(row / 50 + sensor) * 100).toFixed(4));
        expected.set(`${name} ${ms}`, value);
        return String(value).replace(".", ",");
      });
      return [local.format(ms), ...cells].join(";");
    });
    const path = join(folder, "bench.csv");
    await writeFile(path, `\ufeff${["datetime", ...SENSORS].join(";")}\r\n${rows.join("\r\n")}\r\n`);
    const mapping = join(folder, "bench.yaml");
    const fields = names.map((name, index) => `  ${name}: {column: ${SENSORS[index]}, type: float}`).join("\n");
    await writeFile(
      mapping,
      `measurement: ${measurement}\nsource: bench-1\ntime: {column: datetime, zone: Europe/Berlin}\ndecimal: comma\nfields:\n${fields}\n`,
    );
    await using store = await TelemetryStore.open(target);
    const rowsOf = async (name: string) =>
      await store.query<{ _time: string; _field: string; _value: number; source: string }>(
        `from(bucket: "telemetry") |> range(start: time(v: ${startMs}000000), stop: time(v: ${endMs + 1000}000000)) ` +
          `|> filter(fn: (r) => r._measurement == "${name}")`,
      );
    const ingest = ["scripts/ingest.ts", path, "--local", "--mapping", mapping];
    for (const time of ["first", "second"]) {
      const outcomes = await scriptDocument<IngestResult>(ingest);
      expect({ time, ...outcomes }).toMatchObject({ time, read: COUNT, acknowledged: COUNT, refused: 0 });
      // The records of one source keep their order: once this one is stored, every row is.
      const last = `${measurement}_${time}`;
      const event = { v: 2, measurement: last, source: "bench-1", time: endMs, fields: { done: 1 } };
      const file = join(folder, "last.json");
      await writeFile(file, JSON.stringify(event));
      await scriptDocument(["scripts/ingest.ts", file, "--local"]);
      await waitFor(
        async () => {
          const rows = await rowsOf(last);
          return rows.length > 0 ? { done: true, value: rows } : { done: false, state: "no point" };
        },
        { what: `the point of ${last}`, limitMs: STORE_LIMIT_MS, intervalMs: 2000 },
      );
      const rows = await rowsOf(measurement);
      // seq is in the digits below the millisecond.
      const found = rows.map(({ _time, _field, _value }): [string, number] => [
        `${_field} ${Date.parse(_time)}`,
        _value,
      ]);
      // Not only as many: each key once, with its value.
      expect(found).toHaveLength(expected.size);
      expect(new Map(found)).toEqual(expected);
      expect(new Set(rows.map(({ source }) => source))).toEqual(new Set(["bench-1"]));
    }
  }, 600_000);
});
