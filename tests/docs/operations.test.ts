/**
 * Goal: no command of docs/operations.md is untried. Method: each block says what runs it; those named are looked up,
 * and no command stands in the text alone. What runs the blocks: tests/cluster/operations.test.ts.
 */
import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { DRILLS } from "../../scripts/drills/catalog.ts";
import { blocksOf, isFound, OPERATIONS, readOperations, shapeOf } from "./operations-blocks.ts";

const ROOT = join(import.meta.dir, "..", "..");
const blocks = await readOperations();
const text = await readFile(OPERATIONS, "utf8");

/** Commands in a text, without comments and with blanks as one, to be compared. */
const plain = (commands: string) =>
  commands
    .replaceAll(/\s+#.*$/gm, "")
    .replaceAll(/\s+/g, " ")
    .trim();

describe("docs/operations.md", () => {
  test("has blocks of every kind", () => {
    expect(blocks.length).toBeGreaterThan(30);
    expect(new Set(blocks.map(({ kind }) => kind))).toEqual(new Set(["read", "change", "drill", "test"]));
  });

  test("a test that is named is there, and runs the script shown", async () => {
    for (const { kind, by, commands, line } of blocks) {
      if (kind !== "test") continue;
      const source = await readFile(join(ROOT, by), "utf8").catch(() => "");
      expect(`${line}: ${by} ${source === "" ? "is missing" : "is there"}`).toBe(`${line}: ${by} is there`);
      for (const [, script] of commands.matchAll(/bun scripts\/([\w-]+)\.ts/g)) expect(source).toContain(script!);
    }
  });

  test("a drill that is named does what the block says", () => {
    const found = blocks
      .filter(({ kind }) => kind === "drill")
      .map(({ by, commands }) => {
        const [, what] = /^kubectl -n conveyor (delete pod|rollout restart)/m.exec(commands) ?? [];
        const fault = DRILLS.find(({ name }) => name === by)?.fault ?? "no such drill";
        return `${by}: ${what !== undefined && fault.includes(`kubectl ${what}`) ? "does it" : fault}`;
      });
    expect(found.filter((line) => !line.endsWith(": does it"))).toEqual([]);
  });

  test("a command in the text stands in a block too, or in a runbook's words for a person who knows", () => {
    const inBlocks = plain(blocks.map(({ commands }) => commands).join("\n"));
    const alone = [...text.matchAll(/`((?:kubectl|bun|kafka|ask) [^`]+)`/g)]
      .map(([, command]) => command!)
      .filter((command) => !inBlocks.includes(plain(command)))
      // A part of a command; what only a person can decide: a claim's new size, a pod's name, a single event; and the
      // way of clusters that have no KEDA.
      .filter((command) => !/…|NAME|SEQ|edit pvc|-o yaml|drain|--replicas=/.test(command));
    // These are run by other tests, or are a block's command without its window of time.
    const known = [
      "kubectl get secret -o yaml",
      "bun scripts/evidence.ts --only tls",
      "bun scripts/logs.ts --source pods",
      "kubectl -n conveyor get pods",
    ];
    expect(alone.filter((command) => !known.includes(command))).toEqual([]);
  });

  test("the terminal of the runbooks is the same one", async () => {
    const runbooks = await readFile(join(ROOT, "docs/runbooks/README.md"), "utf8");
    expect(runbooks).toContain(blocks[0]!.commands);
  });
});

describe("blocks", () => {
  test("a block without a comment is an error that names its line", () => {
    expect(() => blocksOf("# a\n\n```sh\nls\n```\n")).toThrow("line 3");
    expect(() => blocksOf("<!-- drill -->\n```sh\nls\n```\n")).toThrow("drill names nothing");
    expect(() => blocksOf("<!-- maybe -->\n```sh\nls\n```\n")).toThrow("read, change, drill, test");
  });

  test("a comment of several lines, and the output that belongs to the block", () => {
    const [block] = blocksOf(
      "# H\n<!-- change\ngiven: false || true\nafter: true\n-->\n```sh\nls\n```\n```text\na…\n```\n",
    );
    expect(block).toMatchObject({
      kind: "change",
      given: "false || true",
      after: "true",
      expected: ["a…"],
      heading: "H",
    });
  });

  test.each([
    ["kafka-0   1/1  Running  0  13m", "kafka-0 1/1 Running 2 (5m3s ago) 2d4h"],
    ["processor-799ff75dc-k4rp7  41m  35Mi", "processor-65968cd59f-6mz6k  1m 250Mi"],
    ["PASSED: 3 passed in 1.3 s", "PASSED: 26 passed in 2 min 05 s"],
    ["✓ certificates  11 certificates … 0.7 s", "✓ certificates 12 certificates, the next expires in 3 days  12.1 s"],
    ["setup-j6mht 0/1 Completed 0 13m", "setup-zz9ab 0/1 Completed 0 4s"],
    ["… outcome=written", "50.9719  outcome=written"],
  ])("%s is found in %s", (expected, actual) => {
    expect(`${isFound(expected, [actual])} ${shapeOf(expected)} | ${shapeOf(actual)}`).toStartWith("true");
  });

  test.each([
    ["kafka-0 1/1 Running 0 13m", "kafka-0 0/1 Running 0 13m"],
    ["kafka-0 1/1 Running 0 13m", "kafka-1 1/1 Running 0 13m"],
    ["answered 204", "answered nothing"],
    ["refused 0 to the topic", "acknowledged 0 by Kafka"],
  ])("%s is not found in %s", (expected, actual) => {
    expect(isFound(expected, [actual])).toBeFalse();
  });
});
