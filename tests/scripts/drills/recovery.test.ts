/**
 * Goal: a recovery is measured neither too early nor too late, and an outage is never reported shorter than it was.
 * Method: samples by hand, samples of a model of the pipeline with outages of every length, and samples of a cluster.
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import {
  baselineOf,
  measureRecovery,
  oldestAge,
  type Recovery,
  recoveryOf,
  STABLE_MS,
  visibleFromMs,
  worseThan,
} from "../../../scripts/drills/recovery.ts";
import type { Baseline, Sample } from "../../../scripts/recording/run-record.ts";

const row = (timeMs: number, change: Partial<Sample> = {}): Sample => ({
  timeMs,
  ageSeconds: 0.4,
  lagEvents: 10,
  underReplicated: 0,
  waitedMs: 50,
  ...change,
});
const SAMPLE_MS = 250;
const rows = (fromMs: number, toMs: number, change: Partial<Sample> = {}): Sample[] => {
  const made: Sample[] = [];
  for (let timeMs = fromMs; timeMs < toMs; timeMs += SAMPLE_MS) made.push(row(timeMs, change));
  return made;
};
const baseline: Baseline = {
  ageSeconds: { least: 0.2, worst: 0.5 },
  lagEvents: { least: 0, worst: 20 },
  waitedMs: { least: 20, worst: 60 },
};
const seen = (ms: number): Recovery => ({ ms, below: false });

describe("recoveryOf", () => {
  test("ends with the first healthy sample after the outage, once samples stay healthy", () => {
    const samples = [...rows(0, 1000), ...rows(1000, 6000, { ageSeconds: 5 }), ...rows(6000, 12_000)];
    expect(recoveryOf(samples, 0, baseline)).toEqual(seen(6000));
  });

  test("is undefined until samples stay healthy for STABLE_MS", () => {
    const samples = [...rows(0, 4000, { ageSeconds: null }), ...rows(4000, 4000 + STABLE_MS)];
    expect(recoveryOf(samples, 0, baseline)).toBeUndefined();
  });

  test("does not end before the outage shows", () => {
    const samples = [...rows(0, 2000), ...rows(2000, 8000, { ageSeconds: 4 }), ...rows(8000, 12_000)];
    expect(recoveryOf(samples, 0, baseline)).toEqual(seen(8000));
  });

  test("ignores healthy samples before the proof: a deleted pod still works", () => {
    const samples = [...rows(0, 5000), ...rows(5000, 7000, { ageSeconds: 4 }), ...rows(7000, 12_000)];
    expect(recoveryOf(samples.slice(0, 20), 0, baseline, 4800)).toBeUndefined();
    expect(recoveryOf(samples, 0, baseline, 4800)).toEqual(seen(7000));
  });

  test("restarts when a value exceeds its limit again", () => {
    const samples = [
      ...rows(0, 2000, { lagEvents: 900 }),
      ...rows(2000, 4000),
      ...rows(4000, 5000, { lagEvents: 900 }),
      ...rows(5000, 9000),
    ];
    expect(recoveryOf(samples, 0, baseline)).toEqual(seen(5000));
  });

  test("of a healed fault ends an outage that began before", () => {
    const samples = [...rows(0, 5000, { ageSeconds: 5 }), ...rows(5000, 12_000)];
    expect(recoveryOf(samples, 4900, baseline)).toEqual(seen(100));
  });

  test("is below the visible minimum, never zero, when no value exceeded its limit", () => {
    // Limit 1.0 s; an event that is 0.2 s old reaches it after 0.8 s, and then a sample must be taken.
    expect(recoveryOf(rows(0, 9000), 1200, baseline)).toEqual({ ms: 1050, below: true });
  });

  test("adds the longest gap between two samples to the visible minimum", () => {
    // 1.2 s without a sample may hide an outage of that length.
    const samples = [...rows(0, 2000), ...rows(2950, 9000)];
    expect(recoveryOf(samples, 1000, baseline)).toEqual({ ms: 800 + 1200, below: true });
  });

  test("counts a long gap without samples as an outage", () => {
    const samples = [...rows(0, 2000), ...rows(4000, 9000)];
    expect(recoveryOf(samples, 1000, baseline)).toEqual(seen(3000));
  });

  test("compares age, lag and the wait of a batch", () => {
    const trouble: Partial<Sample>[] = [
      { ageSeconds: null },
      { ageSeconds: 1.1 },
      { lagEvents: null },
      { lagEvents: 321 },
      { waitedMs: 600 },
    ];
    for (const change of trouble) {
      expect(worseThan(baseline, row(0, change))).toBeString();
      expect(recoveryOf(rows(0, 20_000, change), 0, baseline)).toBeUndefined();
    }
    expect(worseThan(baseline, row(0))).toBeUndefined();
  });

  test("allows a second of events, also while a load test sends more", () => {
    const loaded: Baseline = { ...baseline, eventsPerSecond: 1200 };
    expect(worseThan(loaded, row(0, { lagEvents: 1220 }))).toBeUndefined();
    expect(worseThan(loaded, row(0, { lagEvents: 1221 }))).toBe("1221 events behind (limit 1220)");
    expect(worseThan({ ...baseline, eventsPerSecond: 90 }, row(0, { lagEvents: 321 }))).toBeString();
  });

  test("allows for a wide spread of the baseline", () => {
    const wide = { ...baseline, ageSeconds: { least: 0.3, worst: 1.3 } };
    expect(worseThan(wide, row(0, { ageSeconds: 2.2 }))).toBeUndefined();
    expect(worseThan(wide, row(0, { ageSeconds: 2.4 }))).toBeString();
  });
});

describe("an outage of any length at any sample offset", () => {
  const FAULT_MS = 10_000;
  /** Interval of a conveyor's batches; each is stored 80 ms later, those of the outage at its end. */
  const BATCH_MS = 230;
  const STORED_AFTER_MS = 80;
  const sampleAt = (timeMs: number, outageMs: number): Sample => {
    const isOut = timeMs >= FAULT_MS && timeMs < FAULT_MS + outageMs;
    const storedUntilMs = (isOut ? FAULT_MS : timeMs) - STORED_AFTER_MS;
    return row(timeMs, { ageSeconds: (timeMs - Math.floor(storedUntilMs / BATCH_MS) * BATCH_MS) / 1000 });
  };
  const samplesOf = (outageMs: number, phaseMs: number): Sample[] => {
    const made: Sample[] = [];
    for (let timeMs = phaseMs; timeMs < 25_000; timeMs += SAMPLE_MS) made.push(sampleAt(timeMs, outageMs));
    return made;
  };

  test("is never reported shorter than it was, nor longer by more than a sample", () => {
    let below = 0;
    for (let outageMs = 0; outageMs <= 6000; outageMs += 50) {
      for (const phaseMs of [1, 60, 130, 190, 249]) {
        const samples = samplesOf(outageMs, phaseMs);
        const healthy = baselineOf(samples.filter(({ timeMs }) => timeMs > FAULT_MS - 3000 && timeMs < FAULT_MS));
        const recovery = recoveryOf(samples, FAULT_MS, healthy)!;
        expect(recovery.ms).toBeGreaterThanOrEqual(outageMs);
        if (recovery.below) {
          below++;
          expect(outageMs).toBeLessThan(visibleFromMs(healthy, SAMPLE_MS));
        } else expect(recovery.ms).toBeLessThanOrEqual(outageMs + SAMPLE_MS);
      }
    }
    // Both kinds occur: an outage of a second or more is always visible here.
    expect(below).toBeWithin(5 * 10, 5 * 24);
  });
});

describe("baselineOf", () => {
  test("is the range of the values", () => {
    expect(baselineOf([row(0), row(250, { ageSeconds: 0.9, lagEvents: 40, waitedMs: 20 })])).toEqual({
      ageSeconds: { least: 0.4, worst: 0.9 },
      lagEvents: { least: 10, worst: 40 },
      waitedMs: { least: 20, worst: 50 },
    });
  });

  test("has the median of the rates that are known", () => {
    const rates = [900, null, 5000, 1000].map((eventsPerSecond, index) => row(index * 250, { eventsPerSecond }));
    expect(baselineOf(rates)).toMatchObject({ eventsPerSecond: 1000 });
  });

  test("throws for samples that could not be read", () => {
    expect(() => baselineOf([row(0), row(250, { lagEvents: null })])).toThrow("lag could not be read");
    expect(() => baselineOf([row(0), row(250, { ageSeconds: null })])).toThrow("the age of the newest event could not");
    expect(() => baselineOf([])).toThrow("could not be read");
  });
});

describe("measureRecovery", () => {
  const samples = [...rows(0, 1000), ...rows(1000, 3000, { ageSeconds: 5 }), ...rows(3000, 12_000)];

  test("is undefined while a workload that the drill names is not Ready", () => {
    expect(measureRecovery(samples, baseline, { sinceMs: 500, provenMs: 500 }, 9000)).toBeUndefined();
  });

  test("lasts until that workload is Ready, also when events flow earlier", () => {
    const wait = { sinceMs: 500, provenMs: 500, readyMs: 7500 };
    expect(measureRecovery(samples, baseline, wait, 9000)).toEqual({ measured_ms: 7000, budget_ms: 9000 });
  });

  test("does not change with samples after the recovery", () => {
    const wait = { sinceMs: 500, provenMs: 500, readyMs: 500 };
    const later = [...samples, ...rows(12_000, 20_000, { ageSeconds: 30 })];
    expect(measureRecovery(later, baseline, wait, 9000)).toEqual(measureRecovery(samples, baseline, wait, 9000)!);
  });
});

test("oldestAge ages from the last known value while the age cannot be read", () => {
  const samples = [...rows(0, 2000), ...rows(2000, 9000, { ageSeconds: null }), ...rows(9000, 12_000)];
  expect(oldestAge(samples, 0, 12_000)).toBeCloseTo(0.4 + 7);
  expect(oldestAge(samples, 0, 4000)).toBeCloseTo(0.4 + 2.25);
  expect(oldestAge(samples, 9000, 12_000)).toBeCloseTo(0.4);
});

describe("samples recorded on a cluster", async () => {
  interface Recorded {
    drill: string;
    effect_ms: number;
    looks: [timeMs: number, ageSeconds: number | null, lagEvents: number | null, waitedMs: number][];
  }
  /** Times are relative to the fault. */
  const all = (await Bun.file(join(import.meta.dir, "recorded-samples.json")).json()) as Recorded[];
  const recoveryFrom = (drill: string, keep = (_: number) => true) => {
    const { effect_ms, looks } = all.find((recorded) => recorded.drill === drill)!;
    const samples = looks.map(([timeMs, ageSeconds, lagEvents, waitedMs]) =>
      row(timeMs, { ageSeconds, lagEvents, waitedMs }),
    );
    const healthy = baselineOf(samples.filter(({ timeMs }) => timeMs < 0));
    const kept = samples.filter(({ timeMs }, index) => timeMs < 0 || keep(index));
    return recoveryOf(kept, effect_ms, healthy);
  };

  test("a frozen producer's outage lasts from the freeze to the first fresh event", () => {
    expect(recoveryFrom("freeze-producer")).toEqual({ ms: expect.closeTo(7000, -2), below: false });
  });

  test("an outage of two seconds is measured by the age, though lag stays below its limit", () => {
    expect(recoveryFrom("delete-processor")).toEqual({ ms: expect.closeTo(1920, -2), below: false });
  });

  test("an outage without a partition leader lasts, though lag shows no backlog", () => {
    expect(recoveryFrom("kill-kafka-controller")).toEqual({ ms: expect.closeTo(7830, -2), below: false });
  });

  test("unknown lag is not healthy, though every event is stored at once", () => {
    expect(recoveryFrom("delete-lag-exporter")).toEqual({ ms: expect.closeTo(2690, -2), below: false });
  });

  test("an orderly controller handover shows no outage and reports the visible minimum of a second", () => {
    expect(recoveryFrom("delete-kafka-controller")).toEqual({ ms: expect.closeTo(1000, -2), below: true });
  });

  test("fewer samples of the same outage never make it shorter", () => {
    const often = recoveryFrom("freeze-producer")!.ms;
    for (const every of [2, 3, 4]) {
      const recovery = recoveryFrom("freeze-producer", (index) => index % every === 0)!;
      expect(recovery.ms).toBeWithin(often, often + every * SAMPLE_MS + 50);
    }
  });
});
