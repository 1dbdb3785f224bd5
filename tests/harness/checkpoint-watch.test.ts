/**
 * Checkpoints of a deleted producer. A fake kubectl serves files as pods: a log can be followed while its file exists, and not
 * be read afterwards.
 */
import { expect, test } from "bun:test";
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { producerLives } from "../../scripts/audit/checkpoints.ts";
import { Cluster } from "../../scripts/cluster/cluster.ts";
import { watchCheckpoints } from "../cluster/checkpoint-watch.ts";
import { eventually } from "../eventually.ts";

/** A pod is a file NAME.log in the folder; a followed log ends when its file is deleted. */
const KUBECTL = `
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
const args = process.argv.slice(4);
if (args[0] === "get") {
  const names = (await readdir(import.meta.dir)).filter((name) => name.endsWith(".log"));
  const items = names.map((name) => ({
    metadata: { name: "producer-0", uid: name },
    status: { phase: "Running" },
  }));
  if (args[1] === "pods") console.log(JSON.stringify({ items }));
  else if (items[0]) console.log(JSON.stringify(items[0]));
} else {
  const [name] = (await readdir(import.meta.dir)).filter((name) => name.endsWith(".log"));
  let said = 0;
  while (existsSync(import.meta.dir + "/" + name)) {
    const text = await readFile(import.meta.dir + "/" + name, "utf8").catch(() => "");
    for (const line of text.slice(said).split("\\n").slice(0, -1)) {
      process.stdout.write(new Date().toISOString() + " " + line + "\\n");
    }
    said = Math.max(said, text.length);
    await Bun.sleep(5);
  }
}
`;

const line = (run: string, number: number, final = false) =>
  `${JSON.stringify({ event: "ledger_checkpoint", run, number, dropped: 0, repeated: 0, final, ledger: { [run]: { belt: [[number - 1, number - 1]] } } })}\n`;

test("watchCheckpoints keeps every line of a deleted producer and follows its replacement", async () => {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-watch-"));
  try {
    await writeFile(join(folder, "kubectl.ts"), KUBECTL);
    const program = join(folder, "kubectl");
    await writeFile(program, `#!/bin/sh\nexec ${process.execPath} ${join(folder, "kubectl.ts")} "$@"\n`, {
      mode: 0o755,
    });
    const log = (life: string) => join(folder, `${life}.log`);
    // Written before the watch starts.
    await writeFile(log("first"), `{"event":"started"}\n${line("first", 1)}`);
    const watch = watchCheckpoints(new Cluster({ context: "test", isLocal: false }, program));
    try {
      const received = (run: string) => watch.lines.filter((line) => line.run === run).length;
      await eventually("the first line", () => received("first") === 1);
      await appendFile(log("first"), line("first", 2, true));
      await eventually("the last line", () => received("first") === 2);
      await rm(log("first"));
      await writeFile(log("second"), line("second", 1));
      await eventually("the line of the replacement", () => received("second") === 1);
    } finally {
      await watch.close();
    }
    expect(producerLives(watch.lines)).toMatchObject([
      { run: "first", isComplete: true, ledger: new Map([["first", new Map([["belt", [[0, 1]]]])]]) },
      { run: "second", isComplete: false, gap: "its final checkpoint is missing" },
    ]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 60_000);

test("docs/audit.md names every program that uses watchCheckpoints", async () => {
  const root = join(import.meta.dir, "../..");
  const page = await readFile(join(root, "docs/audit.md"), "utf8");
  const listeners: string[] = [];
  for (const pattern of ["scripts/**/*.ts", "tests/cluster/*.ts"]) {
    for await (const path of new Bun.Glob(pattern).scan(root)) {
      const text = await readFile(join(root, path), "utf8");
      if (/import \{[^}]*\bwatchCheckpoints\b/.test(text)) listeners.push(path);
    }
  }
  // "No command does so; only … does".
  expect(listeners).toEqual(["tests/cluster/audit.test.ts"]);
  expect(page).toContain(`No command does so; only\n\`${listeners[0]}\` does`);
});
