/** Goal: a reader of a file finds it complete or not at all, and nothing else remains in the folder. */
import { expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAtomic, writeAtomic, writeIfChanged } from "../../../scripts/cli/files.ts";

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-files-"));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

test("writeAtomic makes the folder, replaces the file and applies the mode", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "deep", "key");
    await writeAtomic(path, "old", 0o644);
    await writeAtomic(path, "new", 0o600);
    expect(await readFile(path, "utf8")).toBe("new");
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(join(folder, "deep"))).toEqual(["key"]);
  });
});

test("createAtomic keeps the old file when the work fails, and its temporary name has the same extension", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "picture.png");
    await writeAtomic(path, "old");
    const failing = createAtomic(path, async (temporary) => {
      expect(temporary).toEndWith(".png");
      await writeFile(temporary, "half");
      throw new Error("the encoder failed");
    });
    expect(failing).rejects.toThrow("the encoder failed");
    await failing.catch(() => {});
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(folder)).toEqual(["picture.png"]);
  });
});

test("writeIfChanged does not touch a file with the same text", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "config");
    await writeIfChanged(path, "text");
    const before = await stat(path);
    await writeIfChanged(path, "text");
    expect((await stat(path)).ino).toBe(before.ino);
    await writeIfChanged(path, "other");
    expect((await stat(path)).ino).not.toBe(before.ino);
  });
});
