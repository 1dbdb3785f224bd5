/** A producer process whose stdin was cut: without Kafka, since no complete line arrives. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { readFinal } from "../../services/protocol/final-document.ts";
import { INPUT_END_TOKEN, inputEndLine } from "../../services/protocol/input-end.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { testCertificate } from "./certificate.ts";

const folder = temporaryFolder();
const TOKEN = "0123abcd";

async function produce(input: string) {
  const files = Object.entries(await testCertificate()).map(([name, text]) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return [`KAFKA_TLS_${name.toUpperCase()}`, path];
  });
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "../../services/producer.ts")], {
    env: {
      PATH: process.env.PATH,
      SOURCE: "stdin",
      POD_NAME: "ingest-1",
      KAFKA_BROKERS: "127.0.0.1:1",
      [INPUT_END_TOKEN]: TOKEN,
      ...Object.fromEntries(files),
    },
    stdin: new Blob([input]),
    stdout: "pipe",
    stderr: "inherit",
  });
  const log = await new Response(child.stdout).text();
  return { exitCode: await child.exited, log, result: readFinal(log, "ingest") };
}

describe("a producer with INPUT_END_TOKEN", () => {
  test("ends with 0 when the end line announces what was read", async () => {
    const { exitCode, log, result } = await produce(`\n${inputEndLine(TOKEN, 0)}`);
    expect(result).toMatchObject({ read: 0, input_complete: true, failed: 0 });
    expect(log).not.toContain("input_cut");
    expect(exitCode).toBe(0);
  });

  test.each([
    ["in a line", '{"v":1,"conveyor":'],
    ["before the end line", "\n"],
    ["in the end line", `\n${TOKEN} 0`],
    ["before lines that the end line announces", inputEndLine(TOKEN, 7)],
  ])("ends with 1 when its input was cut %s, without a dead letter", async (_, input) => {
    const { exitCode, log, result } = await produce(input);
    expect(result).toMatchObject({ read: 0, input_complete: false, refused: 0, failed: 0 });
    expect(log).toContain('"event":"input_cut"');
    expect(exitCode).toBe(1);
  });
});
