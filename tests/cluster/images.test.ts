import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { must } from "../../scripts/cli/process.ts";
import { KAFKA_VERSION } from "../../scripts/images/kafka.ts";
import { writeImageArchive } from "../../scripts/local-cluster/index.ts";
import { cluster, describeOnCluster, newRun, scriptDocument } from "./harness.ts";

const LIMIT_MS = 120_000;

describeOnCluster("images on the local cluster", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-images-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  async function bring(...args: string[]): Promise<[ref: string, action: string][]> {
    const { images } = await scriptDocument<{ images: { ref: string; action: string }[] }>([
      "scripts/build-images.ts",
      "--local",
      ...args,
    ]);
    return images.map(({ ref, action }) => [ref, action]);
  }

  test(
    "images of a deploy are present: none is built, assembled or imported",
    async () => {
      const refs = [
        `docker.io/apache/kafka:${KAFKA_VERSION}`,
        "docker.io/library/influxdb:2.9.1",
        "conveyor.invalid/services:1.0.0",
      ];
      expect(await bring(...refs)).toEqual(refs.map((ref) => [ref, "present"]));
    },
    LIMIT_MS,
  );

  test(
    "docker and OCI archives are imported under their names; unchanged ones are present",
    async () => {
      const content = newRun("archive");
      const docker = "conveyor.invalid/archived:1.0.0";
      const oci = "conveyor.invalid/archived-oci:1.0.0";
      const archive = join(folder, "docker.tar");
      const layers = [{ kind: "files" as const, files: [{ path: "content", content }] }];
      await writeImageArchive(archive, { ref: docker, layers, config: {} });
      await writeOci(archive, join(folder, "oci.tar"), oci);
      const args = ["--images", folder, docker, oci];
      expect(await bring(...args)).toEqual([
        [docker, "imported"],
        [oci, "imported"],
      ]);
      expect(await bring(...args)).toEqual([
        [docker, "present"],
        [oci, "present"],
      ]);
    },
    LIMIT_MS,
  );

  test(
    "Kafka's class-data archive matches the image: the broker starts with -Xshare:on",
    async () => {
      const command =
        'jars=$(printf ":%s" /opt/kafka/libs/*.jar); ' +
        `java -Xshare:on -XX:SharedArchiveFile=/opt/kafka/kafka.jsa -Xmx64m -cp "\${jars#:}" kafka.Kafka --version`;
      const local = await cluster();
      const exec = ["exec", "-n", "conveyor", "kafka-0", "-c", "kafka", "--", "bash", "-c", command];
      expect((await local.kubectl(exec, { timeoutMs: LIMIT_MS })).stdout).toContain(KAFKA_VERSION);
    },
    LIMIT_MS,
  );
});

/** Converts a docker-archive to an OCI layout in a tar, named only by the standard annotation, like skopeo. */
async function writeOci(dockerArchive: string, out: string, ref: string): Promise<void> {
  const read = (member: string) => must(["tar", "--extract", "--to-stdout", "--file", dockerArchive, member]);
  const [entry] = JSON.parse(await read("manifest.json")) as { Config: string; Layers: string[] }[];
  const layout = `${out}.layout`;
  await mkdir(join(layout, "blobs/sha256"), { recursive: true });
  const blob = async (mediaType: string, text: string) => {
    const digest = new Bun.CryptoHasher("sha256").update(text).digest("hex");
    await writeFile(join(layout, "blobs/sha256", digest), text);
    return { mediaType, digest: `sha256:${digest}`, size: Buffer.byteLength(text) };
  };
  const config = await blob("application/vnd.oci.image.config.v1+json", await read(entry!.Config));
  const layer = await blob("application/vnd.oci.image.layer.v1.tar", await read(entry!.Layers[0]!));
  const manifestType = "application/vnd.oci.image.manifest.v1+json";
  const document = { schemaVersion: 2, mediaType: manifestType, config, layers: [layer] };
  const manifest = await blob(manifestType, JSON.stringify(document));
  const annotations = { "org.opencontainers.image.ref.name": ref };
  await writeFile(join(layout, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  const index = { schemaVersion: 2, manifests: [{ ...manifest, annotations }] };
  await writeFile(join(layout, "index.json"), JSON.stringify(index));
  await must(["tar", "--create", "--file", out, "--directory", layout, "."]);
  await rm(layout, { recursive: true });
}
