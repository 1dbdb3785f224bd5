/**
 * Goal: whoever listens knows what a producer said of its ledger also when its pod is gone. Method: the watch on a stand-in
 * for kubectl whose pods are files: a log is followed while its pod is there, and nobody can read it afterwards.
 */
import { expect, test } from "bun:test";
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { livesOf } from "../../../scripts/audit/checkpoints.ts";
import { Cluster } from "../../../scripts/cluster/cluster.ts";
import { watchCheckpoints } from "../../cluster/checkpoint-watch.ts";
import { eventually } from "../../eventually.ts";

/** A pod is a file NAME.log in the folder; a followed log ends when its file is gone. */
const KUBECTL = `
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
const args = process.argv.slice(4);
if (args[0] === "get") {
  const names = (await readdir(import.meta.dir)).filter((name) => name.endsWith(".log"));
  const items = names.map((name) => ({
    metadata: { name: "producer-0", uid: name },
    status: { containerStatuses: [{ restartCount: 0, state: { running: {} } }] },
  }));
  console.log(JSON.stringify({ items }));
} else {
  const [name] = (await readdir(import.meta.dir)).filter((name) => name.endsWith(".log"));
  let said = 0;
  while (existsSync(import.meta.dir + "/" + name)) {
    const text = await readFile(import.meta.dir + "/" + name, "utf8").catch(() => "");
    if (text.length > said) process.stdout.write(text.slice(said));
    said = Math.max(said, text.length);
    await Bun.sleep(5);
  }
}
`;

const line = (run: string, number: number, final = false) =>
  `${JSON.stringify({ event: "ledger_checkpoint", run, number, dropped: 0, repeated: 0, final, ledger: { [run]: { belt: [[number - 1, number - 1]] } } })}\n`;

test("a deleted producer's lines are known, from its first to its last word, and its successor's too", async () => {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-watch-"));
  try {
    await writeFile(join(folder, "kubectl.ts"), KUBECTL);
    const program = join(folder, "kubectl");
    await writeFile(program, `#!/bin/sh\nexec ${process.execPath} ${join(folder, "kubectl.ts")} "$@"\n`, {
      mode: 0o755,
    });
    const log = (life: string) => join(folder, `${life}.log`);
    // Said before anybody listened: the beginning of the log is read too.
    await writeFile(log("first"), `{"event":"started"}\n${line("first", 1)}`);
    const watch = watchCheckpoints(new Cluster({ context: "test", isLocal: false }, program));
    try {
      const heard = (run: string) => watch.lines.filter((said) => said.run === run).length;
      await eventually("its first line", () => heard("first") === 1);
      await appendFile(log("first"), line("first", 2, true));
      await eventually("its last word", () => heard("first") === 2);
      await rm(log("first"));
      await writeFile(log("second"), line("second", 1));
      await eventually("the next producer's line", () => heard("second") === 1);
    } finally {
      await watch.close();
    }
    expect(livesOf(watch.lines)).toMatchObject([
      { run: "first", isComplete: true, ledger: new Map([["first", new Map([["belt", [[0, 1]]]])]]) },
      { run: "second", isComplete: false, gap: "it did not say its last word" },
    ]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 60_000);

test("docs/audit.md names every program that listens", async () => {
  const root = join(import.meta.dir, "../../..");
  const page = await readFile(join(root, "docs/audit.md"), "utf8");
  const listeners: string[] = [];
  for (const pattern of ["scripts/**/*.ts", "tests/cluster/*.ts"]) {
    for await (const path of new Bun.Glob(pattern).scan(root)) {
      const text = await readFile(join(root, path), "utf8");
      if (/import \{[^}]*\bwatchCheckpoints\b/.test(text)) listeners.push(path);
    }
  }
  // "No command listens: … is the one that does".
  expect(listeners).toEqual(["tests/cluster/audit.test.ts"]);
  expect(page).toContain(`No command listens: \`${listeners[0]}\` is the one`);
});
