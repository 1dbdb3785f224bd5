import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, readdir, readFile, rename, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { forgetOlder } from "../../../scripts/images/catalog.ts";
import { fetchChecked, inputFiles, inputsHash } from "../../../scripts/images/own-images.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const root = temporaryFolder();
beforeAll(async () => {
  await mkdir(join(root, "services/domain"), { recursive: true });
  await mkdir(join(root, "services/dist"), { recursive: true });
  await writeFile(join(root, "services/producer.ts"), "produce();");
  await writeFile(join(root, "services/domain/event.ts"), "export {};");
  await writeFile(join(root, "services/Dockerfile"), "FROM base");
  await writeFile(join(root, "package-lock.json"), "{}");
});

describe("inputsHash", () => {
  test("covers sources, Dockerfile and lock file, and no output of a build", async () => {
    await writeFile(join(root, "services/dist/producer.ts"), "built");
    await writeFile(join(root, "services/notes.md"), "not in the image");
    expect(await inputFiles(root)).toEqual([
      "package-lock.json",
      "services/Dockerfile",
      "services/domain/event.ts",
      "services/producer.ts",
    ]);
  });

  test("changes only with content, names or the lock file", async () => {
    const seen = new Set([await inputsHash(root)]);
    const changes: (() => Promise<void>)[] = [
      () => writeFile(join(root, "services/producer.ts"), "produce(2);"),
      () => writeFile(join(root, "services/Dockerfile"), "FROM base\nUSER 1"),
      () => writeFile(join(root, "package-lock.json"), '{"lockfileVersion":3}'),
      () => rename(join(root, "services/domain/event.ts"), join(root, "services/domain/events.ts")),
      // The same bytes, divided differently.
      async () => {
        await writeFile(join(root, "services/a.ts"), "12");
        await writeFile(join(root, "services/b.ts"), "3");
      },
      async () => {
        await writeFile(join(root, "services/a.ts"), "1");
        await writeFile(join(root, "services/b.ts"), "23");
      },
    ];
    for (const change of changes) {
      await change();
      const hash = await inputsHash(root);
      expect(await inputsHash(root)).toBe(hash);
      expect(seen.has(hash)).toBe(false);
      seen.add(hash);
    }
  });
});

describe("fetchChecked", () => {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: ({ url }) => (url.endsWith("/jar") ? new Response("jar") : new Response("", { status: 404 })),
  });
  afterAll(() => server.stop(true));
  const { signal } = new AbortController();
  const sha256 = new Bun.CryptoHasher("sha256").update("jar").digest("hex");
  const path = join(root, "fetched");
  const fetched = (file: string, expected = sha256) => fetchChecked(`${server.url}${file}`, expected, path, signal);

  test("writes a file that everyone may read", async () => {
    await fetched("jar");
    expect(await readFile(path, "utf8")).toBe("jar");
    expect((await stat(path)).mode & 0o777).toBe(0o644);
  });

  test("refuses another content, and names what it expected and what it got", async () => {
    await expect(fetched("jar", "0".repeat(64))).rejects.toThrow(
      `${server.url}jar: its SHA-256 must be ${"0".repeat(64)}; got ${sha256}`,
    );
  });

  test("an address that does not answer is an error with the way out", async () => {
    const error = await fetched("nothing").catch((thrown) => thrown);
    expect(error.message).toBe(`${server.url}nothing could not be downloaded`);
    expect(error.hint).toContain("--images DIR");
  });
});

test("forgetOlder keeps the current build, the latest two, and all other parts", async () => {
  const parts = join(root, "parts");
  const build = (name: string, digit: string) => `${name}-1.0.0-${digit.repeat(12)}`;
  const names = ["1", "2", "3", "4", "5"].map((digit) => build("image-services", digit));
  const others = [build("image-services-extra", "1"), "image-services-notes", build("image-kafka", "1")];
  for (const [age, name] of [...names, ...others].entries()) {
    await mkdir(join(parts, name), { recursive: true });
    await utimes(join(parts, name), 1_000_000 - age, 1_000_000 - age);
  }
  await forgetOlder("image-services", join(parts, names[4]!));
  expect((await readdir(parts)).sort()).toEqual([names[0]!, names[1]!, names[4]!, ...others].sort());
});
