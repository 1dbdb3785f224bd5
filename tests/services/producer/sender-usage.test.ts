import { beforeEach, describe, expect, test } from "bun:test";
import type { Sender } from "../../../services/producer/intake-senders.ts";
import { SenderUsage } from "../../../services/producer/sender-usage.ts";
import type { SenderLimits } from "../../../services/protocol/senders.ts";

let now: number;
let usage: SenderUsage;

beforeEach(() => {
  now = 1000;
  usage = new SenderUsage(() => now);
});

const sender = (limits: Partial<SenderLimits>, name = "a"): Sender => ({
  name,
  sources: ["*"],
  limits: { mostSources: 100, mostSeries: 100, ...limits },
});

/** Requests taken when one of so many bytes is sent each `everyMs` for `forMs`. */
function taken(who: Sender, { bytes, everyMs, forMs }: { bytes: number; everyMs: number; forMs: number }): number {
  let count = 0;
  for (const end = now + forMs; now < end; now += everyMs) if (usage.takeRequest(who, bytes) === 0) count++;
  return count;
}

describe("rates", () => {
  test("a sender without limits, and a shared token, are never refused", () => {
    for (const who of [{ name: "token" }, sender({})]) {
      expect(taken(who, { bytes: 1e9, everyMs: 1, forMs: 1000 })).toBe(1000);
    }
  });

  test("requests: ten seconds of the rate at once, then the rate", () => {
    const who = sender({ requestsPerSecond: 5 });
    expect(taken(who, { bytes: 0, everyMs: 1, forMs: 40 })).toBe(40);
    expect(taken(who, { bytes: 0, everyMs: 10, forMs: 100_000 })).toBeWithin(505, 516);
  });

  test("the answer says when: a moment before it is refused, then it is taken", () => {
    const who = sender({ requestsPerSecond: 2 });
    taken(who, { bytes: 0, everyMs: 0.1, forMs: 3 });
    const waitMs = usage.takeRequest(who, 0);
    expect(waitMs).toBeWithin(400, 501);
    now += waitMs - 1;
    expect(usage.takeRequest(who, 0)).toBeGreaterThan(0);
    now += 1.001;
    expect(usage.takeRequest(who, 0)).toBe(0);
  });

  test("bytes: the mean is the rate, also for bodies above the capacity and of unknown length", () => {
    const who = sender({ bytesPerSecond: 1000 });
    // The first passes with a full bucket and leaves a debt of 20 seconds.
    expect(usage.takeRequest(who, 30_000)).toBe(0);
    expect(usage.takeRequest(who, 1)).toBeWithin(20_000, 20_002);
    now += 20_000;
    expect(taken(who, { bytes: 500, everyMs: 10, forMs: 100_000 })).toBeWithin(199, 202);
    now += 10_000;
    expect(usage.takeRequest(who, 0)).toBe(0);
    const charge = usage.charge(who, 0);
    // The greatest total counts, once.
    for (const totalBytes of [9000, 15_000, 15_000, 12_000]) charge(totalBytes);
    expect(usage.takeRequest(who, 0)).toBeWithin(4000, 6000);
  });

  test("a refused request takes nothing, and one sender's rate is not another's", () => {
    const who = sender({ requestsPerSecond: 1, bytesPerSecond: 1000 });
    expect(usage.takeRequest(who, 10_000)).toBe(0);
    for (let index = 0; index < 100; index++) expect(usage.takeRequest(who, 1000)).toBeGreaterThan(0);
    now += 1001;
    expect(usage.takeRequest(who, 1000)).toBe(0);
    expect(usage.takeRequest(sender({ requestsPerSecond: 1 }, "b"), 1000)).toBe(0);
  });
});

describe("bounds", () => {
  const report = (who: Sender) => Object.fromEntries(usage.report([who]).map(({ kind, names }) => [kind, names]));

  test("a new name beyond the bound is refused, a known one is not", () => {
    const who = sender({ mostSources: 2, mostSeries: 3 });
    const admission = usage.admission(who);
    for (const [source, series] of [
      ["s1", "a"],
      ["s2", "b"],
      ["s1", "c"],
      ["s1", "a"],
    ] as const) {
      expect(admission.add(source, series)).toBeUndefined();
    }
    expect(admission.add("s3", "a")).toEqual({
      bound: "sources",
      name: "s3",
      rule: "sender a has its most sources (2) in use",
    });
    expect(admission.add("s1", "d")).toEqual({
      bound: "series",
      name: "d",
      rule: "sender a has its most series (3) in use",
    });
    expect(admission.add("s2", "c")).toBeUndefined();
    expect(report(who)).toEqual({ sources: 2, series: 3 });
  });

  test("a refused event and a cancelled request use no name", () => {
    const who = sender({ mostSources: 5, mostSeries: 1 });
    const first = usage.admission(who);
    expect(first.add("s1", "a")).toBeUndefined();
    // The source has room, its series has none.
    expect(first.add("s2", "b")).toMatchObject({ bound: "series" });
    expect(report(who)).toEqual({ sources: 1, series: 1 });
    const second = usage.admission(who);
    second.add("s1", "a");
    second.add("s3", "a");
    second.cancel();
    expect(report(who)).toEqual({ sources: 1, series: 1 });
    first.cancel();
    expect(report(who)).toEqual({ sources: 0, series: 0 });
  });

  test("a name is in use for a day or two after its last event", () => {
    const who = sender({ mostSeries: 2 });
    const day = 24 * 3_600_000;
    usage.admission(who).add("s", "old");
    usage.admission(who).add("s", "kept");
    now += day;
    expect(usage.admission(who).add("s", "kept")).toBeUndefined();
    expect(usage.admission(who).add("s", "new")).toMatchObject({ bound: "series" });
    now += day;
    expect(report(who)).toEqual({ sources: 1, series: 1 });
    expect(usage.admission(who).add("s", "new")).toBeUndefined();
    now += 2 * day;
    expect(report(who)).toEqual({ sources: 0, series: 0 });
  });

  test("all senders together have a bound", () => {
    const names = ["a", "b", "c"].map((name) => sender({ mostSeries: 100_000 }, name));
    const outcomes = names.map((who) => {
      const admission = usage.admission(who);
      let exceeded: ReturnType<typeof admission.add>;
      for (let index = 0; index < 100_000 && !exceeded; index++) exceeded = admission.add(undefined, `series-${index}`);
      return exceeded?.rule;
    });
    expect(outcomes).toEqual([
      undefined,
      undefined,
      "all senders together have the most sources and series (200000) in use",
    ]);
  });

  test("the names of a sender that is no longer listed are forgotten", () => {
    const [a, b] = [sender({}), sender({}, "b")];
    for (const who of [a, b]) usage.admission(who).add("s", "x");
    expect(usage.report([a, b]).map(({ sender, names }) => [sender, names])).toEqual([
      ["a", 1],
      ["a", 1],
      ["b", 1],
      ["b", 1],
    ]);
    expect(usage.report([b])).toHaveLength(2);
    expect(report(a)).toEqual({ sources: 0, series: 0 });
  });
});
