/** The ingest command as a process: exit code and --json document, on a fake kubectl where it needs a cluster. */
import { describe, expect, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { readInput } from "../../scripts/ingest/input.ts";
import { parseAnyEventAt } from "../../services/domain/any-event.ts";
import { csvSettings } from "../../services/domain/formats/csv-settings.ts";
import { checkGenericEvent } from "../../services/domain/generic-event.ts";
import { parseLine } from "../../services/domain/line-protocol.ts";
import { finalLine } from "../../services/protocol/final-document.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const ROOT = join(import.meta.dir, "../..");
const folder = temporaryFolder();

const KUBECTL = `#!/bin/sh
folder=$(dirname "$0")
case "$*" in
  *" version "*) echo '{"serverVersion":{"gitVersion":"v1.34.0"}}' ;;
  *" get deployment processor "*) echo '{"spec":{"template":{"spec":{"containers":[{"image":"services:1"}]}}}}' ;;
  *" get pod "*) if [ -e "$folder/attached" ]; then phase=Succeeded; else phase=Running; fi
     printf '{"metadata":{"uid":"1"},"status":{"phase":"%s"}}' $phase ;;
  *" attach "*) cat > "$folder/stdin"; touch "$folder/attached" ;;
  *" logs "*) while [ ! -e "$folder/attached" ]; do sleep 0.05; done; sed 's/^/2026-01-01T00:00:00.0Z /' "$folder/log" ;;
  *" get configmap "*) ;;
  *config*) echo test ;;
esac
`;
writeFileSync(join(folder, "kubectl"), KUBECTL, { mode: 0o755 });

async function command(input: string, ...args: string[]) {
  const child = Bun.spawn([process.execPath, "scripts/ingest.ts", "-", "--json", ...args], {
    cwd: ROOT,
    env: {
      ...process.env,
      PATH: `${folder}${delimiter}${process.env.PATH}`,
      CONVEYOR_CONTEXT: "",
      XDG_STATE_HOME: folder,
    },
    stdin: new Blob([input]),
    stdout: "pipe",
    stderr: "ignore",
  });
  const text = await new Response(child.stdout).text();
  return { exitCode: await child.exited, document: JSON.parse(text) as Record<string, unknown> };
}

describe("scripts/ingest.ts", () => {
  test("refuses what it cannot read with exit 2, without a cluster", async () => {
    expect(await command("time,run,seq\n1764489600,r1,0\n", "--context", "no-such-context")).toEqual({
      exitCode: 2,
      document: {
        error: "CSV: measurement: must be given: nothing was sent",
        hint: "its columns: time, run, seq",
        exit_code: 2,
      },
    });
  });

  test("sends the rows of a table by its mapping file, a flag over it", async () => {
    const mapping = join(folder, "pump.yaml");
    writeFileSync(
      mapping,
      "measurement: pump\nsource: pump-1\ntime: {column: Zeit, zone: Europe/Berlin}\ndecimal: comma\n",
    );
    const result = {
      run: "r9",
      source: "stdin" as const,
      read: 1,
      input_complete: true,
      acknowledged: 1,
      repeated: 0,
      dropped_from_ledger: 0,
      refused: 0,
      refused_by_reason: {},
      failed: 0,
      duration_ms: 5,
    };
    writeFileSync(join(folder, "log"), finalLine("ingest", result));
    rmSync(join(folder, "attached"), { force: true });
    const args = ["--context", "test", "--run", "r9", "--mapping", mapping, "--source", "pump-7"];
    const { exitCode } = await command("Zeit;flow\n2026-03-01 11:34:32;1,5\n", ...args);
    expect(exitCode).toBe(0);
    const [row] = readFileSync(join(folder, "stdin"), "utf8").split("\n");
    expect(row).toBe(
      '{"v":2,"measurement":"pump","source":"pump-7","run":"r9","seq":0,"time":1772361272000,"precision":"ms","tags":{},"fields":{"flow":1.5}}',
    );
  });

  test("refuses the flags of a table for another format", async () => {
    const { exitCode, document } = await command('{"v":1}\n', "--context", "no-such-context", "--measurement", "pump");
    expect({ exitCode, error: document.error }).toEqual({
      exitCode: 2,
      error: "--measurement is for CSV, and the input is ndjson: nothing was sent",
    });
  });

  test.each(["v1", "v2", "csv", "line"])("--example %s prints what the checks of events take", async (kind) => {
    const child = Bun.spawnSync([process.execPath, "scripts/ingest.ts", "--example", kind], { cwd: ROOT });
    const text = child.stdout.toString();
    const csv = csvSettings({ measurement: "pump", tag: ["site"] });
    const open = async function* () {
      yield Buffer.from(text);
    };
    const { lines } = await readInput(open, true, { csv, precision: "ns", signal: new AbortController().signal });
    const sent = Buffer.concat(await Array.fromAsync(lines))
      .toString()
      .trimEnd();
    if (kind === "v1") expect(parseAnyEventAt(Date.now(), Buffer.from(sent))).toMatchObject({ event: { v: 1 } });
    else if (kind === "line") expect(parseLine(sent, "ns", 0)).toMatchObject({ point: { measurement: "pump" } });
    else expect(checkGenericEvent(JSON.parse(sent))).toMatchObject({ event: { source: "pump-7" } });
  });

  test("an input of which nothing was acknowledged is exit 1, with the outcomes in the document", async () => {
    const result = {
      run: "r1",
      source: "stdin" as const,
      read: 2,
      input_complete: true,
      acknowledged: 0,
      repeated: 0,
      dropped_from_ledger: 0,
      refused: 2,
      refused_by_reason: { malformed_json: 2 },
      failed: 0,
      duration_ms: 5,
    };
    writeFileSync(join(folder, "log"), finalLine("ingest", result));
    rmSync(join(folder, "attached"), { force: true });
    expect(await command("no event\nno event\n", "--context", "test")).toEqual({
      exitCode: 1,
      document: {
        ...result,
        sent: 2,
        ledger: {},
        error: "no line was acknowledged: every line was refused",
        hint: expect.stringContaining("dead-letters.ts list"),
        exit_code: 1,
      },
    });
  });
});
