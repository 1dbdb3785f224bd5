import { describe, expect, test } from "bun:test";
import { mkdir, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { must, sha256OfFile } from "../../../scripts/cli/process.ts";
import { writeImageArchive } from "../../../scripts/local-cluster/archive.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const folder = temporaryFolder();

async function exampleTree(name: string): Promise<string> {
  const root = join(folder, name);
  await mkdir(join(root, "etc"), { recursive: true });
  await writeFile(join(root, "etc/hello"), "hello\n", { mode: 0o640 });
  await symlink("../etc/hello", join(root, "etc/link"));
  // The time of writing must not matter.
  await utimes(join(root, "etc/hello"), Math.random() * 1e9, Math.random() * 1e9);
  return root;
}

const image = (root: string) => ({
  ref: "conveyor.invalid/example:1",
  layers: [
    { kind: "folder" as const, folder: root, prefix: "opt", owner: { uid: 10001, gid: 10001 } },
    { kind: "files" as const, files: [{ path: "bin/app", content: "x".repeat(700), mode: 0o755 }] },
  ],
  config: { Entrypoint: ["/bin/app"], User: "10001" },
});

describe("writeImageArchive", () => {
  test("the same content results in the same bytes and ID at any time", async () => {
    const first = await writeImageArchive(join(folder, "a.tar"), image(await exampleTree("a")));
    await Bun.sleep(5);
    const second = await writeImageArchive(join(folder, "b.tar"), image(await exampleTree("b")));
    expect(second.id).toBe(first.id);
    expect(await sha256OfFile(join(folder, "b.tar"))).toBe(await sha256OfFile(join(folder, "a.tar")));
  });

  test("another configuration results in another ID", async () => {
    const root = await exampleTree("c");
    const first = await writeImageArchive(join(folder, "c1.tar"), image(root));
    const second = await writeImageArchive(join(folder, "c2.tar"), {
      ...image(root),
      config: { Entrypoint: ["/bin/other"] },
    });
    expect(second.id).not.toBe(first.id);
  });

  test("tar reads the requested owners, modes, links and folders", async () => {
    const out = join(folder, "d.tar");
    await writeImageArchive(out, image(await exampleTree("d")));
    const manifest = JSON.parse(await must(["tar", "-xOf", out, "manifest.json"])) as {
      RepoTags: string[];
      Layers: string[];
    }[];
    expect(manifest[0]!.RepoTags).toEqual(["conveyor.invalid/example:1"]);
    const listings: string[] = [];
    for (const layer of manifest[0]!.Layers) {
      await must(["tar", "-xf", out, "-C", folder, layer]);
      listings.push(await must(["tar", "--numeric-owner", "-tvf", join(folder, layer)]));
    }
    expect(listings[0]).toMatch(/-rw-r----- 10001\/10001 +6 1970-01-01 \d\d:\d\d opt\/etc\/hello/);
    expect(listings[0]).toContain("opt/etc/link -> ../etc/hello");
    expect(listings[1]).toMatch(/drwxr-xr-x 0\/0 .* bin\/\n/);
    expect(listings[1]).toMatch(/-rwxr-xr-x 0\/0 +700 .* bin\/app/);
  });

  test("a failure leaves no file", async () => {
    const place = join(folder, "failed");
    const broken = { ref: "x:1", layers: [{ kind: "files" as const, files: [{ path: "a" }] }], config: {} };
    await expect(writeImageArchive(join(place, "x.tar"), broken)).rejects.toThrow("exactly one of from, content");
    expect((await must(["ls", "-A", place])).trim()).toBe("");
  });
});
