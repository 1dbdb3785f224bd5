/** Goal: a reader of a file finds it complete or not at all, and nothing else remains in the folder. */
import { expect, test } from "bun:test";
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createAtomic, writeAtomic, writeIfChanged } from "../../../scripts/cli/files.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const root = temporaryFolder();

test("writeAtomic makes the folder, replaces the file and applies the mode", async () => {
  const path = join(root, "deep", "key");
  await writeAtomic(path, "old", 0o644);
  await writeAtomic(path, "new", 0o600);
  expect(await readFile(path, "utf8")).toBe("new");
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(join(root, "deep"))).toEqual(["key"]);
});

test("createAtomic keeps the old file when the work fails, and its temporary name has the same extension", async () => {
  const folder = join(root, "pictures");
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

test("writeIfChanged does not touch a file with the same text", async () => {
  const path = join(root, "config");
  await writeIfChanged(path, "text");
  const before = await stat(path);
  await writeIfChanged(path, "text");
  expect((await stat(path)).ino).toBe(before.ino);
  await writeIfChanged(path, "other");
  expect((await stat(path)).ino).not.toBe(before.ino);
});
