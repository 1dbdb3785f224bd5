/** Examples of events in documentation and help are valid on the day that they are pasted. */
import { describe, expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseAnyEventAt } from "../../services/domain/any-event.ts";

const ROOT = join(import.meta.dir, "../..");
const HOUR_MS = 3_600_000;
/** The whole text of an event, whose names and states hold no brace. */
const EVENT = /\{"v":1,[^{}\n]*"state":"\w+"\}/g;

const pages = ["README.md", ...(await readdir(join(ROOT, "docs"), { recursive: true })).map((name) => `docs/${name}`)];
const markdown = await Promise.all(
  pages
    .filter((path) => path.endsWith(".md"))
    .map(async (path) => ({ path, text: await readFile(join(ROOT, path), "utf8") })),
);

/** What an event is that is valid now. @throws Error with the refusal */
function kindOfValid(bytes: Buffer): string {
  const { event, generic, refusal } = parseAnyEventAt(Date.now(), bytes);
  if (refusal) throw new Error(refusal.detail);
  if (event) return "version 1";
  return generic.source === undefined ? "line" : "version 2";
}

describe("examples of events", () => {
  test("documentation holds no fixed time, which ends to be valid", () => {
    const fixed = markdown.flatMap(({ path, text }) =>
      /"(?:ts|time)": ?\d|[= ]1[5-9]\d{17}$/m.test(text) ? [path] : [],
    );
    expect(fixed).toEqual([]);
  });

  test("the commands of docs/events.md send events that are valid now", async () => {
    const page = markdown.find(({ path }) => path === "docs/events.md")!.text;
    const commands = [...page.matchAll(/^(echo .*) \| bun scripts\/ingest\.ts -$/gm)].map(([, command]) => command!);
    const kinds = commands.map((command) => {
      const { stdout } = Bun.spawnSync(["bash", "-c", command]);
      return kindOfValid(stdout);
    });
    expect(kinds.sort()).toEqual(["line", "version 1", "version 2"]);
  });

  test("the event in the help of ingest is valid now, and is not a constant", async () => {
    const { stdout } = Bun.spawnSync(["bun", join(ROOT, "scripts/ingest.ts"), "--help"], {
      env: { ...process.env, COLUMNS: "400" },
    });
    const help = stdout.toString();
    const [event] = help.match(EVENT)!;
    expect(parseAnyEventAt(Date.now(), Buffer.from(event!))).toMatchObject({ event: { v: 1 } });
    const [, ts] = /"ts":(\d+)/.exec(event!)!;
    expect(Number(ts)).toBeGreaterThan(Date.now() - HOUR_MS);
  });
});
