import { expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundle, ENTRIES } from "../../services/bundle.ts";

test("bundle() is reproducible and contains no path of this machine", async () => {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-bundle-"));
  try {
    const first = await bundle(join(folder, "first"));
    const second = await bundle(join(folder, "second"));
    expect(first).toHaveLength(ENTRIES.length);
    for (const [index, path] of first.entries()) {
      const text = await readFile(path, "utf8");
      expect(text).toBe(await readFile(second[index]!, "utf8"));
      expect(text).not.toContain(join(import.meta.dir, "../.."));
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
