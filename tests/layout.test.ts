/** The layout of the repository: allowed imports (import-directions.jsonc) and one mirror of the sources in tests/. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { $ } from "bun";
import directions from "../import-directions.jsonc";

const ROOT = join(import.meta.dir, "..");
/** Folders of tests/ for tests of several parts together and for their helpers. */
const WITHOUT_SOURCE = [
  ...["tests/cluster", "tests/harness", "tests/integration"],
  ...["tests/pictures", "tests/senders", "tests/servers"],
];

async function foldersWith(top: string, ending: string): Promise<string[]> {
  const paths = await readdir(join(ROOT, top), { recursive: true });
  return [...new Set(paths.filter((path) => path.endsWith(ending)).map((path) => dirname(join(top, path))))].sort();
}

test("each folder of scripts/ and services/ has its list of allowed imports", async () => {
  const listed: string[] = directions.overrides.flatMap(({ includes }: { includes: string[] }) =>
    includes.map((glob) => dirname(glob)),
  );
  const folders = [...(await foldersWith("scripts", ".ts")), ...(await foldersWith("services", ".ts"))];
  expect(folders.filter((folder) => !listed.includes(folder))).toEqual([]);
  expect(listed.filter((folder) => !existsSync(join(ROOT, folder)))).toEqual([]);
});

test("each folder of tests/ mirrors a folder with the same path", async () => {
  const mirrors = (await foldersWith("tests", ".test.ts"))
    .filter((folder) => !WITHOUT_SOURCE.some((other) => folder === other || folder.startsWith(`${other}/`)))
    .map((folder) => folder.replace(/^tests\/?/, ""));
  expect(mirrors.length).toBeGreaterThan(10);
  expect(mirrors.filter((folder) => !existsSync(join(ROOT, folder)))).toEqual([]);
});

describe("npm run check's lint", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-layout-"));
    // Links, so that the rules are the repository's; a folder without git needs Biome's use of git switched off.
    const biome = await Bun.file(join(ROOT, "biome.json")).json();
    await writeFile(join(folder, "biome.json"), JSON.stringify({ ...biome, vcs: { enabled: false } }));
    await Bun.write(join(folder, "import-directions.jsonc"), Bun.file(join(ROOT, "import-directions.jsonc")));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  async function lint(files: Record<string, string>): Promise<{ exitCode: number; output: string }> {
    await rm(join(folder, "scripts"), { recursive: true, force: true });
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), text);
    }
    const biome = join(ROOT, "node_modules", ".bin", "biome");
    const { exitCode, stdout, stderr } = await $`${biome} lint scripts`.cwd(folder).quiet().nothrow();
    return { exitCode, output: `${stdout}${stderr}` };
  }

  const deploy = { "scripts/deploy/plan.ts": "export const plan = 1;\n" };

  test.each([
    ["an import", 'import { plan } from "../deploy/plan.ts";\n\nexport const twice = plan * 2;\n'],
    ["a type-only import", 'import type { plan } from "../deploy/plan.ts";\n\nexport type Plan = typeof plan;\n'],
    ["a dynamic import", 'export const plan = await import("../deploy/plan.ts");\n'],
  ])("fails on %s that points up", async (_kind, text) => {
    const { exitCode, output } = await lint({ ...deploy, "scripts/cluster/pods.ts": text });
    expect(output).toContain("see import-directions.jsonc");
    expect(exitCode).toBe(1);
  });

  test("accepts an import that points down", async () => {
    const text = 'import { pods } from "../cluster/pods.ts";\n\nexport const plan = pods;\n';
    const { exitCode, output } = await lint({
      "scripts/cluster/pods.ts": "export const pods = 1;\n",
      "scripts/deploy/plan.ts": text,
    });
    expect(output).not.toContain("import-directions");
    expect(exitCode).toBe(0);
  });

  test("fails on a cycle, also one of types", async () => {
    const { exitCode, output } = await lint({
      "scripts/cli/a.ts": 'import type { B } from "./b.ts";\n\nexport type A = B | 1;\n',
      "scripts/cli/b.ts": 'import type { A } from "./a.ts";\n\nexport type B = A | 2;\n',
    });
    expect(output).toContain("noImportCycles");
    expect(exitCode).toBe(1);
  });
});
