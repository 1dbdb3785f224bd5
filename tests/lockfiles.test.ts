/** npm and bun install the same packages: their lock files name the same versions and checksums. */
import { expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "..");

test("bun.lock and package-lock.json name the same packages (else: rm bun.lock; bun pm migrate)", async () => {
  const npm = JSON.parse(await readFile(join(ROOT, "package-lock.json"), "utf8")) as {
    packages: Record<string, { version: string; integrity: string }>;
  };
  // bun.lock is JSON with trailing commas, which Bun's own import accepts.
  const { default: bun } = (await import("../bun.lock")) as unknown as {
    default: { packages: Record<string, [id: string, registry: string, about: object, integrity: string]> };
  };
  const ofNpm = Object.entries(npm.packages)
    .filter(([path]) => path !== "")
    .map(([path, { version, integrity }]) => `${path.replace(/^.*node_modules\//, "")}@${version} ${integrity}`);
  const ofBun = Object.values(bun.packages).map(([id, , , integrity]) => `${id} ${integrity}`);
  expect(new Set(ofBun)).toEqual(new Set(ofNpm));
});
