import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OperatorError } from "../../../scripts/cli/errors.ts";
import { ensurePart, isBuilt, type Part, partDir, removeOlderBuilds } from "../../../scripts/local-cluster/cache.ts";
import { takeLock } from "../../../scripts/local-cluster/lock.ts";
import { setEnvironment } from "../../environment.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { silentReport } from "../cli/silent-report.ts";

const folder = temporaryFolder();
const report = silentReport();
setEnvironment({ XDG_CACHE_HOME: folder });

function part(name: string, build: Part["build"], changes: Partial<Part> = {}): Part {
  return { name, version: "1.0", recipe: "r", requires: [], build, ...changes };
}

describe("ensurePart", () => {
  test("builds a part once and then finds it", async () => {
    let builds = 0;
    const once = part("once", async (out) => {
      builds++;
      await writeFile(join(out, "program"), "x");
    });
    const first = await ensurePart(once, report);
    expect(await ensurePart(once, report)).toBe(first);
    expect(builds).toBe(1);
    expect(await readFile(join(first, "program"), "utf8")).toBe("x");
  });

  test("another version or recipe is another part", () => {
    const build = async () => {};
    const places = [part("p", build), part("p", build, { version: "2" }), part("p", build, { recipe: "s" })].map(
      partDir,
    );
    expect(new Set(places).size).toBe(3);
  });

  test("a failed build leaves no part and keeps its work folder, in which the next one continues", async () => {
    let tries = 0;
    const flaky = part("flaky", async (out, context) => {
      const half = join(context.work, "half");
      if (++tries === 1) {
        await writeFile(half, "made in the first try");
        await writeFile(join(out, "program"), "half");
        throw new Error("power cut");
      }
      await writeFile(join(out, "program"), await readFile(half));
    });
    await expect(ensurePart(flaky, report)).rejects.toThrow("power cut");
    expect(await isBuilt(flaky)).toBe(false);
    expect(existsSync(`${partDir(flaky)}.tmp`)).toBe(false);
    const place = await ensurePart(flaky, report);
    expect(await readFile(join(place, "program"), "utf8")).toBe("made in the first try");
  });

  test("files of a killed build in the temporary folder do not become part of the next", async () => {
    const clean = part("clean", (out) => writeFile(join(out, "good"), ""));
    await mkdir(`${partDir(clean)}.tmp`, { recursive: true });
    await writeFile(join(`${partDir(clean)}.tmp`, "torn"), "");
    await mkdir(partDir(clean), { recursive: true }); // a folder without its stamp is not a part
    expect(await isBuilt(clean)).toBe(false);
    const place = await ensurePart(clean, report);
    expect(existsSync(join(place, "torn"))).toBe(false);
    expect(existsSync(join(place, "good"))).toBe(true);
  });

  test("two concurrent runs build a part once", async () => {
    let builds = 0;
    const slow = part("slow", async (out) => {
      builds++;
      await Bun.sleep(300);
      await writeFile(join(out, "program"), "x");
    });
    await Promise.all([ensurePart(slow, report), ensurePart(slow, report)]);
    expect(builds).toBe(1);
  });

  test("an aborted build rejects with the abort reason and leaves no part", async () => {
    const abort = new AbortController();
    const endless = part("endless", async (out, context) => {
      await writeFile(join(out, "program"), "x");
      abort.abort(Object.assign(new Error("interrupted"), { name: "AbortError" }));
      context.signal.throwIfAborted();
    });
    await expect(ensurePart(endless, report, abort.signal)).rejects.toThrow("interrupted");
    expect(await isBuilt(endless)).toBe(false);
  });

  test("the error of missing tools names all of them and the command that installs them", async () => {
    const needy = part("needy", async () => {}, {
      requires: [
        { command: "no-such-tool-a", why: "does a", aptPackage: "pkg-a" },
        { command: "no-such-tool-b", why: "does b", aptPackage: "pkg-b" },
      ],
    });
    const error = (await ensurePart(needy, report).catch((caught) => caught)) as OperatorError;
    expect(error).toBeInstanceOf(OperatorError);
    expect(error.exitCode).toBe(3);
    expect(error.message).toContain("no-such-tool-a");
    expect(error.message).toContain("no-such-tool-b");
    expect(error.hint).toContain("apt-get install -y --no-install-recommends pkg-a pkg-b");
  });

  test("removeOlderBuilds keeps the parts of other names", async () => {
    const build: Part["build"] = (out) => writeFile(join(out, "program"), "x");
    const [old, now, other] = [part("p", build), part("p", build, { version: "2" }), part("p2", build)];
    for (const each of [old, now, other]) await ensurePart(each, report);
    await removeOlderBuilds(now);
    expect(await Promise.all([old, now, other].map(isBuilt))).toEqual([false, true, true]);
  });

  test("a build without a result is a failure", async () => {
    await expect(
      ensurePart(
        part("nothing", async () => {}),
        report,
      ),
    ).rejects.toThrow("without a result");
  });
});

describe("takeLock", () => {
  test("succeeds after the holder was killed with SIGKILL", async () => {
    const path = join(folder, "killed.lock");
    const script = `import { takeLock } from "${join(import.meta.dir, "../../../scripts/local-cluster/lock.ts")}";
      globalThis.lock = await takeLock("${path}", { what: "test", limitMs: 5000 }); console.log("held"); await Bun.sleep(60000);`;
    const holder = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
    await holder.stdout.getReader().read();
    await expect(takeLock(path, { what: "test", limitMs: 0 })).rejects.toThrow("has held the lock");
    holder.kill("SIGKILL");
    await holder.exited;
    const lock = await takeLock(path, { what: "test", limitMs: 5000 });
    lock.release();
  });
});
