/** Log search: queries, parsed lines, and the configuration of Promtail. */
import { describe, expect, test } from "bun:test";
import {
  briefly,
  checkedGrep,
  clockOf,
  isMatch,
  LOG_LEVELS,
  type LogEntry,
  levelOf,
  parseIdentity,
  readLine,
} from "../../../scripts/clients/log-search.ts";
import { entriesOf, logQl } from "../../../scripts/clients/loki.ts";
import { readPrefixedLine } from "../../../scripts/clients/pod-logs.ts";
import { DERIVED_FIELDS, entryOf, logsQl, VictoriaLogsStore } from "../../../scripts/clients/victorialogs.ts";
import { parseManifest } from "../../../scripts/deploy/manifests.ts";
import { Logger } from "../../../services/runtime/log.ts";

const entry = (more: Partial<LogEntry> = {}): LogEntry => ({
  timeNs: "1764038400123456789",
  service: "producer",
  level: "info",
  app: "producer",
  pod: "producer-0",
  container: "producer",
  line: "a line",
  ...more,
});

describe("parseIdentity", () => {
  test.each([
    ["r1", { run: "r1" }],
    ["r1/belt-0-1", { run: "r1", conveyor: "belt-0-1" }],
    ["r1/belt-0-1/17000", { run: "r1", conveyor: "belt-0-1", seq: 17000 }],
  ])("%s", (text, identity) => expect(parseIdentity(text)).toEqual(identity));

  test.each(["", "/belt", "r1//5", "r1/belt/x", "r1/belt/-1", "r1/belt/5/6"])("rejects %j", (text) => {
    expect(() => parseIdentity(text)).toThrow(/--event: must be RUN.*got/);
  });
});

describe("checkedGrep", () => {
  test("rejects an invalid and a too long expression", () => {
    expect(checkedGrep("reb.l+")).toBe("reb.l+");
    expect(() => checkedGrep("(")).toThrow("--grep: must be a regular expression");
    expect(() => checkedGrep("x".repeat(501))).toThrow("at most 500");
  });
});

describe("logQl", () => {
  test("without flags selects all lines", () => {
    expect(logQl({ services: [], levels: [] })).toBe('{namespace=~"conveyor|conveyor-logging"}');
  });

  test("combines all flags and quotes text", () => {
    expect(
      logQl({
        services: ["producer", "a.b"],
        levels: ["error", "warn"],
        grep: 'say "x" | drop',
        event: { run: 'r"1', conveyor: "belt-0-1", seq: 7 },
      }),
    ).toBe(
      String.raw`{namespace=~"conveyor|conveyor-logging", service=~"producer|a\\.b", level=~"error|warn"} |~ "say \"x\" | drop" | run="r\"1" | conveyor="belt-0-1" | seq="7"`,
    );
  });
});

describe("logsQl", () => {
  test("combines all flags and quotes text; a service or level is derived before it is compared", () => {
    expect(
      logsQl({
        services: ["producer", "a.b"],
        levels: ["error", "warn"],
        grep: 'say "x" | drop',
        event: { run: 'r"1', conveyor: "belt-0-1", seq: 7 },
      }),
    ).toBe(
      [
        String.raw`kubernetes.pod_namespace:in(conveyor,conveyor-logging) run:="r\"1" conveyor:="belt-0-1" seq:="7"`,
        DERIVED_FIELDS,
        'filter service:in("producer","a.b")',
        'filter level:in("error","warn")',
        'pack_json as "@line"',
        String.raw`filter ("@line":~"say \"x\" | drop" or _msg:~"say \"x\" | drop")`,
        'delete "@line"',
      ].join(" | "),
    );
  });
});

describe("entryOf", () => {
  const row = {
    _time: "2025-11-25T02:40:00.123456789Z",
    "@pod": "processor-x",
    "@container": "processor",
    "@app": "processor",
    service: "processor",
    level: "info",
  };

  test("a line of the project's services: its event is the message, its identity is in fields", () => {
    const fields = { timestamp: "2025-11-25T02:40:00.123Z", run: "r", conveyor: "belt-0-1", seq: "3000" };
    const found = entryOf({ ...row, ...fields, _msg: "event_stored" })!;
    expect(found).toMatchObject({
      timeNs: "1764038400123456789",
      event: "event_stored",
      run: "r",
      seq: "3000",
      level: "info",
    });
    expect(briefly(found)).toBe("event_stored run=r conveyor=belt-0-1 seq=3000");
  });

  test("a JSON line with an event and a message keeps both", () => {
    const found = entryOf({ ...row, timestamp: "t", event: "kafkajs", _msg: "The group is rebalancing" })!;
    expect(JSON.parse(found.line)).toMatchObject({ event: "kafkajs", message: "The group is rebalancing" });
  });

  test("any other line is its text", () => {
    const text = "ts=2025 lvl=warn msg=slow";
    expect(entryOf({ ...row, _msg: text, level: "warn" })).toMatchObject({
      line: text,
      event: undefined,
      level: "warn",
    });
  });

  test("a row without a time is no entry", () => expect(entryOf({ ...row, _time: "" })).toBeUndefined());
});

describe("VictoriaLogsStore", () => {
  const range = { startNs: 1_764_038_400_000_000_000n, endNs: 1_764_038_400_500_000_000n };
  /** A store that answers with these rows, and the parameters of its calls. */
  const store = (rows: readonly Record<string, string>[]) => {
    const queries: string[] = [];
    const get = async (_path: string, { query }: Record<string, string>) => {
      queries.push(query!);
      const limit = Number(/limit (\d+)$/.exec(query!)![1]);
      return new Response(
        rows
          .slice(0, limit)
          .map((row) => `${JSON.stringify(row)}\n`)
          .join(""),
      );
    };
    return { queries, victoria: new VictoriaLogsStore({ get, close: async () => {} } as never) };
  };
  const row = (ms: number, text = `line ${ms}`) => ({
    _time: new Date(1_764_038_400_000 + ms).toISOString(),
    _msg: text,
    "@pod": "p",
    level: "info",
    service: "kafka",
  });

  test("the newest lines, each once, also when many were delivered twice", async () => {
    const { queries, victoria } = store([row(3), row(3), row(2), row(2), row(1)]);
    const found = await victoria.newest({ services: [], levels: [] }, range, 3);
    expect(found.map(({ line }) => line)).toEqual(["line 1", "line 2", "line 3"]);
    expect(queries).toHaveLength(2);
    expect(queries[0]).toStartWith("_time:[2025-11-25T02:40:00.000000000Z, 2025-11-25T02:40:00.500000000Z) ");
  });

  test("a text that only the store's filter matches is left out", async () => {
    const { victoria } = store([row(2, "a producer"), row(1)]);
    expect(await victoria.newest({ services: [], levels: [], grep: "^line" }, range, 5)).toHaveLength(1);
  });
});

describe("isMatch applies the same filter to an entry", () => {
  const all = { services: [], levels: [] };
  test.each([
    [all, {}, true],
    [{ ...all, services: ["processor"] }, {}, false],
    [{ ...all, levels: ["error"] as const }, { level: "error" as const }, true],
    [{ ...all, grep: "^a l" }, {}, true],
    [{ ...all, grep: "zebra" }, {}, false],
    [{ ...all, event: { run: "r" } }, { run: "r", seq: "5" }, true],
    [{ ...all, event: { run: "r", seq: 6 } }, { run: "r", seq: "5" }, false],
    [{ ...all, event: { run: "r" } }, {}, false],
  ])("%j on %j: %p", (search, more, expected) => {
    expect(isMatch(search, entry(more as Partial<LogEntry>))).toBe(expected);
  });
});

describe("readLine", () => {
  test("our services' own lines, as the logger writes them", () => {
    const lines: string[] = [];
    const log = new Logger("producer", "debug", {}, (line) => lines.push(line.trimEnd()));
    log.info("event_acknowledged", { run: "r", conveyor: "belt-0-1", seq: 3000 });
    log.error("kafka_gone", { error: new Error("x") });
    expect(readLine(lines[0]!)).toEqual({
      service: "producer",
      level: "info",
      event: "event_acknowledged",
      run: "r",
      conveyor: "belt-0-1",
      seq: "3000",
    });
    expect(readLine(lines[1]!)).toEqual({ service: "producer", level: "error", event: "kafka_gone" });
  });

  test.each([
    ["[2026-11-25 03:00:00,000] WARN [Broker id=0] Slow (kafka.server.X)", "warn"],
    ["[2026-11-25 03:00:00,000] FATAL gone (x)", "error"],
    ["ts=2026-11-25T03:00:00Z lvl=info msg=Ready service=http", "info"],
    ['level=error ts=2026 caller=x msg="bad"', "error"],
    ["time=2026 level=WARN msg=x", "warn"],
    ["I1125 03:00:00.1 1 x.go:1] text", "info"],
    ["E1125 03:00:00.1 1 x.go:1] text", "error"],
    ["\tat java.base/x", "unknown"],
    ["{broken", "unknown"],
    ['{"level":"shout"}', "unknown"],
  ])("%s: %s", (line, level) => expect(readLine(line).level).toBe(level as never));

  test("every level is of the fixed set, whatever a line says", () => {
    for (const word of ["", "INFO", "Warning", "EROR", "x".repeat(100), undefined]) {
      expect(LOG_LEVELS).toContain(levelOf(word));
    }
  });
});

describe("readPrefixedLine", () => {
  test("a line of kubectl logs, to the nanosecond", () => {
    const line =
      '[pod/producer-0/producer] 2025-11-25T02:40:00.000456789Z {"level":"warn","service":"producer","event":"x"}';
    expect(readPrefixedLine(line, () => "producer")).toMatchObject({
      timeNs: "1764038400000456789",
      level: "warn",
      pod: "producer-0",
      container: "producer",
      event: "x",
    });
  });
  test("anything else is no entry", () => {
    expect(readPrefixedLine("error: unable", () => "")).toBeUndefined();
    expect(readPrefixedLine("[pod/a/b] yesterday text", () => "")).toBeUndefined();
  });
});

describe("entriesOf", () => {
  test("streams become one list by time, with labels and structured metadata", () => {
    const streams = [
      {
        stream: { app: "ingest", service: "producer", level: "info", pod: "p", run: "r", seq: "1" },
        values: [["20", "b"]],
      },
      {
        stream: { app: "kafka", level: "warn", pod: "k" },
        values: [
          ["10", "a"],
          ["30", "c"],
        ],
      },
    ] as never;
    expect(entriesOf(streams).map(({ line }) => line)).toEqual(["a", "b", "c"]);
    expect(entriesOf(streams, "backward").map(({ line }) => line)).toEqual(["c", "b", "a"]);
    expect(entriesOf(streams)[1]).toMatchObject({ service: "producer", app: "ingest", run: "r", seq: "1" });
    expect(entriesOf(streams)[0]).toMatchObject({ service: "kafka", level: "warn" });
  });
});

describe("printed entries", () => {
  test("have a clock time, and of a JSON line the fields without a column", () => {
    expect(clockOf("1764038400123456789")).toBe("02:40:00.123");
    const line = JSON.stringify({ timestamp: "t", level: "info", service: "s", event: "stored", seq: 5, run: "r" });
    expect(briefly(entry({ line }))).toBe("stored seq=5 run=r");
    expect(briefly(entry({ line: "plain" }))).toBe("plain");
  });
});

test("a printed entry is one line without control characters, whatever a sender named its fields", () => {
  const detail = "\u001b]0;x\u0007\n12:00:00 error forged \u009b2J";
  for (const line of [JSON.stringify({ event: "event_refused", detail, [detail]: detail }), detail, `{${detail}`]) {
    expect(briefly(entry({ line }))).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  }
  expect(briefly(entry({ line: JSON.stringify({ detail }) }))).toBe(
    "detail=\\u001b]0;x\\u0007\\u000a12:00:00 error forged \\u009b2J",
  );
});

describe("Promtail's configuration", async () => {
  const folder = `${import.meta.dir}/../../../k8s/logging`;
  const [map] = parseManifest(await Bun.file(`${folder}/promtail-configmap.yaml`).text(), "promtail-configmap.yaml");
  const text = (map as unknown as { data: Record<string, string> }).data["config.yaml"]!;

  test("has no backslash and no stray dollar, which -config.expand-env would remove", () => {
    expect(text).not.toContain("\\");
    const dollars = text.match(/[$][^\s"']{0,10}/g) ?? [];
    for (const found of dollars) expect(found).toMatch(/^[$](1|[{]NODE_NAME)|^[$]$/);
  });

  test("stores the identity of an event as structured metadata, not as a label", () => {
    const labels = [...text.matchAll(/- labels:\n((?:\s+\w+:( \w+)?\n)+)/g)].flatMap((match) =>
      [...match[1]!.matchAll(/(\w+):/g)].map(([, name]) => name!),
    );
    expect(labels.sort()).toEqual(["level", "service"]);
    const metadata = /- structured_metadata:\n((?:\s+\w+:\n)+)/.exec(text)?.[1] ?? "";
    for (const field of ["run", "conveyor", "seq"]) expect(metadata).toContain(`${field}:`);
  });

  test("has every spelling of a level that the search has", () => {
    for (const word of ["debug", "info", "warn", "error", "fatal", "warning", "critical"])
      expect(text).toContain(`"${word}"`);
  });
});
