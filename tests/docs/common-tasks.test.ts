/** Every file and folder that docs/common-tasks.md names exists, and each task has files and commands. */
import { describe, expect, test } from "bun:test";
import { stat } from "node:fs/promises";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "..", "..");
const page = await Bun.file(join(ROOT, "docs/common-tasks.md")).text();
const sections = page.split(/^## /m).slice(1);
const tasks = sections.map((section) => [section.slice(0, section.indexOf("\n")), section] as const);

/** Paths of the repository in a text; a name in capitals within a path is a placeholder, not a file. */
function pathsIn(text: string): string[] {
  const paths = [
    ...text.matchAll(
      /(?<![\w/])(?:\.\/)?((?:services|scripts|k8s|tests|docs)\/[\w./-]*[\w/]|(?:README|CHANGELOG)\.md)/g,
    ),
  ].map(([, path]) => path!);
  return [...new Set(paths)].filter((path) => !/(?:^|\/)[A-Z]{4,}[./-]/.test(path.replace("README.md", "")));
}

const exists = async (path: string) =>
  await stat(join(ROOT, path)).then(
    () => true,
    () => false,
  );

test("docs/common-tasks.md describes each common task", () => {
  expect(tasks.map(([title]) => title)).toEqual([
    "Add a drill",
    "Add an event field",
    "Add an alert",
    "Add a dashboard panel",
    "Add a check to validate",
    "Add a flag to a command",
    "Add a service",
    "Change Kafka's version",
    "Change a probe",
    "Change a retention",
  ]);
});

describe.each(tasks)("docs/common-tasks.md, %s", (_, section) => {
  test("its files exist", async () => {
    const paths = pathsIn(section);
    expect(paths.length).toBeGreaterThan(1);
    const absent = (await Promise.all(paths.map(async (path) => ((await exists(path)) ? [] : [path])))).flat();
    expect(absent).toEqual([]);
  });

  test("it has a table of files and a block of commands", () => {
    expect(section).toMatch(/^\| (?:file|data) \|/m);
    const [, commands] = /```sh\n([\s\S]*?)```/.exec(section) ?? [];
    for (const line of commands?.trim().split("\n") ?? [""]) expect(line).toMatch(/^(?:bun|npm run) \S/);
  });

  test("the identifiers and names in its code spans occur in the file of their row", async () => {
    for (const row of section.split("\n").filter((line) => line.startsWith("| `"))) {
      const [first, ...others] = row.split("|").slice(1, -1);
      const path = pathsIn(first!)[0] ?? pathsIn(others.join("|"))[0];
      if (path === undefined || path.endsWith("/")) continue;
      const source = await Bun.file(join(ROOT, path)).text();
      const names = [...others.join("|").matchAll(/`([A-Za-z_]\w*)`/g)].map(([, name]) => name!);
      expect(names.filter((name) => !source.includes(name)).map((name) => `${path}: ${name}`)).toEqual([]);
    }
  });
});
