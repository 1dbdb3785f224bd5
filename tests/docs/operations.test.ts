/**
 * Every command of docs/operations.md is run by a test or a drill: each block names what runs it, the named test or
 * drill exists, and commands in the text also occur in a block. tests/cluster/operations.test.ts runs the blocks.
 */
import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { DRILLS } from "../../scripts/drills/catalog.ts";
import { blocksOf, isFound, OPERATIONS, readOperations, shapeOf } from "./operations-blocks.ts";

const ROOT = join(import.meta.dir, "..", "..");
const blocks = await readOperations();
const text = await readFile(OPERATIONS, "utf8");

/** Normalizes commands for comparison: no comments, single spaces. */
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

  test("each named test exists and runs the script shown", async () => {
    for (const { kind, by, commands, line } of blocks) {
      if (kind !== "test") continue;
      const source = await readFile(join(ROOT, by), "utf8").catch(() => "");
      expect(`${line}: ${by} ${source === "" ? "is missing" : "is there"}`).toBe(`${line}: ${by} is there`);
      for (const [, script] of commands.matchAll(/bun scripts\/([\w-]+)\.ts/g)) expect(source).toContain(script!);
    }
  });

  test("each named drill injects the fault that its block shows", () => {
    const found = blocks
      .filter(({ kind }) => kind === "drill")
      .map(({ by, commands }) => {
        const [, what] = /^kubectl -n conveyor (delete pod|rollout restart)/m.exec(commands) ?? [];
        const fault = DRILLS.find(({ name }) => name === by)?.fault ?? "no such drill";
        return `${by}: ${what !== undefined && fault.includes(`kubectl ${what}`) ? "same fault" : fault}`;
      });
    expect(found.filter((line) => !line.endsWith(": same fault"))).toEqual([]);
  });

  test("each command in the text also occurs in a block", () => {
    const inBlocks = plain(blocks.map(({ commands }) => commands).join("\n"));
    const alone = [...text.matchAll(/`((?:kubectl|bun|kafka|ask) [^`]+)`/g)]
      .map(([, command]) => command!)
      .filter((command) => !inBlocks.includes(plain(command)))
      // Excluded: parts of commands; commands with a value that the operator chooses (size, name, event); commands for
      // clusters without KEDA.
      .filter((command) => !/…|NAME|SEQ|edit pvc|-o yaml|drain|--replicas=/.test(command));
    // Run by other tests, or equal to a block's command except for its time window.
    const known = [
      "kubectl get secret -o yaml",
      "bun scripts/evidence.ts --only tls",
      "bun scripts/logs.ts --source pods",
      "kubectl -n conveyor get pods",
    ];
    expect(alone.filter((command) => !known.includes(command))).toEqual([]);
  });

  test("docs/runbooks/README.md has the same terminal set-up", async () => {
    const runbooks = await readFile(join(ROOT, "docs/runbooks/README.md"), "utf8");
    expect(runbooks).toContain(blocks[0]!.commands);
  });
});

describe("blocks", () => {
  test("blocksOf rejects a block without a valid comment and names its line", () => {
    expect(() => blocksOf("# a\n\n```sh\nls\n```\n")).toThrow("line 3");
    expect(() => blocksOf("<!-- drill -->\n```sh\nls\n```\n")).toThrow("drill names nothing");
    expect(() => blocksOf("<!-- maybe -->\n```sh\nls\n```\n")).toThrow("read, change, drill, test");
  });

  test("blocksOf reads a multi-line comment and the output block that follows", () => {
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
  ])("isFound: %s matches %s", (expected, actual) => {
    expect(`${isFound(expected, [actual])} ${shapeOf(expected)} | ${shapeOf(actual)}`).toStartWith("true");
  });

  test.each([
    ["kafka-0 1/1 Running 0 13m", "kafka-0 0/1 Running 0 13m"],
    ["kafka-0 1/1 Running 0 13m", "kafka-1 1/1 Running 0 13m"],
    ["answered 204", "answered nothing"],
    ["refused 0 to the topic", "acknowledged 0 by Kafka"],
  ])("isFound: %s does not match %s", (expected, actual) => {
    expect(isFound(expected, [actual])).toBeFalse();
  });
});
