/**
 * Goal: a drill is always healed, and passes only with a proven effect, a recovery within its budget, and no lost event.
 * Method: a made-up pipeline with its own clock; the record is judged as that of a real run. Nothing is awaited.
 */
import { describe, expect, test } from "bun:test";
import type { Drill, DrillContext } from "../../../scripts/drills/drill.ts";
import { judgeRecord } from "../../../scripts/drills/judge.ts";
import { type Environment, runDrill } from "../../../scripts/drills/runner.ts";
import type { SenderLedger } from "../../../scripts/drills/traffic.ts";
import type { Mark } from "../../../scripts/recording/recording.ts";
import type { RecordEntry, Sample } from "../../../scripts/recording/run-record.ts";

const TICK_MS = 250;
const NEVER = Number.POSITIVE_INFINITY;

/** A pipeline in which the newest event ages from the injection until `backMs` later, or until the fault is healed. */
class World implements Environment {
  timeMs = 1_000_000;
  injectedAtMs: number | undefined;
  healedAtMs: number | undefined;
  heals = 0;
  readonly entries: RecordEntry[] = [];
  missingEvents = 0;
  stopped: boolean[] = [];
  readonly #samples: Sample[] = [];
  readonly interrupt = new AbortController();
  interruptAtMs = NEVER;

  constructor(readonly backMs: number) {}

  now = () => this.timeMs;
  samples = () => this.#samples;
  context = (signal: AbortSignal) => ({ signal }) as unknown as DrillContext;
  unready = async (): Promise<string | undefined> => undefined;
  runCommand = async (args: readonly string[]) => ({
    timeMs: this.timeMs,
    command: `kubectl ${args.join(" ")}`,
    output: "output",
  });
  logLines = async () => [];
  missing = async () => this.missingEvents;

  get marks(): Mark[] {
    return this.entries.flatMap(({ marksAdded = [] }) => marksAdded);
  }

  record(facts: Omit<RecordEntry, "timeMs">): void {
    this.entries.push({ timeMs: this.timeMs, ...facts });
  }

  /** Values of a load that runs meanwhile. */
  load: Partial<Sample> = {};

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
    const ageSeconds = broken ? 9 : 0.3;
    const sample: Sample = { timeMs, ageSeconds, lagEvents: 5, underReplicated: 0, waitedMs: 30, ...this.load };
    this.#samples.push(sample);
    this.entries.push({ timeMs, sample });
  }

  mark(kind: Mark["kind"], subject: string, text: string, timeMs = this.timeMs): void {
    this.record({ marksAdded: [{ kind, subject, text, timeMs }] });
  }

  async startTraffic(run: string) {
    const startedAtMs = this.timeMs;
    const counts = () => {
      const acknowledged = Math.floor((this.timeMs - startedAtMs) / 10);
      return { run, offered: acknowledged, acknowledged, unknown: 0, again: 0 };
    };
    return {
      startedAtMs,
      counts,
      waitedMs: () => 0,
      stop: async (atOnce = false): Promise<SenderLedger> => {
        this.stopped.push(atOnce);
        return { ...counts(), attempts: [], outcomes: [] };
      },
    };
  }
}

const drillOf = (world: World, change: Partial<Drill>): Drill => ({
  name: "made-up",
  title: "A made-up fault",
  hypothesis: "It passes.",
  fault: "nothing real",
  budgetMs: 5000,
  budgetReason: "a test's own",
  recoversFrom: "effect",
  holdMs: 0,
  workloads: [],
  commands: [["get", "pods"]],
  prepare: async () => ({}),
  async inject() {
    world.injectedAtMs = world.now();
  },
  proveEffect: async () => (world.injectedAtMs === undefined ? undefined : { proof: "a counter rose by 3" }),
  async heal() {
    world.heals++;
    world.healedAtMs ??= world.now();
  },
  ...change,
});

/** Runs the drill and judges its record. */
async function run(world: World, change: Partial<Drill> = {}, withoutFault = false) {
  const options = { number: 1, count: 1, repeat: 1, run: "drill-test", withoutFault };
  const { ledger } = await runDrill(drillOf(world, change), world, options, world.interrupt.signal);
  const { result, sender } = judgeRecord(world.entries)[0]!;
  return { world, result, sender, ledger };
}

const throwing = (message: string) => () => Promise.reject(new Error(message));

describe("runDrill", () => {
  test("runs while a load test does: a second of its events is no backlog, more is", async () => {
    const loaded = async (lagEvents: number) => {
      const world = new World(3000);
      world.load = { lagEvents, eventsPerSecond: 1100 };
      return (await run(world)).result;
    };
    expect(await loaded(1100)).toMatchObject({ verdict: "passed" });
    expect(await loaded(2300)).toMatchObject({
      verdict: "inconclusive",
      reasons: [expect.stringContaining("2300 events behind (limit 2200)")],
    });
  });

  test("passes a drill that recovers within its budget, with four phases, its proof and an operator's commands", async () => {
    const { world, result, ledger, sender } = await run(new World(3000));
    expect(result).toMatchObject({ verdict: "passed", reasons: [], effect: { proof: "a counter rose by 3" } });
    expect(result.beats.map(({ name }) => name)).toEqual(["before", "fault", "healed", "proven"]);
    expect(result.recovery!.measured_ms).toBeWithin(2000, 3501);
    expect(result.commands).toEqual([expect.objectContaining({ command: "kubectl get pods", output: "output" })]);
    expect(ledger!.run).toBe("drill-test");
    expect(sender).toMatchObject({ run: "drill-test", acknowledged: ledger!.acknowledged });
    expect(world.heals).toBe(1);
  });

  test("reports the visible minimum, not zero, for a fault without an outage", async () => {
    const { world, result } = await run(new World(0));
    expect(result.verdict).toBe("passed");
    expect(result.recovery).toEqual({ measured_ms: 750, budget_ms: 5000, below: true });
    expect(world.marks.find(({ kind }) => kind === "recovered")!.text).toBe("no outage was visible (< 0.8 s)");
  });

  test("fails a recovery beyond the budget, with both times", async () => {
    const { result } = await run(new World(9000));
    expect(result.verdict).toBe("failed");
    expect(result.reasons.join()).toMatch(/recovery took .* budget is 5\.0 s/);
    expect(result.recovery!.measured_ms).toBeGreaterThan(8000);
  });

  test("is inconclusive without the fault, and heals", async () => {
    const { world, result } = await run(new World(3000), {}, true);
    expect(result.verdict).toBe("inconclusive");
    expect(result.effect).toBeUndefined();
    expect(result.recovery).toBeUndefined();
    expect(world.injectedAtMs).toBeUndefined();
    expect(world.heals).toBe(1);
  });

  test("is inconclusive when the effect cannot be read", async () => {
    expect((await run(new World(3000), { proveEffect: throwing("no answer") })).result.verdict).toBe("inconclusive");
  });

  test("heals when the injection throws, and is inconclusive", async () => {
    const { world, result } = await run(new World(3000), { inject: throwing("no right to do that") });
    expect(result.verdict).toBe("inconclusive");
    expect(result.reasons).toContain("no right to do that");
    expect(world.heals).toBe(1);
  });

  test("heals after an interrupt in any phase, and stops its traffic at once", async () => {
    for (const behindMs of [1000, 4500, 5500, 7000, 9500]) {
      const world = new World(4000);
      world.interruptAtMs = world.timeMs + behindMs;
      const { result } = await run(world);
      expect(result.verdict).toBe("interrupted");
      expect(world.heals).toBe(1);
      expect(world.stopped).toEqual([true]);
    }
  });

  test("fails when healing throws", async () => {
    const { result } = await run(new World(3000), { heal: throwing("it stays frozen") });
    expect(result.verdict).toBe("failed");
    expect(result.reasons.join()).toContain("it stays frozen");
  });

  test("fails when pods are not Ready within the limit after the fault, and names them", async () => {
    const world = new World(3000);
    const { result } = await run(world, {
      async heal() {
        world.healedAtMs = world.now();
        await world.pause(30_000);
        world.unready = async () => "kafka-1 is not Ready";
      },
    });
    expect(result.verdict).toBe("failed");
    expect(result.reasons).toContain("waited 1 min 30 s for all pods to be Ready; last seen: kafka-1 is not Ready");
  });

  test("measures the recovery from the healing for a fault that does not pass by itself", async () => {
    const { world, result } = await run(new World(NEVER), { recoversFrom: "healed", holdMs: 10_000 });
    expect(result.verdict).toBe("passed");
    expect(world.healedAtMs! - world.injectedAtMs!).toBeGreaterThanOrEqual(10_000);
    expect(result.recovery!.measured_ms).toBeLessThan(1000);
  });

  test("fails on a violation while the fault is held, reported once", async () => {
    const violations = async () => ["events were acknowledged with one remaining broker"];
    const { result } = await run(new World(NEVER), { recoversFrom: "healed", holdMs: 3000, violations });
    expect(result.verdict).toBe("failed");
    expect(result.reasons).toEqual(["events were acknowledged with one remaining broker"]);
  });

  test("waits for an event after the recovery as long as its budget, and fails without one", async () => {
    /** The drill's own events are not acknowledged for a time after the fault was undone. */
    const stalled = async (stallMs: number) => {
      const world = new World(3000);
      const start = world.startTraffic.bind(world);
      world.startTraffic = async (run) => {
        const traffic = await start(run);
        const countsAt = { ...traffic.counts() };
        const counts = () => {
          const isStalled = world.healedAtMs !== undefined && world.now() < world.healedAtMs + stallMs;
          return isStalled ? countsAt : Object.assign(countsAt, traffic.counts());
        };
        return { ...traffic, counts };
      };
      return (await run(world)).result;
    };
    expect(await stalled(2500)).toMatchObject({ verdict: "passed" });
    expect(await stalled(9000)).toMatchObject({
      verdict: "failed",
      reasons: ["no event of the drill's own was acknowledged within 5.0 s after the recovery"],
    });
  });

  test("fails when the newest event exceeds its age limit, though the recovery is in time", async () => {
    const { result } = await run(new World(3000), { freshnessLimitSeconds: 5 });
    expect(result.verdict).toBe("failed");
    expect(result.reasons.join()).toContain("was 9.0 s old, the limit is 5 s");
  });

  test("fails when an acknowledged event is missing in the database", async () => {
    const world = new World(1000);
    world.missingEvents = 2;
    const { result } = await run(world);
    expect(result.verdict).toBe("failed");
    expect(result.reasons.join()).toContain("2 acknowledged events");
  });

  test("fails after the recovery limit, and heals", async () => {
    const { world, result } = await run(new World(NEVER));
    expect(result.verdict).toBe("failed");
    expect(result.reasons.join()).toContain("not recovered within");
    expect(world.heals).toBe(1);
  });
});
