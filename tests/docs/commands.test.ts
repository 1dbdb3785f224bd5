/**
 * Every command shown in README.md and docs/ exists: the help of each script of `bun scripts/NAME.ts …` lists every
 * flag shown, and each `npm run NAME` is in package.json.
 */

import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { CHECKS } from "../../scripts/checks/index.ts";
import { helpText } from "../../scripts/cli/command.ts";

const ROOT = join(import.meta.dir, "..", "..");

async function documents(): Promise<{ path: string; text: string }[]> {
  const inDocs = (await readdir(join(ROOT, "docs"), { recursive: true })).filter((path) => path.endsWith(".md"));
  const paths = ["README.md", ...inDocs.sort().map((path) => join("docs", path))];
  return await Promise.all(paths.map(async (path) => ({ path, text: await readFile(join(ROOT, path), "utf8") })));
}

interface Shown {
  where: string;
  script: string;
  flags: string[];
}

/** Commands in a text: `bun scripts/…` up to the end of the code span or line, without comments. */
function commandsOf(path: string, text: string): Shown[] {
  return text.split("\n").flatMap((line, index) =>
    [...line.matchAll(/bun (scripts\/[\w-]+\.ts)([^`|;)#&]*)/g)].map(([, script, rest]) => ({
      where: `${path}:${index + 1}`,
      script: script!,
      flags: [...rest!.matchAll(/(?<=\s)--[a-z][\w-]*/g)].map(([flag]) => flag),
    })),
  );
}

const helpOf = async (script: string) => helpText((await import(join(ROOT, script))).command);

const shown = (await documents()).flatMap(({ path, text }) => commandsOf(path, text));
const scripts = [...new Set(shown.map(({ script }) => script))].sort();

describe("commands shown in README and docs", () => {
  test("the pattern finds commands", () => {
    expect(scripts).toContain("scripts/deploy.ts");
    expect(scripts).toContain("scripts/validate.ts");
  });

  test("--help exits 0 and prints the help text", async () => {
    const child = Bun.spawn([process.execPath, "scripts/deploy.ts", "--help"], { cwd: ROOT, stdout: "pipe" });
    expect(await new Response(child.stdout).text()).toBe(`${await helpOf("scripts/deploy.ts")}\n`);
    expect(await child.exited).toBe(0);
  });

  test.each(scripts)("the help of %s lists every flag shown in the documents", async (script) => {
    const known = new Set([...(await helpOf(script)).matchAll(/--[a-z][\w-]*/g)].map(([flag]) => flag));
    const unknown = shown
      .filter((command) => command.script === script)
      .flatMap(({ where, flags }) => flags.filter((flag) => !known.has(flag)).map((flag) => `${where}: ${flag}`));
    expect(unknown).toEqual([]);
  });

  // With --help, a command that overlooks the unknown flag prints its help instead of doing its work.
  test.each(scripts)(
    "%s rejects an unknown flag: exit 2, one JSON document on stdout, no colour, the reason on stderr",
    async (script) => {
      const child = Bun.spawn([process.execPath, script, "--help", "--no-such-flag", "--json"], {
        cwd: ROOT,
        stdout: "pipe",
        stderr: "pipe",
      });
      const [out, error, exitCode] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
        child.exited,
      ]);
      expect(exitCode).toBe(2);
      const document = JSON.parse(out) as { error: string; hint: string; exit_code: number };
      expect(document.error).toStartWith("unknown flag --no-such-flag");
      expect(document).toMatchObject({ hint: `bun ${script} --help`, exit_code: 2 });
      expect(error).toContain("error: unknown flag --no-such-flag");
      expect(`${out}${error}`).not.toContain("\u001b[");
    },
  );

  test("README.md names every command, docs/architecture.md every folder of scripts/ and every service", async () => {
    const entries = await readdir(join(ROOT, "scripts"), { withFileTypes: true });
    const readme = await readFile(join(ROOT, "README.md"), "utf8");
    // scripts/test.ts is started by `npm test` and `npm run check`.
    const commands = entries.filter((entry) => entry.isFile() && entry.name !== "test.ts").map(({ name }) => name);
    expect(commands.length).toBeGreaterThan(10);
    expect(commands.filter((name) => !readme.includes(`bun scripts/${name}`))).toEqual([]);
    const walk = await readFile(join(ROOT, "docs", "architecture.md"), "utf8");
    const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    expect(folders.filter((name) => !walk.includes(`| \`scripts/${name}/\` |`))).toEqual([]);
    const services = (await readdir(join(ROOT, "services"))).filter(
      (name) => name.endsWith(".ts") && name !== "bundle.ts",
    );
    expect(services.filter((name) => !walk.includes(`\`${name}\``) && !walk.includes(`\`services/${name}\``))).toEqual(
      [],
    );
  });

  test("checks in sample output have the titles of validate's checks", async () => {
    const titles = CHECKS.map(({ title }) => title);
    const lines = (await documents())
      .flatMap(({ path, text }) => text.split("\n").map((line) => ({ path, line })))
      // Lines of deploy's steps have a dash before the detail.
      .filter(({ line }) => line.startsWith("✓ ") && !line.includes(" — ") && !line.startsWith("✓ build "));
    expect(lines.length).toBeGreaterThan(5);
    expect(lines.filter(({ line }) => !titles.some((title) => line.startsWith(`✓ ${title}`)))).toEqual([]);
  });

  test("every npm script shown is in package.json", async () => {
    const { scripts: known } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    const asked = (await documents()).flatMap(({ text }) =>
      [...text.matchAll(/(?:npm|bun) run ([a-z][\w:-]*)|npm (start|test)\b/g)].map(([, run, plain]) => run ?? plain!),
    );
    expect([...new Set(asked)].filter((name) => !(name in known))).toEqual([]);
  });

  test("every relative link in README.md and docs/ has an existing target", async () => {
    const broken: string[] = [];
    for (const { path, text } of await documents()) {
      for (const [, target] of text.matchAll(/\]\((?!https?:|#|mailto:)([^)#]+)(?:#[^)]*)?\)/g)) {
        if (!existsSync(join(ROOT, path, "..", target!))) broken.push(`${path}: ${target}`);
      }
    }
    expect(broken).toEqual([]);
  });
});
