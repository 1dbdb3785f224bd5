/** Goal: the sender's own words become an account by identity. Method: lines as it prints them, also cut ones. */
import { describe, expect, test } from "bun:test";
import { Partitioners } from "kafkajs";
import { leastMissing, missingFrom } from "../../../scripts/drills/environment.ts";
import { CONVEYORS, readLines, Waits } from "../../../scripts/drills/traffic.ts";

const said = [
  '{"started":"drill-x","t":1}',
  '{"attempt":["drill-0",0,9],"t":2}',
  '{"outcome":"ok","batch":["drill-0",0,9],"t":3}',
  '{"attempt":["drill-1",0,4],"t":4}',
  '{"again":5,"why":"503 the buffer is full","conveyor":"drill-1","t":5}',
  '{"outcome":"ok","batch":["drill-1",0,4],"t":6}',
  '{"attempt":["drill-0",10,19],"t":7}',
  '{"outcome":"unknown","batch":["drill-0",10,19],"why":"TimeoutError","t":8}',
  '{"done":{"offered":25,"acknowledged":15,"unknown":10,"again":5},"t":9}',
];

describe("readLines", () => {
  test("counts and lists what was attempted, acknowledged, uncertain and sent again", () => {
    const account = readLines("drill-x", said.join("\n"));
    expect(account).toMatchObject({ offered: 25, acknowledged: 15, unknown: 10, again: 5, done: true });
    expect(account.attempts).toHaveLength(3);
    expect(account.outcomes.map(({ conveyor, seq, last_seq, outcome }) => [conveyor, seq, last_seq, outcome])).toEqual([
      ["drill-0", 0, 9, "ok"],
      ["drill-1", 0, 4, "ok"],
      ["drill-0", 10, 19, "unknown"],
    ]);
  });

  test("knows that a record without its end is not the whole one, and skips what is no line of it", () => {
    const account = readLines("drill-x", ["error: something else", ...said.slice(0, 3), '{"attempt":["dri'].join("\n"));
    expect(account).toMatchObject({ acknowledged: 10, done: false });
  });
});

describe("Waits", () => {
  test("no wait falls between two looks, and none is told twice", () => {
    const waits = new Waits();
    waits.add(readLines("x", '{"attempt":["drill-0",0,9],"t":1000}\n{"attempt":["drill-1",0,9],"t":1100}'));
    expect(waits.take(1500)).toBe(500);
    waits.add(readLines("x", '{"outcome":"ok","batch":["drill-0",0,9],"t":1900}'));
    // Answered after 900 ms, between the looks; the other one still waits.
    expect(waits.take(1950)).toBe(900);
    expect(waits.take(1950)).toBe(850);
    waits.add(
      readLines("x", '{"outcome":"ok","batch":["drill-1",0,9],"t":1960}\n{"attempt":["drill-1",10,19],"t":2160}'),
    );
    expect(waits.take(2200)).toBe(860);
    expect(waits.take(2260)).toBe(100);
  });
});

test("the conveyors of a drill reach every partition", () => {
  const partition = Partitioners.DefaultPartitioner();
  const partitionMetadata = Array.from({ length: 6 }, (_, partitionId) => ({
    partitionId,
    leader: 0,
    partitionErrorCode: 0,
    replicas: [],
    isr: [],
  }));
  const reached = CONVEYORS.map((key) => partition({ topic: "t", partitionMetadata, message: { key, value: "" } }));
  expect(new Set(reached).size).toBe(6);
});

test("an acknowledged event that is not stored is missing, an uncertain one is not", () => {
  const account = readLines("drill-x", said.join("\n"));
  const all = new Map([
    ["drill-0", new Set(Array.from({ length: 10 }, (_, seq) => seq))],
    ["drill-1", new Set([0, 1, 2, 3, 4])],
  ]);
  expect(missingFrom(account, all)).toBe(0);
  all.get("drill-0")!.delete(7);
  all.delete("drill-1");
  expect(missingFrom(account, all)).toBe(6);
});

describe("leastMissing", () => {
  /** Looks that give these one after the other, the last again and again. */
  const looks = (...answers: (number | Error)[]) => {
    let index = 0;
    return async () => {
      const answer = answers[Math.min(index++, answers.length - 1)]!;
      if (answer instanceof Error) throw answer;
      return answer;
    };
  };
  const broken = new Error("socket hang up");

  test("a connection that breaks is no verdict: it is looked again", async () => {
    expect(await leastMissing(looks(broken, 3, 0), 60_000)).toBe(0);
  });

  test("what stays missing is told", async () => {
    expect(await leastMissing(looks(3), 0)).toBe(3);
  });

  test("when nothing was ever seen, nothing is claimed", async () => {
    expect(await leastMissing(looks(broken), 0).catch((error: unknown) => error)).toBe(broken);
  });
});
