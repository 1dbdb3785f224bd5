/**
 * Goal: a recovery is neither seen too early nor too late, and an outage is never reported as shorter than it was. Method:
 * looks written by hand; looks that a made-up pipeline would give, with outages of every length; and looks recorded on a
 * cluster.
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import {
  type Normal,
  normalOf,
  oldestAge,
  type Recovery,
  recoveryOf,
  type Sample,
  STABLE_MS,
  visibleFromMs,
  worseThan,
} from "../../../scripts/drills/recovery.ts";

const row = (timeMs: number, change: Partial<Sample> = {}): Sample => ({
  timeMs,
  ageSeconds: 0.4,
  lagEvents: 10,
  underReplicated: 0,
  waitedMs: 50,
  ...change,
});
const LOOK_MS = 250;
const rows = (fromMs: number, toMs: number, change: Partial<Sample> = {}): Sample[] => {
  const made: Sample[] = [];
  for (let timeMs = fromMs; timeMs < toMs; timeMs += LOOK_MS) made.push(row(timeMs, change));
  return made;
};
const normal: Normal = {
  ageSeconds: { least: 0.2, worst: 0.5 },
  lagEvents: { least: 0, worst: 20 },
  waitedMs: { least: 20, worst: 60 },
};
const seen = (ms: number): Recovery => ({ ms, below: false });

describe("recoveryOf", () => {
  test("ends with the first calm look behind the trouble, once calm has lasted", () => {
    const looks = [...rows(0, 1000), ...rows(1000, 6000, { ageSeconds: 5 }), ...rows(6000, 12_000)];
    expect(recoveryOf(looks, 0, normal)).toEqual(seen(6000));
  });

  test("is not there while calm has not lasted", () => {
    const looks = [...rows(0, 4000, { ageSeconds: null }), ...rows(4000, 4000 + STABLE_MS)];
    expect(recoveryOf(looks, 0, normal)).toBeUndefined();
  });

  test("is not the silence right behind a fault, before it shows", () => {
    const looks = [...rows(0, 2000), ...rows(2000, 8000, { ageSeconds: 4 }), ...rows(8000, 12_000)];
    expect(recoveryOf(looks, 0, normal)).toEqual(seen(8000));
  });

  test("is not the calm while a pod that was told to end still works", () => {
    const looks = [...rows(0, 5000), ...rows(5000, 7000, { ageSeconds: 4 }), ...rows(7000, 12_000)];
    expect(recoveryOf(looks.slice(0, 20), 0, normal, 4800)).toBeUndefined();
    expect(recoveryOf(looks, 0, normal, 4800)).toEqual(seen(7000));
  });

  test("starts again when trouble comes back", () => {
    const looks = [
      ...rows(0, 2000, { lagEvents: 900 }),
      ...rows(2000, 4000),
      ...rows(4000, 5000, { lagEvents: 900 }),
      ...rows(5000, 9000),
    ];
    expect(recoveryOf(looks, 0, normal)).toEqual(seen(5000));
  });

  test("of a fault that is taken away ends an outage that began before", () => {
    const looks = [...rows(0, 5000, { ageSeconds: 5 }), ...rows(5000, 12_000)];
    expect(recoveryOf(looks, 4900, normal)).toEqual(seen(100));
  });

  test("says below what can be seen when nothing was beyond its limit, never zero", () => {
    // Limit 1.0 s; an event that is 0.2 s old ages to it in 0.8 s, and then a look must come.
    expect(recoveryOf(rows(0, 9000), 1200, normal)).toEqual({ ms: 1050, below: true });
  });

  test("an outage between two looks is below what can be seen, and the looks say how far", () => {
    // 1.2 s without a look: an outage of that length may have come and gone.
    const looks = [...rows(0, 2000), ...rows(2950, 9000)];
    expect(recoveryOf(looks, 1000, normal)).toEqual({ ms: 800 + 1200, below: true });
  });

  test("takes a longer time without any look for trouble", () => {
    const looks = [...rows(0, 2000), ...rows(4000, 9000)];
    expect(recoveryOf(looks, 1000, normal)).toEqual(seen(3000));
  });

  test("looks at the age, at lag, and at how long a batch of the drill's own waited", () => {
    const trouble: Partial<Sample>[] = [
      { ageSeconds: null },
      { ageSeconds: 1.1 },
      { lagEvents: null },
      { lagEvents: 321 },
      { waitedMs: 600 },
    ];
    for (const change of trouble) {
      expect(worseThan(normal, row(0, change))).toBeString();
      expect(recoveryOf(rows(0, 20_000, change), 0, normal)).toBeUndefined();
    }
    expect(worseThan(normal, row(0))).toBeUndefined();
  });

  test("allows for the spread of the healthy beat where that is wide", () => {
    const wide = { ...normal, ageSeconds: { least: 0.3, worst: 1.3 } };
    expect(worseThan(wide, row(0, { ageSeconds: 2.2 }))).toBeUndefined();
    expect(worseThan(wide, row(0, { ageSeconds: 2.4 }))).toBeString();
  });
});

describe("an outage of any length, at any phase", () => {
  const FAULT_MS = 10_000;
  /** A conveyor's batches come this often and are stored 80 ms later, but for those of the outage, which come at its end. */
  const BATCH_MS = 230;
  const STORED_AFTER_MS = 80;
  const look = (timeMs: number, outageMs: number): Sample => {
    const isOut = timeMs >= FAULT_MS && timeMs < FAULT_MS + outageMs;
    const storedUntilMs = (isOut ? FAULT_MS : timeMs) - STORED_AFTER_MS;
    return row(timeMs, { ageSeconds: (timeMs - Math.floor(storedUntilMs / BATCH_MS) * BATCH_MS) / 1000 });
  };
  const looksOf = (outageMs: number, phaseMs: number): Sample[] => {
    const made: Sample[] = [];
    for (let timeMs = phaseMs; timeMs < 25_000; timeMs += LOOK_MS) made.push(look(timeMs, outageMs));
    return made;
  };

  test("is never reported as shorter than it was, nor by more than a look longer", () => {
    let below = 0;
    for (let outageMs = 0; outageMs <= 6000; outageMs += 50) {
      for (const phaseMs of [1, 60, 130, 190, 249]) {
        const looks = looksOf(outageMs, phaseMs);
        const healthy = normalOf(looks.filter(({ timeMs }) => timeMs > FAULT_MS - 3000 && timeMs < FAULT_MS));
        const recovery = recoveryOf(looks, FAULT_MS, healthy)!;
        expect(recovery.ms).toBeGreaterThanOrEqual(outageMs);
        if (recovery.below) {
          below++;
          expect(outageMs).toBeLessThan(visibleFromMs(healthy, LOOK_MS));
        } else expect(recovery.ms).toBeLessThanOrEqual(outageMs + LOOK_MS);
      }
    }
    // Both happened: a second and more is always seen here, nothing never.
    expect(below).toBeWithin(5 * 10, 5 * 24);
  });
});

describe("normalOf", () => {
  test("is the least and the worst that was seen before", () => {
    expect(normalOf([row(0), row(250, { ageSeconds: 0.9, lagEvents: 40, waitedMs: 20 })])).toEqual({
      ageSeconds: { least: 0.4, worst: 0.9 },
      lagEvents: { least: 10, worst: 40 },
      waitedMs: { least: 20, worst: 50 },
    });
  });

  test("refuses looks that could not be read", () => {
    expect(() => normalOf([row(0), row(250, { lagEvents: null })])).toThrow("lag could not be read");
    expect(() => normalOf([row(0), row(250, { ageSeconds: null })])).toThrow("the age of the newest event could not");
    expect(() => normalOf([])).toThrow("could not be read");
  });
});

test("the newest event ages on while it cannot be read", () => {
  const looks = [...rows(0, 2000), ...rows(2000, 9000, { ageSeconds: null }), ...rows(9000, 12_000)];
  expect(oldestAge(looks, 0, 12_000)).toBeCloseTo(0.4 + 7);
  expect(oldestAge(looks, 0, 4000)).toBeCloseTo(0.4 + 2.25);
  expect(oldestAge(looks, 9000, 12_000)).toBeCloseTo(0.4);
});

describe("looks recorded on a cluster", async () => {
  interface Recorded {
    drill: string;
    effect_ms: number;
    looks: [timeMs: number, ageSeconds: number | null, lagEvents: number | null, waitedMs: number][];
  }
  /** Times count from the fault. */
  const all = (await Bun.file(join(import.meta.dir, "recorded-samples.json")).json()) as Recorded[];
  const recoveryFrom = (drill: string, keep = (_: number) => true) => {
    const { effect_ms, looks } = all.find((recorded) => recorded.drill === drill)!;
    const samples = looks.map(([timeMs, ageSeconds, lagEvents, waitedMs]) =>
      row(timeMs, { ageSeconds, lagEvents, waitedMs }),
    );
    const healthy = normalOf(samples.filter(({ timeMs }) => timeMs < 0));
    const kept = samples.filter(({ timeMs }, index) => timeMs < 0 || keep(index));
    return recoveryOf(kept, effect_ms, healthy);
  };

  test("a frozen producer's outage lasts from the freeze to the first fresh event, to a look", () => {
    expect(recoveryFrom("freeze-producer")).toEqual({ ms: expect.closeTo(7000, -2), below: false });
  });

  test("an outage of two seconds is seen, though lag never came near its limit", () => {
    expect(recoveryFrom("delete-processor")).toEqual({ ms: expect.closeTo(1920, -2), below: false });
  });

  test("a killed controller's outage has no end while nobody leads, though lag says that nothing waits", () => {
    expect(recoveryFrom("kill-kafka-controller")).toEqual({ ms: expect.closeTo(7830, -2), below: false });
  });

  test("lag that nobody knows is no calm, though every event is stored at once", () => {
    expect(recoveryFrom("delete-lag-exporter")).toEqual({ ms: expect.closeTo(2690, -2), below: false });
  });

  test("a controller that hands over in order: nothing was seen, and nothing longer than a second can have been", () => {
    expect(recoveryFrom("delete-kafka-controller")).toEqual({ ms: expect.closeTo(1000, -2), below: true });
  });

  test("fewer looks at the same outage never make it shorter", () => {
    const often = recoveryFrom("freeze-producer")!.ms;
    for (const every of [2, 3, 4]) {
      const recovery = recoveryFrom("freeze-producer", (index) => index % every === 0)!;
      expect(recovery.ms).toBeWithin(often, often + every * LOOK_MS + 50);
    }
  });
});
