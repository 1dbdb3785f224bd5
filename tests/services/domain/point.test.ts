import { describe, expect, test } from "bun:test";
import {
  exampleEvent,
  identifyCanonical,
  MEASUREMENT_NAMES,
  MEASUREMENTS,
  type Measurement,
  parseEvent,
  STATES,
  serializeEvent,
  type TelemetryEvent,
} from "../../../services/domain/event.ts";
import { Fleet } from "../../../services/domain/fleet.ts";
import {
  escapeString,
  escapeTag,
  pointTimestampNs,
  renderCanonical,
  renderPoint,
  SLOTS_PER_MS,
  valuesChecksum,
} from "../../../services/domain/point.ts";

const good: TelemetryEvent = {
  ...exampleEvent({ conveyor: "belt-0-1", run: "r-1", seq: 42, ts: 1_764_038_400_000 }),
  speed_mps: 1.25,
  load_kg: 320,
  motor_temp_c: -5.5,
  vibration_mm_s: 0,
  state: "idle",
};

/** Random events, edges included, from numbers that repeat. */
function* randomEvents(count: number): Generator<TelemetryEvent> {
  let state = 12345;
  const random = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state / 4_294_967_296;
  };
  const number = ([least, most]: readonly [number, number]) => {
    const kind = random();
    if (kind < 0.05) return least;
    if (kind < 0.1) return most;
    if (kind < 0.2) return Math.round(least + random() * (most - least));
    if (kind < 0.25) return least + random() * 1e-7;
    return Math.round((least + random() * (most - least)) * 1000) / 1000;
  };
  // JSON writes minus zero as 0.
  const field = (range: readonly [number, number]) => number(range) + 0;
  for (let index = 0; index < count; index++) {
    const values = Object.fromEntries(MEASUREMENT_NAMES.map((name) => [name, field(MEASUREMENTS[name].range)]));
    yield {
      v: 1,
      conveyor: `belt-${Math.floor(random() * 10)}.${index}_x`,
      run: `r${index}`,
      seq: Math.floor(10 ** (random() * 15)),
      ts: 1_000_000_000_000 + Math.floor(random() * 2_999_999_999_999),
      ...(values as Record<Measurement, number>),
      state: STATES[Math.floor(random() * STATES.length)]!,
    };
  }
}

/** Parses a line by splitting at its unescaped separators. */
function readLine(line: string) {
  const match = /^conveyor_telemetry,conveyor=([^ ,=]+) (\S+) (\d+)$/.exec(line);
  if (!match) throw new Error(`not a line: ${line}`);
  return {
    conveyor: match[1],
    time: match[3],
    fields: Object.fromEntries(match[2]!.split(",").map((field) => field.split("=") as [string, string])),
  };
}

describe("renderPoint", () => {
  test("writes the tag, typed fields and the time in nanoseconds", () => {
    expect(renderPoint(good)).toBe(
      'conveyor_telemetry,conveyor=belt-0-1 run="r-1",seq=42i,speed_mps=1.25,load_kg=320,motor_temp_c=-5.5,vibration_mm_s=0,state="idle" 1764038400000000042',
    );
  });

  test("keeps every value of 5,000 random events", () => {
    for (const event of randomEvents(5000)) {
      const { conveyor, time, fields } = readLine(renderPoint(event));
      expect(conveyor).toBe(event.conveyor);
      expect(BigInt(time!)).toBe(BigInt(event.ts) * 1_000_000n + (BigInt(event.seq) % 1_000_000n));
      expect(fields.run).toBe(`"${event.run}"`);
      expect(fields.seq).toBe(`${event.seq}i`);
      for (const field of MEASUREMENT_NAMES) {
        expect(Number(fields[field])).toBe(event[field]);
        expect(fields[field]).toMatch(/^-?\d+(\.\d+)?(e-?\d+)?$/);
      }
    }
  });
});

describe("valuesChecksum", () => {
  const said = (change: Record<string, unknown>) => valuesChecksum({ ...good, ...change });
  test("depends on each of the five values, and on nothing else", () => {
    expect(said({ seq: 43, run: "r-2", ts: 1 })).toBe(said({}));
    const changes = [...MEASUREMENT_NAMES.map((name) => ({ [name]: good[name] + 1 })), { state: "fault" }];
    expect(new Set([{}, ...changes].map(said)).size).toBe(6);
    const swapped = { motor_temp_c: good.vibration_mm_s, vibration_mm_s: good.motor_temp_c };
    expect(said(swapped)).not.toBe(said({}));
  });
  test("is the same for a number in any notation, and another one for a missing or mistyped value", () => {
    expect(said(JSON.parse('{"load_kg":1.2e2}'))).toBe(said({ load_kg: 120 }));
    const wrong = [undefined, null, "120"].map((load_kg) => said({ load_kg }));
    expect(wrong).not.toContain(said({ load_kg: 120 }));
  });
});

describe("renderCanonical", () => {
  test("agrees with parseEvent() and renderPoint() for every event that it accepts", () => {
    let accepted = 0;
    for (const event of randomEvents(5000)) {
      const text = serializeEvent(event);
      const fast = renderCanonical(text);
      if (!fast) continue;
      accepted++;
      expect(parseEvent(Buffer.from(text)).event).toEqual(event);
      expect(fast).toMatchObject({ ts: event.ts, conveyor: event.conveyor, run: event.run, seq: String(event.seq) });
      const { conveyor, run, seq, ts } = event;
      expect(identifyCanonical(text)).toEqual({ conveyor, run, seq, ts });
      expect(Object.keys(readLine(fast.line).fields)).toEqual(Object.keys(readLine(renderPoint(event)).fields));
      const [ours, general] = [readLine(fast.line), readLine(renderPoint(event))];
      expect(ours.time).toBe(general.time);
      for (const [name, value] of Object.entries(general.fields)) {
        if (Number.isNaN(Number(value))) expect(ours.fields[name]).toBe(value);
        else expect(Number(ours.fields[name])).toBe(Number(value));
      }
    }
    // Values at the edges and exponents take the slow path; most events must not.
    expect(accepted).toBeGreaterThan(2500);
  });

  test("accepts every event of the simulated fleet", () => {
    const fleet = new Fleet({ ordinal: 3, count: 7, run: "20261125T000000000Z-3-00ff", seed: 9 });
    for (let index = 0; index < 50_000; index++) {
      const text = serializeEvent(fleet.next(1_795_000_000_000 + index));
      if (!renderCanonical(text)) throw new Error(`not accepted: ${text}`);
    }
  });

  test("accepts nothing that parseEvent() refuses", () => {
    const text = serializeEvent(good);
    const changes: [from: string, to: string][] = [
      ['"v":1', '"v":2'],
      ["belt-0-1", "belt 0"],
      ["belt-0-1", "b".repeat(65)],
      ["belt-0-1", "-belt"],
      ['"seq":42', '"seq":042'],
      ['"seq":42', '"seq":4.2'],
      ['"seq":42', '"seq":-42'],
      ['"seq":42', '"seq":1000000000000000'],
      ["1764038400000", "1764038400"],
      ["1764038400000", "4000000000000"],
      ["1764038400000", "0764038400000"],
      ["1.25", "20.5"],
      ["1.25", "-20.1"],
      ["1.25", "01.25"],
      ["1.25", "1."],
      ["1.25", ".5"],
      ["320", "10001"],
      ["320", "-1"],
      ["-5.5", "-60.5"],
      ["-5.5", "300.1"],
      ['"vibration_mm_s":0', '"vibration_mm_s":200.5'],
      ['"vibration_mm_s":0', '"vibration_mm_s":-1'],
      ["idle", "flying"],
      ["}", ',"more":1}'],
      ["}", "} "],
      ["r-1", 'r","run":"x'],
    ];
    for (const [from, to] of changes) {
      const changed = text.replace(from, to);
      expect(changed).not.toBe(text);
      const { event } = parseEvent(Buffer.from(changed));
      if (event === undefined) expect(renderCanonical(changed)).toBeUndefined();
    }
  });
});

describe("pointTimestampNs", () => {
  test("is unique per run and conveyor within a million of seq", () => {
    const seen = new Set<string>();
    const ts = "1764038400000";
    for (let seq = 999_000; seq < 1_001_000; seq++) seen.add(pointTimestampNs(ts, String(seq)));
    expect(seen.size).toBe(2000);
    // Only a seq 10⁶ higher in the same millisecond collides: a billion events a second of one conveyor.
    expect(pointTimestampNs(ts, "0")).toBe(pointTimestampNs(ts, String(SLOTS_PER_MS)));
  });

  test("is exact beyond 2^53 and ascends with time", () => {
    expect(pointTimestampNs("1764038400001", "7")).toBe("1764038400001000007");
    expect(BigInt(pointTimestampNs("1764038400001", "0")) > BigInt(pointTimestampNs("1764038400000", "999999"))).toBe(
      true,
    );
    expect(pointTimestampNs("1764038400000", "123456789")).toBe("1764038400000456789");
  });
});

describe("escaping", () => {
  test("escapeTag keeps comma, space and equals sign from ending the tag", () => {
    expect(escapeTag("a,b c=d")).toBe("a\\,b\\ c\\=d");
  });
  test("escapeString keeps quote and backslash from ending the string", () => {
    expect(escapeString('a"b\\c')).toBe('a\\"b\\\\c');
  });
});
