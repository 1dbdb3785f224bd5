/** Ingest on a fake kubectl: the pod's stdin is a file, its log and its phase are prepared files. */
import { beforeEach, describe, expect, test } from "bun:test";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { IngestError, type IngestOutcomes, ingest } from "../../../scripts/ingest/ingest.ts";
import { readInput } from "../../../services/producer/sources.ts";
import { finalLine, type IngestResult } from "../../../services/protocol/final-document.ts";
import { INPUT_END_TOKEN } from "../../../services/protocol/input-end.ts";
import { FakeCluster, producerOn, publisherOn } from "../../services/fake-cluster.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { clusterOf } from "../cluster/fake-kubectl.ts";

/** Attach takes the whole input, or the number of bytes in the file "cut", after which it fails. */
const KUBECTL = `#!/bin/sh
folder=$(dirname "$0")
echo "$3 $4" >> "$folder/calls"
case "$*" in
  *" create "*) cat > "$folder/pod" ;;
  *" get pod "*) phase=Running
     if [ -e "$folder/attached" ]; then phase=Succeeded; fi
     if [ -e "$folder/attached" ] && [ -e "$folder/overdue" ]; then phase='Failed","reason":"DeadlineExceeded'; fi
     if [ -e "$folder/deleted" ]; then
       # The log of a real pod is followed long before its end.
       if [ -e "$folder/logged" ]; then exit 0; fi
       phase=Running
     fi
     printf '{"metadata":{"uid":"1"},"status":{"phase":"%s"}}' "$phase" ;;
  *" attach "*) if [ -e "$folder/cut" ]; then
       head -c $(cat "$folder/cut") > "$folder/stdin"; touch "$folder/attached"; echo "lost connection to pod" >&2; exit 1
     fi
     cat > "$folder/stdin"; touch "$folder/attached" ;;
  *" logs "*) while [ ! -e "$folder/attached" ]; do sleep 0.05; done; sed 's/^/2026-01-01T00:00:00.0Z /' "$folder/log"; touch "$folder/logged" ;;
esac
`;

const folder = temporaryFolder();
const cluster = clusterOf(folder, KUBECTL);

const result: IngestResult = {
  run: "r1",
  source: "stdin",
  read: 3,
  input_complete: true,
  acknowledged: 2,
  repeated: 0,
  dropped_from_ledger: 0,
  refused: 1,
  refused_by_reason: { malformed_json: 1 },
  failed: 0,
  duration_ms: 5,
};

const checkpoint = (number: number, ledger: object, final = false) =>
  `${JSON.stringify({ event: "ledger_checkpoint", run: "r1", number, dropped: 0, repeated: 0, final, ledger })}\n`;

/** The log of a pod that ends as it should; the last checkpoint follows the result. */
const logOf = (document: IngestResult, ...ledgers: object[]) =>
  `{"event":"input_done"}\n${finalLine("ingest", document)}${ledgers.map((ledger, index) => checkpoint(index + 1, ledger)).join("")}{"event":"stopped"}\n`;
const log = logOf(result, { r1: { "belt-1": [[0, 1]] } });

async function* chunks(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield new TextEncoder().encode(text);
}

/** Runs ingest while the pod's log is this. */
async function run(podLog: string, input: AsyncIterable<Uint8Array>) {
  await writeFile(join(folder, "log"), podLog);
  const lines: number[] = [];
  const found = await ingest(cluster, input, {
    image: "services:1",
    signal: new AbortController().signal,
    timeLimitMs: 7_200_000,
    onProgress: (sent) => lines.push(sent.lines),
  });
  return { result: found, lines };
}

const errorOf = (ingested: Promise<unknown>) =>
  ingested.then(
    () => undefined,
    (error: IngestError) => error,
  );

/** What a producer reads of the stream that the pod was sent, up to this number of bytes. */
async function readByProducer(bytes = Number.POSITIVE_INFINITY) {
  const pod = JSON.parse(await readFile(join(folder, "pod"), "utf8")) as {
    spec: { containers: { env: { name: string; value: string }[] }[] };
  };
  const endToken = pod.spec.containers[0]!.env.find(({ name }) => name === INPUT_END_TOKEN)!.value;
  const kafka = new FakeCluster(1);
  const producer = producerOn(kafka);
  producer.start();
  const publisher = publisherOn(producer);
  const stream = Bun.file(join(folder, "stdin")).slice(0, bytes).stream() as unknown as AsyncIterable<Uint8Array>;
  const { signal } = new AbortController();
  const read = await readInput(stream, { publisher, producer, source: "stdin", signal, endToken });
  await producer.flush();
  await producer.stop();
  return { ...read, refused: publisher.counts.refused };
}

beforeEach(async () => {
  for (const name of ["stdin", "attached", "cut", "overdue", "deleted", "logged"])
    await rm(join(folder, name), { force: true });
});

describe("ingest", () => {
  test("sends the input and its end line, returns the producer's outcomes, deletes the pod", async () => {
    const { result: found, lines } = await run(log, chunks('{"a":1}\n{"b"', ":2}\n\n \nlast"));
    expect(found).toEqual({ ...result, sent: 3, ledger: { "belt-1": [{ run: "r1", ranges: [[0, 1]] }] } });
    expect(lines).toEqual([1, 2, 3]);
    expect(await readFile(join(folder, "stdin"), "utf8")).toMatch(
      /^\{"a":1\}\n\{"b":2\}\n\n \nlast\n[0-9a-f]{32} 3\n$/,
    );
    expect((await readFile(join(folder, "calls"), "utf8")).trim().split("\n").at(-1)).toBe("delete pod");
  });

  test("counts lines as the producer does, and the producer reads the end line", async () => {
    await run(log, chunks('{"a":1}\r\n\n  \n', '{"b":2}\n', "x".repeat(40_000), "\n"));
    expect(await readByProducer()).toEqual({ lines: 3, announced: 3, isComplete: true, refused: 3 });
  });

  test("a stream that was cut anywhere is incomplete, and its cut line is not read", async () => {
    await run(log, chunks('{"a":1}\n{"b":2}\n{"c":3}'));
    const { size } = Bun.file(join(folder, "stdin"));
    for (const bytes of [0, 3, 8, 12, 22, 23, 24, 40, size - 2, size - 1]) {
      const read = await readByProducer(bytes);
      expect(read).toMatchObject({ isComplete: false, announced: undefined });
      expect(read.refused).toBe([8, 16, 24].filter((end) => end <= bytes).length);
    }
  });

  test("fails without a result, with the end of the log", async () => {
    await expect(run('{"event":"kafka_stalled"}\n', chunks("x\n"))).rejects.toMatchObject({
      message: "the ingest pod ended without a result (Succeeded)",
      cause: { message: '{"event":"kafka_stalled"}' },
    });
  });

  test("fails when events were not acknowledged, with the outcomes of all lines", async () => {
    const failed = { ...result, acknowledged: 1, failed: 1 };
    const error = await errorOf(run(logOf(failed, { r1: { "belt-1": [[0, 0]] } }), chunks("a\nb\nc\n")));
    expect(error!.message).toContain("1 events were not acknowledged (read 3 of 3 lines)");
    expect(error).toBeInstanceOf(IngestError);
    expect(error).toMatchObject({ exitCode: 1, document: { acknowledged: 1, failed: 1, sent: 3 } });
  });
});

test("the pod lives as long as --time-limit, and an input that takes longer fails with an error that names it", async () => {
  await run(log, chunks("a\nb\nc\n"));
  const pod = JSON.parse(await readFile(join(folder, "pod"), "utf8")) as { spec: { activeDeadlineSeconds: number } };
  expect(pod.spec.activeDeadlineSeconds).toBe(7500);
  await writeFile(join(folder, "overdue"), "");
  await rm(join(folder, "attached"));
  const limit = "--time-limit: the input must end within 120 min 00 s; the ingest pod was ended before";
  await expect(run('{"event":"running"}\n', chunks("x\n"))).rejects.toMatchObject({
    message: limit,
    hint: expect.stringContaining("longer"),
  });
  await rm(join(folder, "attached"));
  const cut = { ...result, read: 2, input_complete: false };
  const error = await errorOf(run(logOf(cut), chunks("a\nb\nc\n")));
  expect(error).toBeInstanceOf(IngestError);
  expect(error).toMatchObject({ message: limit, document: { read: 2, sent: 3 } });
});

describe("an input that was cut never succeeds", () => {
  test("when the pod is deleted, as by a drain: at once, with what is known and the next step", async () => {
    await writeFile(join(folder, "deleted"), "");
    const cut = await errorOf(run(logOf({ ...result, input_complete: false }), chunks("a\nb\nc\n")));
    expect(cut).toMatchObject({
      document: { acknowledged: 2 },
      hint: expect.stringContaining("send the same file again"),
    });
    for (const name of ["attached", "logged"]) await rm(join(folder, name));
    expect(await errorOf(run('{"event":"running"}\n', chunks("x\n")))).toMatchObject({
      message: "the ingest pod was deleted",
      hint: expect.stringContaining("send the same file again"),
    });
  });

  test("when the producer read fewer lines than were sent", async () => {
    const error = await errorOf(run(log, chunks("a\nb\nc\nd\n")));
    expect(error).toMatchObject({ exitCode: 1, message: "ingest: the input was cut: 3 of 4 lines sent were read" });
  });

  test("when the producer did not read the end line", async () => {
    const error = await errorOf(run(logOf({ ...result, input_complete: false }), chunks("a\nb\nc\n")));
    expect(error?.message).toBe("ingest: the input was cut: 3 of 3 lines sent were read");
  });

  test("when attach ends early: the rest is not read from the source, and the error names its exit code", async () => {
    await writeFile(join(folder, "cut"), "10");
    let taken = 0;
    async function* endless() {
      for (; ; taken++) yield new TextEncoder().encode(`${"x".repeat(65_535)}\n`);
    }
    const error = await errorOf(run(logOf({ ...result, input_complete: false }), endless()));
    expect(error).toMatchObject({
      exitCode: 1,
      message: expect.stringContaining("the rest of the input was not sent"),
      cause: { message: "kubectl attach: exit 1 lost connection to pod" },
    });
    expect(taken).toBeLessThan(1000);
  });

  test("when attach ends while the source is silent", async () => {
    await writeFile(join(folder, "cut"), "2");
    async function* silent() {
      yield new TextEncoder().encode("a\n");
      await new Promise(() => {});
    }
    const error = await errorOf(run(logOf({ ...result, read: 1, input_complete: false }), silent()));
    expect(error?.message).toBe(
      "ingest: the input was cut: 1 of 1 lines sent were read; the rest of the input was not sent",
    );
  });
});

describe("the ledger of an ingest", () => {
  const outcomesOf = async (podLog: string): Promise<IngestOutcomes> => (await run(podLog, chunks("a\nb\nc\n"))).result;

  test("is gathered from all checkpoints, of any number, after the result too", async () => {
    const conveyors = Array.from({ length: 60 }, (_, index) => `belt-${index}`);
    const acknowledged = 60 * 1000;
    const ledgers = Array.from({ length: 300 }, (_, part) => ({
      gaps: {
        [conveyors[part % 60]!]: Array.from({ length: 200 }, (_, at) => 2 * (200 * Math.floor(part / 60) + at)).map(
          (seq) => [seq, seq],
        ),
      },
    }));
    const found = await outcomesOf(logOf({ ...result, acknowledged, refused: 0, refused_by_reason: {} }, ...ledgers));
    expect(found.dropped_from_ledger).toBe(0);
    expect(Object.keys(found.ledger)).toHaveLength(60);
    expect(found.ledger["belt-59"]![0]).toMatchObject({ run: "gaps" });
    expect(found.ledger["belt-59"]![0]!.ranges).toHaveLength(1000);
  });

  test("says how many acknowledged events it does not list", async () => {
    const cut = { ...result, acknowledged: 20, repeated: 3, dropped_from_ledger: 15 };
    const found = await outcomesOf(logOf(cut, { r1: { "belt-1": [[8, 9]] } }));
    expect(found).toMatchObject({ dropped_from_ledger: 15, ledger: { "belt-1": [{ ranges: [[8, 9]] }] } });
    // A checkpoint that is missing in the log counts too.
    expect(await outcomesOf(logOf({ ...cut, dropped_from_ledger: 0 }))).toMatchObject({ dropped_from_ledger: 17 });
  });
});
