/** The live page: what it is told is what it shows, what it showed can be played again, and it asks nobody but its server. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { followAnew, pollUntilAnswered } from "../../../scripts/live/alert-log-feed.ts";
import { type FeedSource, LiveFeed } from "../../../scripts/live/live-feed.ts";
import { startLivePage } from "../../../scripts/live/live-page.ts";
import { applyPatch, emptyState, type LivePatch, readPatches } from "../../../scripts/live/live-state.ts";
import { liveSections } from "../../../scripts/live/live-view.ts";
import { patchesOfResult, Replay } from "../../../scripts/live/replay.ts";
import type { PodState } from "../../../scripts/recording/cluster-watch.ts";
import { eventually } from "../../eventually.ts";
import { START_MS, syntheticDrill, syntheticDrills } from "../report/synthetic.ts";

const at = (second: number) => START_MS + second * 1000;
const drill = { name: "d", title: "Synthetic drill", hypothesis: "h", fault: "f", repeat: 1, number: 1, count: 2 };
const textOf = (html: string) => html.replaceAll(/<[^>]*>/g, " ").replaceAll(/\s+/g, " ");

describe("state", () => {
  test("a drill begins with nothing of the one before", () => {
    const state = emptyState("r", START_MS);
    applyPatch(state, { timeMs: at(1), drill, ledger: { lost: 0 } });
    applyPatch(state, { timeMs: at(2), beat: "fault" });
    applyPatch(state, {
      timeMs: at(2),
      marksAdded: [{ timeMs: at(2), kind: "fault", subject: "x", text: "of the first" }],
    });
    expect(state.beats.map(({ name }) => name)).toEqual(["before", "fault"]);
    applyPatch(state, { timeMs: at(9), drill: { ...drill, number: 2, name: "e" } });
    expect(state.beats).toEqual([{ name: "before", startedAtMs: at(9) }]);
    expect(state.ledger).toEqual({});
    expect(textOf(liveSections(state).timeline)).not.toContain("of the first");
  });
  test("lists are bounded, however long it runs", () => {
    const state = emptyState("r", START_MS);
    for (let second = 0; second < 5000; second++)
      applyPatch(state, { timeMs: at(second), row: { lag_events: second } });
    expect(state.rows.length).toBeLessThanOrEqual(1200);
    expect(state.rows.at(-1)!.row.lag_events).toBe(4999);
  });
  test("what was not measured is not a zero", () => {
    const state = emptyState("r", START_MS);
    applyPatch(state, { timeMs: at(1), row: { lag_events: null, freshness_seconds: 0 } });
    const words = textOf(liveSections(state).numbers);
    expect(words).toContain("lag – not measured");
    expect(words).toContain("newest stored event 0 s old");
  });
  test("what came from elsewhere is text on the page", () => {
    const state = emptyState("r", START_MS);
    const evil = "<img src=x onerror=alert(1)>";
    applyPatch(state, {
      timeMs: at(1),
      drill: { ...drill, title: evil },
      pods: [{ name: evil, workload: evil, state: "ready", restarts: 0 }],
      alerts: [{ name: evil, state: "firing", severity: evil }],
      linesAdded: [{ timeMs: at(1), pod: evil, line: evil }],
      commandsAdded: [{ timeMs: at(1), command: evil, output: evil }],
      marksAdded: [{ timeMs: at(1), kind: "alert", subject: evil, text: evil }],
    });
    expect(Object.values(liveSections(state)).join("")).not.toContain("<img");
  });
});

describe("replay", () => {
  const result = syntheticDrills({ drills: [syntheticDrill()] });
  const patches = patchesOfResult(result);
  test("each moment has what was known then, and no more; going back is right too", () => {
    const replay = new Replay("r", patches);
    const kinds = (second: number) => replay.at(at(second)).marks.map(({ kind }) => kind);
    expect(kinds(19)).toEqual([]);
    expect(kinds(20.5)).toEqual(["fault", "effect"]);
    expect(replay.at(at(32)).commands).toHaveLength(2);
    expect(replay.at(at(32)).finished).toEqual([]);
    expect(replay.at(at(80)).finished.map(({ verdict }) => verdict)).toEqual(["passed"]);
    expect(kinds(19)).toEqual([]);
  });
});

test("the feed: rows, marks and changed pods of the observer, beats of the runner", () => {
  const patches: LivePatch[] = [];
  let rows: Parameters<FeedSource["onRow"]>[0] = () => {};
  let pods: PodState[] = [
    { name: "processor-a", uid: "1", workload: "processor", address: "a", ready: true, ending: false, restarts: 0 },
  ];
  const source: FeedSource = {
    onRow: (listener) => {
      rows = listener;
      return () => {};
    },
    onMark: () => () => {},
    pods: () => pods,
  };
  const feed = new LiveFeed({ update: (patch) => void patches.push(patch) }, source, () => at(5));
  rows(at(1), { lag_events: 1 });
  rows(at(2), { lag_events: 2 });
  pods = [{ ...pods[0]!, ending: true, ready: false }];
  rows(at(3), { lag_events: 3 });
  feed.beatEnded("before");
  feed.beatEnded("proven");
  feed.drillEnded(syntheticDrill());
  expect(
    patches.map((patch) =>
      Object.keys(patch)
        .filter((key) => key !== "timeMs")
        .join(),
    ),
  ).toEqual(["pods", "row", "row", "pods", "row", "beat", "finished"]);
  expect(patches[3]!.pods).toEqual([{ name: "processor-a", workload: "processor", state: "ending", restarts: 0 }]);
  expect(patches[5]).toEqual({ timeMs: at(5), beat: "fault" });
});

test("the feed tells a line once and alerts when they change", () => {
  const patches: LivePatch[] = [];
  const source: FeedSource = { onRow: () => () => {}, onMark: () => () => {}, pods: () => [] };
  const feed = new LiveFeed({ update: (patch) => void patches.push(patch) }, source, () => at(5));
  const line = { timeMs: at(1), pod: "p", line: "x" };
  feed.lines([line]);
  feed.lines([line, { ...line, timeMs: at(2) }]);
  feed.lines([line]);
  for (const alerts of [
    [],
    [{ name: "A", state: "firing", severity: "s" }],
    [{ name: "A", state: "firing", severity: "s" }],
    [],
  ] as const)
    feed.alerts(alerts);
  expect(patches.map(({ linesAdded, alerts }) => linesAdded?.length ?? alerts?.length)).toEqual([1, 1, 0, 1, 0]);
  // Twice the same thing is enough, until the next drill.
  const complaint = (second: number) => ({ timeMs: at(second), pod: "p", line: `broker ${second} is away` });
  feed.lines([10, 11, 12, 13].map(complaint));
  feed.drillStarted(drill);
  feed.lines([complaint(14)]);
  expect(
    patches
      .flatMap(({ linesAdded }) => linesAdded ?? [])
      .map(({ line }) => line)
      .slice(2),
  ).toEqual(["broker 10 is away", "broker 11 is away", "broker 14 is away"]);
});

describe("troubles", () => {
  const FAST = { askMs: 1, againMs: 1, limitMs: 20 };
  test("a source that fails, or does not answer, is opened anew; each one is closed", async () => {
    const abort = new AbortController();
    const told: number[] = [];
    let [opened, closed] = [0, 0];
    await pollUntilAnswered<number>(
      async () => {
        opened += 1;
        const mine = opened;
        if (mine === 1) throw new Error("not there yet");
        return {
          ask: (signal) => {
            if (mine === 2) return Promise.reject(new Error("gone"));
            if (mine === 3)
              return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
            return Promise.resolve(mine);
          },
          close: async () => {
            closed += 1;
          },
        };
      },
      (answer) => {
        told.push(answer);
        if (told.length === 2) abort.abort();
      },
      abort.signal,
      FAST,
    );
    expect(told).toEqual([4, 4]);
    expect([opened, closed]).toEqual([4, 3]);
  });
  test("followers begin anew when the pods are others or when they ended, one at a time, and end with the run", async () => {
    const abort = new AbortController();
    let pods = "a";
    let [begun, running, most] = [0, 0, 0];
    const following = followAnew(
      async (signal) => {
        begun += 1;
        running += 1;
        most = Math.max(most, running);
        // The second one ends by itself, as a connection does that breaks.
        if (begun !== 2) await new Promise((resolve) => signal.addEventListener("abort", resolve));
        running -= 1;
        if (begun === 2) throw new Error("broken");
      },
      () => pods,
      abort.signal,
      { lookMs: 2, settledMs: 4 },
    );
    const until = (count: number) => eventually(`${count} to have begun`, () => begun >= count);
    await until(1);
    pods = "a,b";
    await until(3);
    await Bun.sleep(20);
    expect([begun, most]).toEqual([3, 1]);
    abort.abort();
    await following;
    expect(running).toBe(0);
  });
  test("where there is nothing to ask it ends", async () => {
    await pollUntilAnswered(
      async () => undefined,
      () => {},
      new AbortController().signal,
      FAST,
    );
  });
});

describe("server", () => {
  let folder = "";
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-live-test-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test("keeps every patch, in a file that can be played again", async () => {
    const recordPath = join(folder, "live.ndjson");
    const page = await startLivePage({ runId: "r", recordPath });
    page.update({ timeMs: at(1), drill });
    page.update({ timeMs: at(2), row: { lag_events: 7 } });
    await page.close();
    const replay = new Replay("r", await readPatches(recordPath));
    expect(replay.at(at(3)).rows).toEqual([{ timeMs: at(2), row: { lag_events: 7 } }]);
    expect(replay.at(at(3)).drill).toEqual(drill);
  });

  test("a file that cannot be written is told once, and nothing fails", async () => {
    const troubles: string[] = [];
    const page = await startLivePage({
      runId: "r",
      recordPath: join(folder, "no/such/folder/x"),
      onTrouble: (text) => troubles.push(text),
    });
    page.update({ timeMs: at(1), drill });
    await page.close();
    expect(troubles).toHaveLength(1);
    expect(troubles[0]).toContain("ENOENT");
  });

  test("answers only under this machine's own name, and only what it has", async () => {
    const page = await startLivePage({ runId: "r" });
    const status = async (path: string, headers = {}, method = "GET") =>
      (await fetch(new URL(path, page.url), { headers, method })).status;
    expect(page.url).toStartWith("http://127.0.0.1:");
    expect(await status("/")).toBe(200);
    expect(await status("/", { host: "evil.example" })).toBe(421);
    expect(await status("/report")).toBe(404);
    expect(await status("/", {}, "POST")).toBe(405);
    await page.close();
    expect(await status("/").catch(() => "refused")).toBe("refused");
  });
});
