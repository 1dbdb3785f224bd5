import { describe, expect, test } from "bun:test";
import { createDeadLetter } from "../../../services/domain/dead-letter.ts";
import { MAX_EVENT_BYTES } from "../../../services/domain/event.ts";
import { Fleet } from "../../../services/domain/fleet.ts";
import { isBlank, LineSplitter } from "../../../services/domain/ndjson.ts";
import { BURST_FACTOR, BURST_MS, BURST_PERIOD_MS, eventsDue, RAMP_MS } from "../../../services/domain/rate.ts";
import { newRunId, ordinalOf } from "../../../services/domain/run-id.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe("LineSplitter", () => {
  test("returns the same lines for any division into chunks", () => {
    const text = 'first\r\n\n{"a":1}\nlast without break';
    for (let size = 1; size <= text.length; size++) {
      const splitter = new LineSplitter(1000);
      const lines: [number, string][] = [];
      for (let from = 0; from < text.length; from += size) {
        for (const line of splitter.push(encode(text.slice(from, from + size)))) {
          lines.push([line.number, decode(line.bytes)]);
        }
      }
      for (const line of splitter.end()) lines.push([line.number, decode(line.bytes)]);
      expect(lines).toEqual([
        [1, "first"],
        [2, ""],
        [3, '{"a":1}'],
        [4, "last without break"],
      ]);
    }
  });

  test("keeps the beginning and the length of a line that is too long", () => {
    const splitter = new LineSplitter(10);
    const lines = [...splitter.push(encode("x".repeat(7))), ...splitter.push(encode(`${"x".repeat(93)}\nok\n`))];
    expect(lines.map(({ bytes, length }) => [bytes.length, length])).toEqual([
      [10, 100],
      [2, 2],
    ]);
  });

  test("isBlank ignores whitespace", () => {
    expect([encode(""), encode(" \t\r"), encode(" x")].map(isBlank)).toEqual([true, true, false]);
  });
});

describe("eventsDue", () => {
  test("steady adds up exactly for any ticks", () => {
    expect(eventsDue("steady", 200, 60_000)).toBe(12_000);
    expect(eventsDue("steady", 0, 60_000)).toBe(0);
  });
  test("ramp rises from a tenth to the full rate", () => {
    const average = eventsDue("ramp", 1000, RAMP_MS) / (RAMP_MS / 1000);
    expect(average).toBeCloseTo(550, 0);
    expect(eventsDue("ramp", 1000, RAMP_MS + 10_000) - eventsDue("ramp", 1000, RAMP_MS)).toBe(10_000);
    expect(eventsDue("ramp", 1000, 1000)).toBeLessThan(110);
  });
  test("burst is five times the rate for BURST_MS of each period", () => {
    expect(eventsDue("burst", 100, BURST_MS)).toBe((100 * BURST_FACTOR * BURST_MS) / 1000);
    const period = (100 * (BURST_PERIOD_MS + (BURST_FACTOR - 1) * BURST_MS)) / 1000;
    expect(eventsDue("burst", 100, BURST_PERIOD_MS)).toBe(period);
    expect(eventsDue("burst", 100, 3 * BURST_PERIOD_MS)).toBe(3 * period);
  });
  test("never decreases", () => {
    for (const profile of ["steady", "ramp", "burst"] as const) {
      let before = 0;
      for (let ms = 0; ms < 3 * BURST_PERIOD_MS; ms += 997) {
        const due = eventsDue(profile, 333, ms);
        expect(due).toBeGreaterThanOrEqual(before);
        before = due;
      }
    }
  });
});

describe("Fleet", () => {
  const values = (seed: number, count: number) => {
    const fleet = new Fleet({ ordinal: 0, count: 5, run: "r", seed });
    return Array.from({ length: count }, (_, index) => fleet.next(1_795_000_000_000 + index));
  };
  test("the same seed produces the same events, another seed different ones", () => {
    expect(values(1, 500)).toEqual(values(1, 500));
    expect(values(2, 500)).not.toEqual(values(1, 500));
  });
  test("seq counts from 0 without gaps, per conveyor", () => {
    const next = new Map<string, number>();
    for (const { conveyor, seq } of values(1, 5000)) {
      expect(seq).toBe(next.get(conveyor) ?? 0);
      next.set(conveyor, seq + 1);
    }
    expect([...next.values()]).toEqual([1000, 1000, 1000, 1000, 1000]);
  });
  test("the ordinal names the conveyors", () => {
    const { conveyors } = new Fleet({ ordinal: 4, count: 2, run: "r", seed: 1 });
    expect(conveyors.map(({ name }) => name)).toEqual(["belt-4-1", "belt-4-2"]);
  });
  test("a belt that is not running slows down, and temperatures stay physical", () => {
    const events = values(3, 200_000);
    const states = new Set(events.map(({ state }) => state));
    expect([...states].sort()).toEqual(["fault", "idle", "running", "stopped"]);
    for (const { motor_temp_c } of events) {
      expect(motor_temp_c).toBeGreaterThan(10);
      expect(motor_temp_c).toBeLessThan(120);
    }
    const mean = (state: string) => {
      const speeds = events.filter((event) => event.state === state).map(({ speed_mps }) => speed_mps);
      return speeds.reduce((sum, speed) => sum + speed, 0) / speeds.length;
    };
    expect(mean("running")).toBeGreaterThan(3 * mean("stopped"));
  });
});

describe("newRunId", () => {
  test("sorts by time and contains the ordinal", () => {
    const earlier = newRunId(Date.UTC(2026, 10, 25, 2, 47, 59, 123), 0, 0x9f3c);
    expect(earlier).toBe("20261125T024759123Z-0-9f3c");
    expect(newRunId(Date.UTC(2026, 10, 25, 2, 48), 0, 0) > earlier).toBe(true);
  });
  test("ordinalOf reads a StatefulSet pod's name", () => {
    expect(["producer-2", "producer-12", "local"].map(ordinalOf)).toEqual([2, 12, 0]);
  });
});

describe("createDeadLetter", () => {
  const refusal = { reason: "bad_seq", field: "seq", detail: "seq: must be a whole number" } as const;
  test("keeps the bytes, the reason and the origin", () => {
    const value = encode("bad");
    const origin = { source: "kafka", topic: "conveyor.events", partition: 3, offset: "77" } as const;
    expect(createDeadLetter(refusal, origin, { key: "belt-0-1", value }, "processor")).toEqual({
      key: "belt-0-1",
      value,
      headers: {
        reason: "bad_seq",
        detail: "seq: must be a whole number",
        source: "kafka",
        source_topic: "conveyor.events",
        source_partition: "3",
        source_offset: "77",
        service: "processor",
        original_bytes: "3",
      },
    });
  });
  test("cuts a body that is too large and keeps its original length", () => {
    const value = new Uint8Array(1024 * 1024);
    const origin = { source: "file", line: 9, run: "r-1" } as const;
    const deadLetter = createDeadLetter(refusal, origin, { key: null, value }, "producer");
    expect(deadLetter.value.length).toBe(MAX_EVENT_BYTES);
    const position = { source: "file", source_line: "9", run: "r-1" };
    expect(deadLetter.headers).toMatchObject({ ...position, original_bytes: "1048576" });
  });
  test("a record without a value becomes a dead letter with an empty one", () => {
    const origin = { source: "stdin", line: 1, run: "r-1" } as const;
    expect(createDeadLetter(refusal, origin, { key: null, value: null }, "producer").value).toHaveLength(0);
  });
});
