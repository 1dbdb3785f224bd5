/** Goal: the sender's lines become a ledger by identity. Method: lines as the load generator prints them. */
import { describe, expect, test } from "bun:test";
import { Partitioners } from "kafkajs";
import { leastMissing, missingFrom } from "../../../scripts/drills/environment.ts";
import { CONVEYORS, SenderTally } from "../../../scripts/drills/traffic.ts";
import { parseGeneratorLine } from "../../../services/protocol/load-generator.ts";

const LINES = [
  '{"timestamp":"2026-11-25T00:00:00Z","event":"loading"}',
  '{"attempt":["drill-0",0,9],"t":2}',
  '{"outcome":"ok","batch":["drill-0",0,9],"t":3}',
  '{"attempt":["drill-1",0,4],"t":4}',
  '{"again":5,"why":"503 the buffer is full","conveyor":"drill-1","t":5}',
  '{"outcome":"ok","batch":["drill-1",0,4],"t":6}',
  '{"attempt":["drill-0",10,19],"t":7}',
  '{"outcome":"unknown","batch":["drill-0",10,19],"why":"TimeoutError","t":8}',
  '{"done":{"offered":25,"acknowledged":15,"unknown":10,"again":5},"t":9}',
];

function tallyOf(...lines: string[]): SenderTally {
  const tally = new SenderTally("drill-x");
  for (const line of lines.flatMap((text) => parseGeneratorLine(text) ?? [])) tally.add(line);
  return tally;
}

describe("SenderTally", () => {
  test("counts and lists attempted, acknowledged, uncertain and repeated events", () => {
    const { ledger, isComplete } = tallyOf(...LINES);
    expect(ledger).toMatchObject({ offered: 25, acknowledged: 15, unknown: 10, again: 5 });
    expect(isComplete).toBe(true);
    expect(ledger.attempts).toHaveLength(3);
    expect(ledger.outcomes.map(({ conveyor, seq, last_seq, outcome }) => [conveyor, seq, last_seq, outcome])).toEqual([
      ["drill-0", 0, 9, "ok"],
      ["drill-1", 0, 4, "ok"],
      ["drill-0", 10, 19, "unknown"],
    ]);
  });

  test("is incomplete without the last line, and skips other and truncated lines", () => {
    const tally = tallyOf("error: something else", ...LINES.slice(0, 3), '{"attempt":["dri');
    expect(tally.ledger).toMatchObject({ offered: 10, acknowledged: 10 });
    expect(tally.isComplete).toBe(false);
  });

  test("waitedMs returns each wait once, also one that began and ended between two calls", () => {
    const tally = tallyOf('{"attempt":["drill-0",0,9],"t":1000}', '{"attempt":["drill-1",0,9],"t":1100}');
    expect(tally.waitedMs()).toBe(100);
    tally.add({ outcome: "ok", batch: ["drill-0", 0, 9], t: 1900 });
    // Answered after 900 ms, between the calls; the other batch is outstanding.
    expect(tally.waitedMs()).toBe(900);
    expect(tally.waitedMs()).toBe(800);
    tally.add({ outcome: "ok", batch: ["drill-1", 0, 9], t: 1960 });
    tally.add({ attempt: ["drill-1", 10, 19], t: 2160 });
    expect(tally.waitedMs()).toBe(860);
    expect(tally.waitedMs()).toBe(0);
    tally.add({ attempt: ["drill-0", 10, 19], t: 2260 });
    // A log that arrives late is no wait: the sender's clock counts.
    expect(tally.waitedMs()).toBe(100);
  });
});

test("the conveyors of a drill cover every partition", () => {
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

test("missingFrom counts acknowledged events that are not stored, not uncertain ones", () => {
  const { ledger } = tallyOf(...LINES);
  const all = new Map([
    ["drill-0", new Set(Array.from({ length: 10 }, (_, seq) => seq))],
    ["drill-1", new Set([0, 1, 2, 3, 4])],
  ]);
  expect(missingFrom(ledger, all)).toBe(0);
  all.get("drill-0")!.delete(7);
  all.delete("drill-1");
  expect(missingFrom(ledger, all)).toBe(6);
});

describe("leastMissing", () => {
  /** A query with these results in turn; the last one repeats. */
  const queries = (...answers: (number | Error)[]) => {
    let index = 0;
    return async () => {
      const answer = answers[Math.min(index++, answers.length - 1)]!;
      if (answer instanceof Error) throw answer;
      return answer;
    };
  };
  const broken = new Error("socket hang up");

  test("repeats a failed query", async () => {
    expect(await leastMissing(queries(broken, 3, 0), 60_000)).toBe(0);
  });

  test("returns the last result at the limit", async () => {
    expect(await leastMissing(queries(3), 0)).toBe(3);
  });

  test("throws the last error when no query succeeded", async () => {
    expect(await leastMissing(queries(broken), 0).catch((error: unknown) => error)).toBe(broken);
  });
});
