/** Goal: the live page shows its record, the record can be replayed, and the page only connects to its own server. */
import { describe, expect, test } from "bun:test";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { alertAppender, followPresentPods, lineAppender, poll } from "../../../scripts/live/alert-log-feed.ts";
import { startLivePage } from "../../../scripts/live/live-page.ts";
import { applyEntry, emptyState } from "../../../scripts/live/live-state.ts";
import { liveSections } from "../../../scripts/live/live-view.ts";
import { entriesOfResult, Replay } from "../../../scripts/live/replay.ts";
import { type RecordEntry, RunRecord, readRecord } from "../../../scripts/recording/run-record.ts";
import { eventually } from "../../eventually.ts";
import { START_MS, syntheticDrill, syntheticDrills } from "../report/synthetic.ts";

const at = (second: number) => START_MS + second * 1000;
const drill = { name: "d", title: "Synthetic drill", hypothesis: "h", fault: "f", repeat: 1, number: 1, count: 2 };
const textOf = (html: string) => html.replaceAll(/<[^>]*>/g, " ").replaceAll(/\s+/g, " ");

describe("state", () => {
  test("a drill starts without the phases, counts and marks of the one before", () => {
    const state = emptyState("r", START_MS);
    applyEntry(state, { timeMs: at(1), drill, ledger: { lost: 0 } });
    applyEntry(state, { timeMs: at(2), beat: "fault" });
    applyEntry(state, {
      timeMs: at(2),
      marksAdded: [{ timeMs: at(2), kind: "fault", subject: "x", text: "of the first" }],
    });
    expect(state.phases.map(({ name }) => name)).toEqual(["before", "fault"]);
    applyEntry(state, { timeMs: at(9), drill: { ...drill, number: 2, name: "e" } });
    expect(state.phases).toEqual([{ name: "before", startedAtMs: at(9) }]);
    expect(state.ledger).toEqual({});
    expect(textOf(liveSections(state).timeline)).not.toContain("of the first");
  });
  test("a run that waits shows when its next drill starts, until it does", () => {
    const state = emptyState("r", START_MS);
    const headline = () =>
      Object.values(liveSections(state))
        .map((section) => textOf(String(section)))
        .join(" ");
    applyEntry(state, { timeMs: at(1), drill });
    applyEntry(state, { timeMs: at(60), waiting: { number: 2, count: 24, dueMs: at(300) } });
    expect(headline()).toContain("Drill 2 of 24 starts at 10:05:00");
    applyEntry(state, { timeMs: at(300), drill: { ...drill, number: 2, count: 24 } });
    expect(headline()).toContain("Drill 2 of 24 · run");
    expect(headline()).not.toContain("starts at");
  });
  test("lists are bounded in a long run", () => {
    const state = emptyState("r", START_MS);
    for (let second = 0; second < 5000; second++)
      applyEntry(state, { timeMs: at(second), row: { lag_events: second } });
    expect(state.rows.length).toBeLessThanOrEqual(1200);
    expect(state.rows.at(-1)!.row.lag_events).toBe(4999);
  });
  test("a missing value is shown as not measured, not as zero", () => {
    const state = emptyState("r", START_MS);
    applyEntry(state, { timeMs: at(1), row: { lag_events: null, freshness_seconds: 0 } });
    const text = textOf(liveSections(state).numbers);
    expect(text).toContain("lag – not measured");
    expect(text).toContain("newest stored event 0 s old");
  });
  test("values of pods, alerts and logs are escaped", () => {
    const state = emptyState("r", START_MS);
    const evil = "<img src=x onerror=alert(1)>";
    applyEntry(state, {
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
  const entries = entriesOfResult(result);
  test("each moment has the entries up to then, also when going back", () => {
    const replay = new Replay("r", entries);
    const kinds = (second: number) => replay.at(at(second)).marks.map(({ kind }) => kind);
    expect(kinds(19)).toEqual([]);
    expect(kinds(20.5)).toEqual(["fault", "effect"]);
    expect(replay.at(at(32)).commands).toHaveLength(2);
    expect(replay.at(at(32)).finished).toEqual([]);
    expect(replay.at(at(80)).finished.map(({ verdict }) => verdict)).toEqual(["passed"]);
    expect(kinds(19)).toEqual([]);
  });
});

/** A record and what was appended to it. */
function recorded(): { record: RunRecord; entries: RecordEntry[] } {
  const record = new RunRecord();
  const entries: RecordEntry[] = [];
  record.onEntry((entry) => entries.push(entry));
  return { record, entries };
}

test("alertAppender appends alerts when they have changed", () => {
  const { record, entries } = recorded();
  const append = alertAppender(record);
  const firing = [{ name: "A", state: "firing", severity: "s" }] as const;
  for (const alerts of [[], firing, firing, []] as const) append(alerts);
  expect(entries.map(({ alerts }) => alerts?.length)).toEqual([0, 1, 0]);
});

describe("lineAppender", () => {
  test("appends a line once", () => {
    const { record, entries } = recorded();
    const append = lineAppender(record);
    const line = { timeMs: at(1), pod: "p", line: "x" };
    append([line]);
    append([line, { ...line, timeMs: at(2) }]);
    append([line]);
    expect(entries.map(({ linesAdded }) => linesAdded?.length)).toEqual([1, 1]);
  });

  test("appends two lines that differ only in their numbers, and again for the next drill", () => {
    const { record, entries } = recorded();
    const append = lineAppender(record);
    const line = (second: number) => ({ timeMs: at(second), pod: "p", line: `broker ${second} is down` });
    append([10, 11, 12, 13].map(line));
    record.append({ timeMs: at(14), drill });
    append([line(14)]);
    expect(entries.flatMap(({ linesAdded = [] }) => linesAdded).map(({ line: text }) => text)).toEqual([
      "broker 10 is down",
      "broker 11 is down",
      "broker 14 is down",
    ]);
  });
});

describe("poll", () => {
  const FAST = { pollMs: 1, retryMs: 1, limitMs: 20 };
  test("opens a source again that fails or does not answer, and closes each one", async () => {
    const abort = new AbortController();
    const answers: number[] = [];
    let [opened, closed] = [0, 0];
    await poll<number>(
      async () => {
        opened += 1;
        const mine = opened;
        if (mine === 1) throw new Error("not there yet");
        return {
          query: (signal) => {
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
        answers.push(answer);
        if (answers.length === 2) abort.abort();
      },
      abort.signal,
      FAST,
    );
    expect(answers).toEqual([4, 4]);
    expect([opened, closed]).toEqual([4, 3]);
  });
  test("followPresentPods restarts the follower when the pods change or it ends, one at a time, until the signal", async () => {
    const abort = new AbortController();
    let pods = "a";
    let [begun, running, most] = [0, 0, 0];
    const following = followPresentPods(
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
      { pollMs: 2, settledMs: 4 },
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
  test("ends without a source", async () => {
    await poll(
      async () => undefined,
      () => {},
      new AbortController().signal,
      FAST,
    );
  });
});

describe("server", () => {
  test("shows the entries of its record, which can be replayed from the file", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "conveyor-live-test-"));
    const recordPath = join(folder.path, "live.ndjson");
    const record = new RunRecord(recordPath);
    const page = await startLivePage({ runId: "r", record });
    record.append({ timeMs: at(1), drill });
    record.append({ timeMs: at(2), row: { lag_events: 7 } });
    await record.close();
    await page.close();
    expect(page.state.rows).toEqual([{ timeMs: at(2), row: { lag_events: 7 } }]);
    const replay = new Replay("r", await readRecord(recordPath));
    expect(replay.at(at(3)).rows).toEqual([{ timeMs: at(2), row: { lag_events: 7 } }]);
    expect(replay.at(at(3)).drill).toEqual(drill);
  });

  test("answers only requests for its own host, path and method", async () => {
    const page = await startLivePage({ runId: "r", record: new RunRecord() });
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
