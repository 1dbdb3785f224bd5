/** Ingest on a fake kubectl: the pod's stdin is a file, its log and its phase are prepared files. */
import { describe, expect, test } from "bun:test";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ingest } from "../../../scripts/ingest/ingest.ts";
import { finalLine, type IngestResult } from "../../../services/protocol/final-document.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { clusterOf } from "../cluster/fake-kubectl.ts";

const KUBECTL = `#!/bin/sh
folder=$(dirname "$0")
echo "$3 $4" >> "$folder/calls"
case "$*" in
  *" create "*) cat > "$folder/pod" ;;
  *" get pod "*) if [ -e "$folder/stdin" ]; then phase=Succeeded; else phase=Running; fi
     printf '{"metadata":{"uid":"1"},"status":{"phase":"%s"}}' $phase ;;
  *" attach "*) cat > "$folder/stdin" ;;
  *" logs "*) cat "$folder/log" ;;
esac
`;

const folder = temporaryFolder();
const cluster = clusterOf(folder, KUBECTL);

const result: IngestResult = {
  run: "r1",
  source: "stdin",
  read: 3,
  acknowledged: 2,
  refused: 1,
  refused_by_reason: { malformed_json: 1 },
  failed: 0,
  duration_ms: 5,
  ledger: { "belt-1": [{ run: "r1", ranges: [[0, 1]] }] },
};

async function* chunks(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield new TextEncoder().encode(text);
}

/** Runs ingest while the pod's log is this. */
async function run(log: string, ...input: string[]): Promise<{ result: IngestResult; lines: number[] }> {
  await rm(join(folder, "stdin"), { force: true });
  await writeFile(join(folder, "log"), log);
  const lines: number[] = [];
  const found = await ingest(cluster, chunks(...input), {
    image: "services:1",
    signal: new AbortController().signal,
    onProgress: (sent) => lines.push(sent.lines),
  });
  return { result: found, lines };
}

describe("ingest", () => {
  test("sends the input unchanged, returns the producer's result, deletes the pod", async () => {
    const log = `{"event":"input_done"}\n${finalLine("ingest", result)}{"event":"stopped"}\n`;
    const { result: found, lines } = await run(log, '{"a":1}\n{"b"', ":2}\nlast");
    expect(found).toEqual(result);
    expect(lines).toEqual([2, 3]);
    expect(await readFile(join(folder, "stdin"), "utf8")).toBe('{"a":1}\n{"b":2}\nlast');
    expect((await readFile(join(folder, "calls"), "utf8")).trim().split("\n").at(-1)).toBe("delete pod");
  });

  test("fails without a result, with the end of the log", async () => {
    await expect(run('{"event":"kafka_stalled"}\n', "x\n")).rejects.toMatchObject({
      message: "the ingest pod ended without a result (Succeeded)",
      cause: { message: '{"event":"kafka_stalled"}' },
    });
  });

  test("fails when events were not acknowledged", async () => {
    const failed = { ...result, acknowledged: 1, failed: 1 };
    await expect(run(finalLine("ingest", failed), "a\nb\nc\n")).rejects.toThrow(
      "1 events were not acknowledged (read 3 of 3 lines)",
    );
  });
});
