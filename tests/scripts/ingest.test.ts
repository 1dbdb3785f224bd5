/** The ingest command as a process: exit code and --json document, on a fake kubectl where it needs a cluster. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
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
  test("refuses another format with exit 2, without a cluster", async () => {
    expect(await command("conveyor,run,seq\nbelt-1,r1,0\n", "--context", "no-such-context")).toEqual({
      exitCode: 2,
      document: {
        error: "the input is CSV, not NDJSON: nothing was sent",
        hint: expect.stringContaining("mlr --icsv --ojsonl cat FILE | bun scripts/ingest.ts -"),
        exit_code: 2,
      },
    });
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
