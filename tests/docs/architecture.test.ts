/**
 * docs/architecture.md describes the code as it is: its list of modules equals the real imports, its source layout and
 * file names exist, and its claim about API tokens holds.
 */
import { describe, expect, test } from "bun:test";
import { readdir, readFile, stat } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { parseAllDocuments } from "yaml";

const ROOT = join(import.meta.dir, "..", "..");
const PAGE = await readFile(join(ROOT, "docs/architecture.md"), "utf8");

/** "scripts/deploy/plan.ts" → "scripts/deploy"; "scripts/deploy.ts" → "scripts". */
const moduleOf = (path: string) => path.split("/").slice(0, -1).slice(0, 2).join("/");

/** "scripts/deploy → scripts/cli" for each import between modules, type-only and dynamic imports included. */
async function importedArrows(): Promise<Set<string>> {
  const arrows = new Set<string>();
  for await (const path of new Bun.Glob("{services,scripts,bench}/**/*.ts").scan(ROOT)) {
    const source = await readFile(join(ROOT, path), "utf8");
    for (const [, target] of source.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"(\.[^"]+\.ts)"/g)) {
      const [from, to] = [moduleOf(path), moduleOf(relative(ROOT, join(ROOT, dirname(path), target!)))];
      if (from !== to && !to.startsWith("tests")) arrows.add(`${from} → ${to}`);
    }
  }
  return arrows;
}

/** The arrows of the block "modules" in the page: one line per module, "MODULE → MODULE, MODULE". */
function documentedArrows(): Set<string> {
  const block = /```modules\n([\s\S]*?)```/.exec(PAGE)?.[1] ?? "";
  return new Set(
    block.split("\n").flatMap((line) => {
      const [from, to] = line.split("→").map((part) => part.trim());
      return (to ?? "")
        .split(",")
        .filter((name) => name.trim() !== "")
        .map((name) => `${from} → ${name.trim()}`);
    }),
  );
}

/** The block as it would have to be, modules without imports first. */
function blockOf(arrows: ReadonlySet<string>): string {
  const targets = new Map<string, string[]>();
  for (const arrow of [...arrows].sort()) {
    const [from, to] = arrow.split(" → ") as [string, string];
    targets.set(from, [...(targets.get(from) ?? []), to]);
    if (!targets.has(to)) targets.set(to, []);
  }
  const depth = (name: string, above: readonly string[] = []): number =>
    above.includes(name) ? 0 : 1 + Math.max(0, ...targets.get(name)!.map((target) => depth(target, [...above, name])));
  const names = [...targets.keys()].sort((a, b) => depth(a) - depth(b) || (a < b ? -1 : 1));
  const width = Math.max(...names.map(({ length }) => length));
  return names.map((name) => `${name.padEnd(width)} → ${targets.get(name)!.join(", ")}`.trimEnd()).join("\n");
}

describe("docs/architecture.md", () => {
  test("its list of modules equals the imports in the source", async () => {
    const [real, documented] = [await importedArrows(), documentedArrows()];
    const missing = [...real].filter((arrow) => !documented.has(arrow)).map((arrow) => `missing: ${arrow}`);
    const extra = [...documented].filter((arrow) => !real.has(arrow)).map((arrow) => `no such import: ${arrow}`);
    const differences = [...missing, ...extra];
    expect(
      differences,
      differences.length > 0 ? `the block "modules" must be:\n\n${blockOf(real)}\n` : undefined,
    ).toEqual([]);
  });

  test("its table of the source layout has a row for each folder of services/ and scripts/", async () => {
    const folders: string[] = [];
    for (const parent of ["services", "scripts"]) {
      for (const entry of await readdir(join(ROOT, parent), { withFileTypes: true })) {
        // The bundles of the services, ignored by git, exist after an image was built.
        if (entry.isDirectory() && entry.name !== "dist") folders.push(`${parent}/${entry.name}/`);
      }
    }
    const rows = [...PAGE.matchAll(/^\| `((?:services|scripts)\/[\w-]+\/)` \|/gm)].map(([, folder]) => folder!);
    expect(rows.sort()).toEqual(folders.sort());
  });

  test("its files and folders in code spans exist", async () => {
    const named = [...PAGE.matchAll(/`((?:services|scripts|k8s|tests|docs|bench)\/[\w./-]*)`/g)].map(
      ([, path]) => path!,
    );
    const isThere = async (path: string) =>
      await stat(join(ROOT, path)).then(
        () => true,
        () => false,
      );
    const absent = (await Promise.all(named.map(async (path) => ((await isThere(path)) ? [] : [path])))).flat();
    expect(absent).toEqual([]);
  });

  test("the workloads that it names are those with a token for the API server", async () => {
    const withToken: string[] = [];
    for await (const path of new Bun.Glob("k8s/**/*.yaml").scan(ROOT)) {
      const text = await readFile(join(ROOT, path), "utf8");
      if (!text.includes("serviceAccountToken")) continue;
      for (const document of parseAllDocuments(text))
        withToken.push((document.toJS() as { metadata: { name: string } }).metadata.name);
    }
    expect(withToken.sort()).toEqual(["kube-state-metrics", "prometheus", "promtail", "setup", "vlagent"]);
    expect(PAGE.replaceAll(/\s+/g, " ")).toContain(
      "Only the setup job, Prometheus, kube-state-metrics and the log collector (Promtail or vlagent) have a token for the API server.",
    );
  });
});
