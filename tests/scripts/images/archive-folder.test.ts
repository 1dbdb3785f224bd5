import { describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { must } from "../../../scripts/cli/process.ts";
import {
  fullReference,
  imagesInIndex,
  scanArchives,
  withNamedArchive,
} from "../../../scripts/images/archive-folder.ts";
import { writeImageArchive } from "../../../scripts/local-cluster/index.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const folder = temporaryFolder();

const DIGEST = `sha256:${"a".repeat(64)}`;

async function saveImage(path: string, ref: string): Promise<string> {
  const layer = { kind: "files" as const, files: [{ path: "hello", content: "hello\n" }] };
  return (await writeImageArchive(path, { ref, layers: [layer], config: { Cmd: ["/hello"] } })).id;
}

/** An OCI layout as tar, with one manifest and the given annotations. */
async function saveOci(path: string, annotations: Record<string, string>): Promise<void> {
  const layout = await mkdtemp(join(folder, "layout-"));
  await mkdir(join(layout, "blobs/sha256"), { recursive: true });
  await writeFile(join(layout, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(layout, "index.json"), JSON.stringify({ manifests: [{ digest: DIGEST, annotations }] }));
  await must(["tar", "--create", "--file", path, "--directory", layout, "."]);
  await rm(layout, { recursive: true });
}

describe("fullReference", () => {
  test.each([
    ["influxdb:2.9.1", "docker.io/library/influxdb:2.9.1"],
    ["apache/kafka:4.3.1", "docker.io/apache/kafka:4.3.1"],
    ["docker.io/influxdb:2.9.1", "docker.io/library/influxdb:2.9.1"],
    ["index.docker.io/grafana/grafana:12", "docker.io/grafana/grafana:12"],
    ["quay.io/prometheus/prometheus:v3.5.3", "quay.io/prometheus/prometheus:v3.5.3"],
    ["registry.lan:5000/a/b", "registry.lan:5000/a/b:latest"],
    ["localhost/conveyor/services:1.0.0", "localhost/conveyor/services:1.0.0"],
    ["busybox", "docker.io/library/busybox:latest"],
    [`apache/kafka@${DIGEST}`, `docker.io/apache/kafka@${DIGEST}`],
  ])("%s is %s", (short, full) => {
    expect(fullReference(short)).toBe(full);
    expect(fullReference(full)).toBe(full);
  });
});

describe("imagesInIndex", () => {
  test("reads each image of a docker-archive by its tags, in both layouts of the configuration's path", () => {
    const members = new Map([
      [
        "manifest.json",
        JSON.stringify([
          { Config: `${"b".repeat(64)}.json`, RepoTags: ["influxdb:2.9.1", "mine/influxdb:1"] },
          { Config: `blobs/sha256/${"c".repeat(64)}`, RepoTags: ["apache/kafka:4.3.1"] },
          { Config: `${"d".repeat(64)}.json`, RepoTags: null },
        ]),
      ],
      // docker save writes both; the names are in manifest.json.
      ["index.json", JSON.stringify({ manifests: [{ digest: DIGEST }] })],
    ]);
    expect(imagesInIndex("x.tar", members).map(({ ref, id }) => [ref, id])).toEqual([
      ["docker.io/library/influxdb:2.9.1", `sha256:${"b".repeat(64)}`],
      ["docker.io/mine/influxdb:1", `sha256:${"b".repeat(64)}`],
      ["docker.io/apache/kafka:4.3.1", `sha256:${"c".repeat(64)}`],
    ]);
  });

  test("returns no name for an OCI index with a bare tag", () => {
    const index = { manifests: [{ digest: DIGEST, annotations: { "org.opencontainers.image.ref.name": "4.3.1" } }] };
    expect(imagesInIndex("x.tar", new Map([["index.json", JSON.stringify(index)]]))).toEqual([]);
  });
});

describe("scanArchives", () => {
  test("finds images by content, plain and compressed, and reports why each other file is not used", async () => {
    const dir = await mkdtemp(join(folder, "scan-"));
    const id = await saveImage(join(dir, "whatever-name.tar"), "docker.io/library/influxdb:2.9.1");
    await saveImage(join(dir, "kafka.tar"), "docker.io/apache/kafka:4.3.1");
    await must(["gzip", join(dir, "kafka.tar")]);
    await saveOci(join(dir, "oci.tar"), { "org.opencontainers.image.ref.name": "docker.io/grafana/loki:3" });
    await saveOci(join(dir, "tag-only.tar"), { "org.opencontainers.image.ref.name": "3" });
    await writeFile(join(dir, "noise.tar"), "this is no tar");
    await writeFile(join(dir, "empty.tar"), "");
    await writeFile(join(dir, "readme.txt"), "not an archive by name");
    const { images, unusable } = await scanArchives(dir);
    expect(images.map(({ ref, named }) => [ref, named])).toEqual([
      ["docker.io/apache/kafka:4.3.1", true],
      ["docker.io/grafana/loki:3", false],
      ["docker.io/library/influxdb:2.9.1", true],
    ]);
    expect(images.find(({ ref }) => ref.endsWith("influxdb:2.9.1"))?.id).toBe(id);
    expect(unusable.map(({ path, reason }) => [path.slice(dir.length + 1), reason])).toEqual([
      ["empty.tar", "has neither manifest.json nor index.json"],
      ["noise.tar", "has neither manifest.json nor index.json"],
      ["tag-only.tar", "does not name its image"],
    ]);
  });

  test("a missing folder is an error that names the flag", async () => {
    expect(scanArchives(join(folder, "nowhere"))).rejects.toThrow(/--images: must be a folder.*nowhere/);
  });
});

describe("withNamedArchive", () => {
  test("adds containerd's name to a copy of an OCI layout and does not change the file", async () => {
    const dir = await mkdtemp(join(folder, "named-"));
    const path = join(dir, "loki.tar");
    await saveOci(path, { "org.opencontainers.image.ref.name": "grafana/loki:3" });
    const [image] = (await scanArchives(dir)).images;
    const copied = await withNamedArchive(image!, async (copy) => {
      expect(copy).not.toBe(path);
      const index = JSON.parse(await must(["tar", "--extract", "--to-stdout", "--file", copy, "./index.json"]));
      expect(index.manifests[0].annotations["io.containerd.image.name"]).toBe("docker.io/grafana/loki:3");
      return copy;
    });
    expect(await Bun.file(copied).exists()).toBe(false);
    expect(await readdir(dir)).toEqual(["loki.tar"]);
    expect((await scanArchives(dir)).images[0]?.named).toBe(false);
  });
});
