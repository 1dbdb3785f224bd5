/**
 * Goal: the rules that every drill obeys. Method: drills and a world that are made up, with a clock that only the pauses
 * move: nothing is waited for.
 */
import { describe, expect, test } from "bun:test";
import type { Drill, DrillContext } from "../../../scripts/drills/drill.ts";
import type { Sample } from "../../../scripts/drills/recovery.ts";
import { type Environment, runDrill } from "../../../scripts/drills/runner.ts";
import type { TrafficOutcomes } from "../../../scripts/drills/traffic.ts";
import type { Mark } from "../../../scripts/recording/recording.ts";

const TICK_MS = 250;

/** A world in which a fault lets the newest event age from its injection until `backMs` behind it, or until it is healed. */
class World implements Environment {
  timeMs = 1_000_000;
  injectedAtMs: number | undefined;
  healedAtMs: number | undefined;
  heals = 0;
  marks: Mark[] = [];
  missingEvents = 0;
  stopped: boolean[] = [];
  readonly #samples: Sample[] = [];
  readonly interrupt = new AbortController();
  interruptAtMs = Number.POSITIVE_INFINITY;

  constructor(readonly backMs: number) {}

  now = () => this.timeMs;
  samples = () => this.#samples;
  context = (signal: AbortSignal) => ({ signal }) as unknown as DrillContext;
  unready = async () => undefined;
  look = async (args: readonly string[]) => ({
    timeMs: this.timeMs,
    command: `kubectl ${args.join(" ")}`,
    output: "seen",
  });
  aftermath = async () => [];
  missing = async () => this.missingEvents;
  recording = (startedAtMs: number, endedAtMs: number) => ({
    startedAtMs,
    endedAtMs,
    timesMs: [],
    series: {},
    marks: this.marks.filter(({ timeMs }) => timeMs >= startedAtMs && timeMs <= endedAtMs),
  });

  async pause(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const untilMs = this.timeMs + ms;
    for (let next = Math.ceil(this.timeMs / TICK_MS) * TICK_MS; next < untilMs; next += TICK_MS) this.#tick(next);
    this.timeMs = untilMs;
    if (this.timeMs >= this.interruptAtMs) this.interrupt.abort(new Error("interrupted"));
    signal?.throwIfAborted();
  }

  #tick(timeMs: number): void {
    const endMs = Math.min(this.healedAtMs ?? Number.POSITIVE_INFINITY, (this.injectedAtMs ?? 0) + this.backMs);
    const broken = this.injectedAtMs !== undefined && timeMs >= this.injectedAtMs && timeMs < endMs;
    this.#samples.push({
      timeMs,
      ageSeconds: broken ? 9 : 0.3,
      lagEvents: 5,
      underReplicated: 0,
      waitedMs: 30,
    });
  }

  mark(kind: Mark["kind"], subject: string, text: string, timeMs = this.timeMs): Mark {
    const made = { kind, subject, text, timeMs };
    this.marks.push(made);
    return made;
  }

  async startTraffic(run: string) {
    const startedAtMs = this.timeMs;
    const counts = () => {
      const acknowledged = Math.floor((this.timeMs - startedAtMs) / 10);
      return { offered: acknowledged, acknowledged, unknown: 0, again: 0 };
    };
    return {
      run,
      startedAtMs,
      counts,
      waitedMs: () => 0,
      stop: async (atOnce = false): Promise<TrafficOutcomes> => {
        this.stopped.push(atOnce);
        return { run, ...counts(), attempts: [], outcomes: [] };
      },
    };
  }
}

const drillOf = (world: World, change: Partial<Drill> = {}): Drill => ({
  name: "made-up",
  title: "A made-up fault",
  hypothesis: "It passes.",
  fault: "nothing real",
  budgetMs: 5000,
  budgetReason: "a test's own",
  recoversFrom: "effect",
  holdMs: 0,
  workloads: [],
  look: [["get", "pods"]],
  prepare: async () => ({}),
  async inject() {
    world.injectedAtMs = world.now();
  },
  effectSeen: async () => (world.injectedAtMs === undefined ? undefined : { proof: "a counter rose by 3" }),
  async heal() {
    world.heals++;
    world.healedAtMs ??= world.now();
  },
  ...change,
});

const run = (world: World, drill: Drill, withoutFault = false) =>
  runDrill(drill, world, { repeat: 1, run: "drill-test", withoutFault }, world.interrupt.signal);

describe("runDrill", () => {
  test("passes a drill that recovers within its budget, in four beats, with its proof and what an operator saw", async () => {
    const world = new World(3000);
    const { result, account } = await run(world, drillOf(world));
    expect(result).toMatchObject({ verdict: "passed", reasons: [], effect: { proof: "a counter rose by 3" } });
    expect(result.beats.map(({ name }) => name)).toEqual(["before", "fault", "healed", "proven"]);
    expect(result.recovery!.measured_ms).toBeWithin(2000, 3501);
    expect(result.commands).toEqual([expect.objectContaining({ command: "kubectl get pods", output: "seen" })]);
    expect(account!.run).toBe("drill-test");
    expect(world.heals).toBe(1);
  });

  test("says of a fault that nobody noticed below which time that is known, not zero", async () => {
    const world = new World(0);
    const { result } = await run(world, drillOf(world));
    expect(result.verdict).toBe("passed");
    expect(result.recovery).toEqual({ measured_ms: 750, budget_ms: 5000, below: true });
    expect(world.marks.find(({ kind }) => kind === "recovered")!.text).toBe(
      "no outage was seen: below what can be (< 750 ms)",
    );
  });

  test("fails one that exceeds its budget, and says by how much", async () => {
    const world = new World(9000);
    const { result } = await run(world, drillOf(world));
    expect(result.verdict).toBe("failed");
    expect(result.reasons.join()).toMatch(/recovery took .* budget is 5\.0 s/);
    expect(result.recovery!.measured_ms).toBeGreaterThan(8000);
  });

  test("calls one without fault inconclusive, and heals all the same", async () => {
    const world = new World(3000);
    const { result } = await run(world, drillOf(world), true);
    expect(result.verdict).toBe("inconclusive");
    expect(result.effect).toBeUndefined();
    expect(result.recovery).toBeUndefined();
    expect(world.injectedAtMs).toBeUndefined();
    expect(world.heals).toBe(1);
  });

  test("calls one inconclusive whose effect cannot be read", async () => {
    const world = new World(3000);
    const effectSeen = async () => {
      throw new Error("no answer");
    };
    expect((await run(world, drillOf(world, { effectSeen }))).result.verdict).toBe("inconclusive");
  });

  test("heals when the injection throws, and never passes it", async () => {
    const world = new World(3000);
    const inject = async () => {
      throw new Error("no right to do that");
    };
    const { result } = await run(world, drillOf(world, { inject }));
    expect(result.verdict).toBe("inconclusive");
    expect(result.reasons).toContain("no right to do that");
    expect(world.heals).toBe(1);
  });

  test("heals when it is interrupted, at any beat, and ends its traffic at once", async () => {
    for (const behindMs of [1000, 4500, 5500, 7000, 9500]) {
      const world = new World(4000);
      world.interruptAtMs = world.timeMs + behindMs;
      const { result } = await run(world, drillOf(world));
      expect(result.verdict).toBe("interrupted");
      expect(world.heals).toBe(1);
      expect(world.stopped).toEqual([true]);
    }
  });

  test("fails one that cannot be healed", async () => {
    const world = new World(3000);
    const heal = async () => {
      throw new Error("it stays frozen");
    };
    const { result } = await run(world, drillOf(world, { heal }));
    expect(result.verdict).toBe("failed");
    expect(result.reasons.join()).toContain("it stays frozen");
  });

  test("measures from the healing where a fault does not pass by itself", async () => {
    const world = new World(Number.POSITIVE_INFINITY);
    const { result } = await run(world, drillOf(world, { recoversFrom: "healed", holdMs: 10_000 }));
    expect(result.verdict).toBe("passed");
    expect(world.healedAtMs! - world.injectedAtMs!).toBeGreaterThanOrEqual(10_000);
    expect(result.recovery!.measured_ms).toBeLessThan(1000);
  });

  test("fails on what must not be while the fault is held, once", async () => {
    const world = new World(Number.POSITIVE_INFINITY);
    const watch = async () => ["events were acknowledged with one broker left"];
    const { result } = await run(world, drillOf(world, { recoversFrom: "healed", holdMs: 3000, watch }));
    expect(result.verdict).toBe("failed");
    expect(result.reasons).toEqual(["events were acknowledged with one broker left"]);
  });

  test("fails when the newest point was older than the drill allows, though it recovered in time", async () => {
    const world = new World(3000);
    const { result } = await run(world, drillOf(world, { freshnessLimitSeconds: 5 }));
    expect(result.verdict).toBe("failed");
    expect(result.reasons.join()).toContain("was 9.0 s old, the limit is 5 s");
  });

  test("fails when an acknowledged event does not stand in the database", async () => {
    const world = new World(1000);
    world.missingEvents = 2;
    const { result } = await run(world, drillOf(world));
    expect(result.verdict).toBe("failed");
    expect(result.reasons.join()).toContain("2 acknowledged events");
  });

  test("gives up a recovery that does not come, and heals", async () => {
    const world = new World(Number.POSITIVE_INFINITY);
    const { result } = await run(world, drillOf(world));
    expect(result.verdict).toBe("failed");
    expect(result.reasons.join()).toContain("not recovered within");
    expect(world.heals).toBe(1);
  });
});
