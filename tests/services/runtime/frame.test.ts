/** What every service stands in: configuration, log, shutdown, health, metrics. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { ConfigError, ConfigReader } from "../../../services/runtime/config.ts";
import { Health } from "../../../services/runtime/health.ts";
import { errorText, Logger, LogThrottle } from "../../../services/runtime/log.ts";
import { BulkHistogram, METRIC_TABLE, Metrics } from "../../../services/runtime/metrics.ts";
import { startOpsServer } from "../../../services/runtime/ops-server.ts";
import { runSteps, Shutdown } from "../../../services/runtime/shutdown.ts";
import { eventually } from "../../eventually.ts";
import { testCertificate } from "../certificate.ts";

/** Much longer than a second signal takes to arrive. */
const FORCED_WORK_MS = 19_000;
const silent = new Logger("test", "error", {}, () => {});

describe("ConfigReader", () => {
  test("reports all problems together, each with variable, rule and value", () => {
    const reader = new ConfigReader(
      { PORT: "http", LEVEL: "loud", URL: "http://plain", BROKERS: "kafka", RATE: "-1", TOKEN_FILE: "/nowhere" },
      () => {
        throw Object.assign(new Error("no such file"), { code: "ENOENT" });
      },
    );
    reader.integer("PORT", { least: 1, most: 65_535, fallback: 1 });
    reader.choice("LEVEL", ["info", "debug"], "info");
    reader.httpsUrl("URL");
    reader.brokers("BROKERS");
    reader.number("RATE", { least: 0, most: 10, fallback: 1 });
    reader.secretFile("TOKEN_FILE");
    reader.text("MISSING");
    let problems: readonly string[] = [];
    try {
      reader.done();
    } catch (error) {
      problems = (error as ConfigError).problems;
    }
    expect(problems).toEqual([
      'PORT: must be a whole number from 1 to 65535; got "http"',
      'LEVEL: must be one of info, debug; got "loud"',
      'URL: must be an https:// address; got "http://plain"',
      'BROKERS: must be a comma list of host:port; got "kafka"',
      'RATE: must be a number from 0 to 10; got "-1"',
      'TOKEN_FILE: must name a readable file (ENOENT); got "/nowhere"',
      "MISSING: is required",
    ]);
  });

  test("uses the default of an absent or empty variable", () => {
    const reader = new ConfigReader({ EMPTY: "" });
    expect(reader.text("EMPTY", "fallback")).toBe("fallback");
    expect(reader.integer("ABSENT", { least: 0, most: 9, fallback: 4 })).toBe(4);
    expect(reader.choices("ABSENT", ["a", "b"], "a,b")).toEqual(["a", "b"]);
    reader.done();
  });

  test("no message contains a secret's value", () => {
    const reader = new ConfigReader({ TOKEN_FILE: "/secret" }, () => "a b");
    reader.secretFile("TOKEN_FILE");
    expect(reader.problems).toEqual(["TOKEN_FILE: must name a file with one value and no whitespace in it"]);
  });

  test("an empty secret file is a problem", () => {
    const reader = new ConfigReader({ TOKEN_FILE: "/secret" }, () => "\n");
    reader.secretFile("TOKEN_FILE");
    expect(() => reader.done()).toThrow(ConfigError);
  });

  test("NODE_TLS_REJECT_UNAUTHORIZED=0 is a problem", () => {
    expect(() => new ConfigReader({ NODE_TLS_REJECT_UNAUTHORIZED: "0" }).done()).toThrow(
      "NODE_TLS_REJECT_UNAUTHORIZED",
    );
  });
});

describe("a service with a wrong configuration", () => {
  for (const entry of ["producer", "processor", "setup", "lag-exporter"]) {
    test(`${entry} ends with exit 1 and one line that lists every problem`, async () => {
      const child = Bun.spawn([process.execPath, join(import.meta.dir, `../../../services/${entry}.ts`)], {
        env: { KAFKA_BROKERS: "nowhere", NODE_TLS_REJECT_UNAUTHORIZED: "0" },
        stdout: "pipe",
        stderr: "pipe",
      });
      const output = await new Response(child.stdout).text();
      expect(await child.exited).toBe(1);
      const line = JSON.parse(output.trim()) as { event: string; level: string; problems: string[] };
      expect(line).toMatchObject({ event: "configuration_invalid", level: "error" });
      expect(line.problems.length).toBeGreaterThan(3);
      expect(line.problems.join("\n")).toContain("NODE_TLS_REJECT_UNAUTHORIZED");
      expect(line.problems.join("\n")).toContain("KAFKA_TLS_CA: is required (a path)");
    });
  }
});

describe("Logger", () => {
  test("writes one JSON object per line: time, level, service, event, fields", () => {
    const lines: string[] = [];
    const log = new Logger(
      "producer",
      "info",
      { pod: "p-0" },
      (line) => lines.push(line),
      () => Date.UTC(2026, 0, 2),
    );
    log.info("running", { topic: "t\n" });
    log.debug("hidden");
    expect(lines).toHaveLength(1);
    expect(lines[0]!.endsWith("\n")).toBe(true);
    expect(JSON.parse(lines[0]!)).toEqual({
      timestamp: "2026-01-02T00:00:00.000Z",
      level: "info",
      service: "producer",
      event: "running",
      pod: "p-0",
      topic: "t\n",
    });
  });

  test("errorText joins the causes and keeps the error code", () => {
    const inner = Object.assign(new Error("connect failed"), { code: "ECONNREFUSED" });
    expect(errorText(new Error("cannot write", { cause: inner }))).toBe("cannot write: connect failed (ECONNREFUSED)");
    const circular = new Error("round");
    circular.cause = circular;
    expect(errorText(circular)).toBe("round");
  });

  test("LogThrottle allows one line per interval and counts the others", () => {
    let now = 0;
    const throttle = new LogThrottle(1000, () => now);
    expect([throttle.allow("a"), throttle.allow("a"), throttle.allow("b")]).toEqual([0, undefined, 0]);
    now = 1000;
    expect(throttle.allow("a")).toBe(1);
  });
});

describe("shutdown", () => {
  test("runs the steps in order and continues after one that fails or exceeds its limit", async () => {
    const ran: string[] = [];
    const outcomes = await runSteps(
      [
        { name: "first", limitMs: 1000, run: async () => void ran.push("first") },
        { name: "hangs", limitMs: 30, run: () => new Promise(() => {}) },
        {
          name: "fails",
          limitMs: 1000,
          run: () => {
            throw new Error("no");
          },
        },
        { name: "last", limitMs: 1000, run: () => void ran.push("last") },
      ],
      silent,
    );
    expect(ran).toEqual(["first", "last"]);
    expect(outcomes.map(({ step, outcome }) => `${step} ${outcome}`)).toEqual([
      "first done",
      "hangs timed_out",
      "fails failed",
      "last done",
    ]);
  });

  test("begin() aborts the signal, runs the steps once, and exits with the code", async () => {
    const codes: number[] = [];
    const shutdown = new Shutdown(silent, ((code: number) => void codes.push(code)) as (code: number) => never);
    let runs = 0;
    let abortedBefore = false;
    shutdown.step("work", 1000, () => {
      runs++;
      abortedBefore = shutdown.signal.aborted;
    });
    await Promise.all([shutdown.begin("SIGTERM"), shutdown.begin("second call", 7)]);
    expect({ runs, abortedBefore, codes }).toEqual({ runs: 1, abortedBefore: true, codes: [0] });
  });

  test("a process runs its steps on SIGTERM and exits at once on the second signal", async () => {
    const source = `
      import { Logger } from ${JSON.stringify(join(import.meta.dir, "../../../services/runtime/log.ts"))};
      import { Shutdown } from ${JSON.stringify(join(import.meta.dir, "../../../services/runtime/shutdown.ts"))};
      const shutdown = new Shutdown(new Logger("test"));
      shutdown.listen();
      shutdown.step("work", 20_000, () => Bun.sleep(Number(process.argv.at(-1))));
      setInterval(() => {}, 1000);
      console.log("up");`;
    const run = async (workMs: number, signals: number) => {
      const child = Bun.spawn([process.execPath, "-e", source, String(workMs)], { stdout: "pipe", stderr: "inherit" });
      let output = "";
      const reading = (async () => {
        const decoder = new TextDecoder();
        for await (const chunk of child.stdout as unknown as AsyncIterable<Uint8Array>) output += decoder.decode(chunk);
      })();
      await eventually("the process to start", () => output.includes("up"));
      const startedAt = performance.now();
      for (let signal = 0; signal < signals; signal++) {
        child.kill("SIGTERM");
        // Two signals at the same time are delivered once.
        if (signal === 0) await eventually("the first signal to be handled", () => output.includes("stopping"));
      }
      const code = await child.exited;
      await reading;
      return { code, ms: performance.now() - startedAt };
    };
    const orderly = await run(200, 1);
    expect(orderly.code).toBe(0);
    expect(orderly.ms).toBeGreaterThanOrEqual(190);
    const forced = await run(FORCED_WORK_MS, 2);
    expect(forced.code).toBe(1);
    expect(forced.ms).toBeLessThan(FORCED_WORK_MS);
  });
});

describe("Health", () => {
  test("live() names a watch without progress within its limit; attempts count as progress", () => {
    let now = 0;
    const health = new Health(() => now);
    health.watch({ name: "progress", limitMs: 1000 });
    now = 900;
    expect(health.live().ok).toBe(true);
    health.progress("progress");
    now = 1900;
    expect(health.live().ok).toBe(true);
    now = 2000;
    expect(health.live()).toMatchObject({
      ok: false,
      checks: { progress: { ok: false, age_ms: 1100, limit_ms: 1000 } },
    });
  });

  test("a watch that is not busy needs no progress; its time starts with the work", () => {
    let now = 0;
    let busy = false;
    const health = new Health(() => now);
    health.watch({ name: "send", limitMs: 1000, busy: () => busy });
    now = 10_000;
    expect(health.live().ok).toBe(true);
    busy = true;
    expect(health.live().ok).toBe(true);
    now = 11_500;
    expect(health.live().ok).toBe(false);
  });

  test("readiness() names the condition that fails", () => {
    const health = new Health();
    health.ready("a", () => true);
    health.ready("b", () => false);
    expect(health.readiness()).toEqual({ ok: false, conditions: { a: true, b: false } });
  });
});

describe("metrics", () => {
  test("every name and help follows the rules, and every service has metrics", async () => {
    for (const [name, row] of Object.entries(METRIC_TABLE)) {
      expect(name).toMatch(/^(conveyor|process|kafka)_[a-z0-9_]+$/);
      expect(row.help).toMatch(/^[A-Z0-9].*\.$/);
      expect(name.endsWith("_total")).toBe(row.kind === "counter");
    }
    for (const service of ["producer", "processor", "lag-exporter"] as const) {
      const text = await new Metrics(service).registry.metrics();
      for (const [name, row] of Object.entries(METRIC_TABLE)) {
        expect(text.includes(`# HELP ${name} `)).toBe((row.services as readonly string[]).includes(service));
      }
    }
  });

  test("a metric of another service is an error", () => {
    expect(() => new Metrics("producer").counter("conveyor_processor_events_consumed_total")).toThrow(
      "is not a metric of",
    );
  });

  test("BulkHistogram counts into cumulative buckets", async () => {
    const histogram = new BulkHistogram("h", "Help.", [0.1, 1, 10]);
    for (const value of [-5, 0.1, 0.100001, 1, 5, 100]) histogram.observe(value);
    const { values } = await histogram.get();
    const of = (name: string, le?: number | string) =>
      values.find(({ metricName, labels }) => metricName === name && (le === undefined || labels.le === le))?.value;
    expect([0.1, 1, 10, "+Inf"].map((le) => of("h_bucket", le))).toEqual([2, 4, 5, 6]);
    expect(of("h_count")).toBe(6);
    expect(of("h_sum")).toBeCloseTo(106.200001, 5);
  });
});

describe("ops server", () => {
  test("serves health, readiness and metrics over HTTPS only, and further paths as JSON", async () => {
    const { ca, cert, key } = await testCertificate();
    const health = new Health();
    let ready = false;
    let polls = 0;
    health.ready("thing", () => {
      polls++;
      return ready;
    });
    const ops = startOpsServer({ port: 0, tls: { cert, key } }, health, new Metrics("producer").registry, {
      "/ledger": () => ({ acknowledged: 3 }),
    });
    const get = (path: string) => fetch(`https://localhost:${ops.port}${path}`, { tls: { ca } });
    expect((await get("/healthz")).status).toBe(200);
    expect((await get("/readyz")).status).toBe(503);
    // Asked while it starts, and ready a moment later.
    const response = get("/readyz");
    setTimeout(() => (ready = true), 50);
    expect((await response).status).toBe(200);
    // Once ready, it answers at once.
    ready = false;
    polls = 0;
    expect((await get("/readyz")).status).toBe(503);
    expect(polls).toBe(1);
    ready = true;
    expect((await get("/readyz")).status).toBe(200);
    expect(await (await get("/ledger")).json()).toEqual({ acknowledged: 3 });
    expect((await get("/elsewhere")).status).toBe(404);
    const metrics = await get("/metrics");
    expect(metrics.headers.get("content-type")).toContain("text/plain");
    expect(await metrics.text()).toContain("conveyor_build_info{");
    const plain = await fetch(`http://localhost:${ops.port}/healthz`).catch(() => undefined);
    expect(plain?.ok ?? false).toBe(false);
    await ops.stop();
  });
});
