/** Missing tools, and the command that installs them on each kind of machine. */
import { afterAll, beforeEach, expect, test } from "bun:test";
import { mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { installLine, toolsError } from "../../../scripts/cli/tools.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const folder = temporaryFolder();
const { PATH } = process.env;
const platform = Object.getOwnPropertyDescriptor(process, "platform")!;
beforeEach(async () => {
  process.env.PATH = await mkdtemp(join(folder, "bin-"));
});
afterAll(() => {
  process.env.PATH = PATH;
  Object.defineProperty(process, "platform", platform);
});

const tools = [
  { command: "one", why: "is needed", aptPackage: "one-deb", dnfPackage: "one-rpm", brewPackage: "one-brew" },
  { command: "two", why: "is needed too", source: "https://two.example" },
];

test.each([
  ["linux", ["apt-get"], "sudo apt-get install -y --no-install-recommends one-deb"],
  ["linux", ["dnf"], "sudo dnf install -y one-rpm"],
  ["linux", ["brew", "apt-get"], "sudo apt-get install -y --no-install-recommends one-deb"],
  ["linux", [], undefined],
  ["darwin", ["brew"], "brew install one-brew"],
  ["darwin", [], undefined],
])("on %s with %j missing tools are installed by: %s", async (system, managers, line) => {
  Object.defineProperty(process, "platform", { ...platform, value: system });
  for (const name of managers) await writeFile(join(process.env.PATH!, name), "#!/bin/sh\n", { mode: 0o755 });
  expect(installLine(tools)).toBe(line);
  const error = toolsError("this needs tools", tools);
  expect([error.exitCode, error.hint]).toEqual([3, line]);
  expect(error.message.split("\n").slice(1)).toEqual([
    "  - one is not installed: is needed",
    "  - two is not installed: is needed too (https://two.example)",
  ]);
});
