/** Kafka's log read through `kubectl exec`, on a fake kubectl: streams that break off. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readLog } from "../../../scripts/audit/cluster-sources.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { clusterOf } from "../cluster/fake-kubectl.ts";

const REQUEST = { brokers: ["kafka:9092"], tls: { ca: "ca", cert: "cert", key: "key" } };
const NAMES = `["run",0,"r1"]\\n["conveyor",0,"c1"]`;
const event = (partition: number, offset: number) =>
  JSON.stringify([partition, offset, 0, 0, offset, 1000 + offset, "hash", 7]);
const EVENTS = [event(0, 0), event(1, 0), event(0, 1), event(1, 1)];
const END = { records: 4, listed: 4, unreadable: 0, unreadable_batches: [], other_runs: {}, from: [], to: [] };
const print = (...lines: string[]) => `printf '${[NAMES, ...lines].join("\\n")}'`;
const WHOLE = print(...EVENTS, JSON.stringify(["end", END]), "");
/** Breaks off in the middle of the fourth event. */
const BROKEN = print(...EVENTS.slice(0, 3), "[1,1");

const root = temporaryFolder();

/** @param commands the shell command that replaces each read; then reads are complete */
async function readFrom(...commands: string[]) {
  const folder = mkdtempSync(join(root, "kubectl-"));
  const reads = join(folder, "reads");
  const cases = [...commands, WHOLE].map((command, index) => `${index + 1}) ${command} ;;`);
  const program = [
    "#!/bin/sh",
    "cat > /dev/null",
    `echo read >> ${reads}`,
    `case $(wc -l < ${reads}) in`,
    ...cases,
    "esac",
  ];
  const visited: string[] = [];
  const read = readLog(
    clusterOf(folder, program.join("\n")),
    { podFor: async () => "probe-admin-1" },
    REQUEST,
    ({ partition, offset }) => void visited.push(`${partition}:${offset}`),
    new AbortController().signal,
  );
  const result = await read.then(
    (end) => ({ end }),
    (error: Error) => ({ error: error.message }),
  );
  return { ...result, visited, reads: readFileSync(reads, "utf8").trim().split("\n").length };
}

describe("the log of Kafka through kubectl", () => {
  test.each([
    ["fails", "echo 'error: read: connection reset by peer' >&2; exit 1"],
    ["ends without an error", "exit 0"],
  ])("is read again when the stream %s, and each event is visited once", async (_, end) => {
    expect(await readFrom(`${BROKEN}; ${end}`)).toEqual({ end: END, visited: ["0:0", "1:0", "0:1", "1:1"], reads: 2 });
  });

  test("is not read again without a limit: the third break is the audit's error", async () => {
    const fails = `${BROKEN}; echo 'error: stream closed' >&2; exit 1`;
    expect(await readFrom(fails, fails, fails)).toMatchObject({
      error: expect.stringContaining("error: stream closed"),
      reads: 3,
    });
  });

  test("is not read again when the reader could not read Kafka, or the image has no reader", async () => {
    expect(await readFrom(`${print('["error","no leader for partition 0"]', "")}; exit 1`)).toMatchObject({
      error: "Kafka's log cannot be read: no leader for partition 0",
      reads: 1,
    });
    expect(await readFrom("exit 64")).toEqual({ end: undefined, visited: [], reads: 1 });
  });
});
