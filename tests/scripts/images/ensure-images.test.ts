import { beforeAll, describe, expect, test } from "bun:test";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sha256OfFile } from "../../../scripts/cli/process.ts";
import { TerminalReport } from "../../../scripts/cli/report.ts";
import { imagesOf, loadManifests } from "../../../scripts/deploy/manifests.ts";
import { ARCHIVE_ONLY, BUN_IMAGE, CATALOG, METRICS_AGENT_IMAGE, recipeFor } from "../../../scripts/images/catalog.ts";
import {
  ensureImages,
  exitCodeFor,
  type ImageTarget,
  planImages,
  SERVICES_IMAGE,
  sourceOf,
} from "../../../scripts/images/index.ts";
import { KAFKA_VERSION } from "../../../scripts/images/kafka.ts";
import { OWN_IMAGES } from "../../../scripts/images/own-images.ts";
import { missingLibraries } from "../../../scripts/images/tree.ts";
import { writeImageArchive } from "../../../scripts/local-cluster/index.ts";
import { setEnvironment } from "../../environment.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const LOKI = "docker.io/grafana/loki:3.5.0";
const KAFKA = `docker.io/apache/kafka:${KAFKA_VERSION}`;

const folder = temporaryFolder();
const archives = temporaryFolder();
setEnvironment({ XDG_CACHE_HOME: join(folder, "cache") });
beforeAll(async () => {
  const layer = { kind: "files" as const, files: [{ path: "loki", content: "x" }] };
  await writeImageArchive(join(archives, "loki.tar"), { ref: LOKI, layers: [layer], config: {} });
  await writeFile(join(archives, "broken.tar"), "no tar");
});

function quietReport(): { report: TerminalReport; said: string[] } {
  const said: string[] = [];
  const writer = { write: (text: string) => said.push(text) };
  return { report: new TerminalReport({ stdout: writer, stderr: writer, color: false }), said };
}

describe("the catalog", () => {
  test("every image of the manifests is assembled, of this project, or in ARCHIVE_ONLY", async () => {
    const without = imagesOf(await loadManifests()).filter((ref) => ref !== SERVICES_IMAGE && !recipeFor(ref));
    expect(without.filter((ref) => !ARCHIVE_ONLY.some((start) => ref.startsWith(start)))).toEqual([]);
  });

  test("each reference is complete, pinned and listed once", () => {
    const refs = CATALOG.map(({ ref }) => ref);
    expect(new Set(refs).size).toBe(refs.length);
    for (const ref of refs) expect(ref).toMatch(/^[a-z0-9.]+\/[a-z0-9/._-]+:v?\d+\.\d+/);
  });

  test.each(OWN_IMAGES.map((image) => [image.dockerfile, image] as const))(
    "%s uses its base image, from a registry that can be replaced, and runs nothing of another platform",
    async (path, { base }) => {
      const dockerfile = await Bun.file(join(import.meta.dir, "../../..", path)).text();
      const instructions = [...dockerfile.matchAll(/^([A-Z]+)\s+(.+)$/gm)].map(([, name, value]) => `${name} ${value}`);
      expect(instructions.slice(0, 2)).toEqual([
        "ARG BASE_REGISTRY=docker.io",
        `FROM ${base.replace(/^docker\.io/, "$" + "{BASE_REGISTRY}")}`,
      ]);
      expect(instructions.filter((line) => /^(FROM|RUN|ADD) /.test(line))).toHaveLength(1);
    },
  );

  test("the services' base image is assembled where none can be pulled", () => {
    expect(OWN_IMAGES.find(({ ref }) => ref === SERVICES_IMAGE)?.base).toBe(BUN_IMAGE);
    expect(recipeFor(BUN_IMAGE)).toBeDefined();
  });

  test("a recipe's key changes only with its inputs", () => {
    expect(recipeFor(KAFKA)!.key()).toBe(recipeFor(KAFKA)!.key());
    expect(recipeFor(KAFKA)!.key()).not.toBe(recipeFor(BUN_IMAGE)!.key());
  });
});

describe("sourceOf", () => {
  const given = [{ ref: KAFKA, path: "kafka.tar", id: "sha256:1", named: true }];
  test("an archive from the user's folder has priority over every other source", () => {
    expect(sourceOf(`apache/kafka:${KAFKA_VERSION}`, "local", given)).toEqual({ via: "archive", image: given[0]! });
  });
  test("third-party images are assembled for the local cluster, elsewhere only with --assemble", () => {
    expect(sourceOf(KAFKA, "local", []).via).toBe("assemble");
    expect(sourceOf(KAFKA, "export", []).via).toBe("assemble");
    expect(sourceOf(KAFKA, "kind", []).via).toBe("left");
    expect(sourceOf(KAFKA, "registry", []).via).toBe("left");
    expect(sourceOf(KAFKA, "registry", [], { assemble: true }).via).toBe("assemble");
  });
  test("the services' image is built, for every target", () => {
    for (const kind of ["local", "kind", "registry", "export", "cache"] as const) {
      expect(sourceOf(SERVICES_IMAGE, kind, []).via).toBe("build");
    }
  });
  test("the metrics agent is built from its Dockerfile where base images are pulled, and otherwise assembled", () => {
    const agent = (kind: ImageTarget["kind"], options = {}) => sourceOf(METRICS_AGENT_IMAGE, kind, [], options).via;
    expect(["kind", "registry"].map((kind) => agent(kind as "kind"))).toEqual(["build", "build"]);
    expect(["local", "export", "cache"].map((kind) => agent(kind as "local"))).toEqual(Array(3).fill("assemble"));
    expect(agent("registry", { assemble: true })).toBe("assemble");
    expect(agent("export", { allowPull: true })).toBe("build");
  });
  test("a platform of the nodes is refused where only one image fits", async () => {
    const target = { kind: "export", dir: folder } as const;
    const platforms = ["linux/amd64", "linux/arm64"];
    for (const run of [
      () => planImages(target, [KAFKA], { platforms }),
      () => ensureImages(target, [KAFKA], quietReport().report, { platforms }),
    ]) {
      const error = await run().catch((thrown) => thrown);
      expect([error.exitCode, error.message]).toEqual([
        3,
        "the nodes have several platforms (linux/amd64, linux/arm64): only a registry can have an image for each",
      ]);
    }
  });
  test("a cluster without delivery pulls everything", () => {
    for (const ref of [SERVICES_IMAGE, KAFKA, LOKI]) expect(sourceOf(ref, "none", given).via).toBe("left");
  });
  test("an image without a recipe is missing on the local cluster and pulled by others", () => {
    expect(sourceOf(LOKI, "local", []).via).toBe("missing");
    expect(sourceOf(LOKI, "kind", []).via).toBe("left");
  });
});

describe("ensureImages", () => {
  test("uses an archive, and reports missing images with the next step and unused files", async () => {
    const { report, said } = quietReport();
    const dir = join(folder, "out");
    const refs = [LOKI, "docker.io/grafana/promtail:3.5.0", LOKI];
    const results = await ensureImages({ kind: "export", dir }, refs, report, { imagesDir: archives });
    expect(results.map(({ ref, action }) => [ref, action])).toEqual([
      [LOKI, "exported"],
      ["docker.io/grafana/promtail:3.5.0", "missing"],
    ]);
    expect(results[1]?.hint).toContain("--images DIR");
    expect(results[1]?.hint).toContain("docker save docker.io/grafana/promtail:3.5.0");
    expect(exitCodeFor(results)).toBe(3);
    expect(said.join("")).toContain("broken.tar: not used");
    expect(said.join("")).toContain(`loki.tar: ${LOKI}`);
    expect(await readdir(dir)).toEqual(["grafana-loki-3.5.0.tar"]);
    expect(await sha256OfFile(join(dir, "grafana-loki-3.5.0.tar"))).toBe(
      await sha256OfFile(join(archives, "loki.tar")),
    );
  });

  test("a dry run changes nothing", async () => {
    const dir = join(folder, "not-made");
    const plans = await planImages({ kind: "export", dir }, [LOKI, KAFKA], { imagesDir: archives });
    expect(plans.map(({ plan }) => plan)).toEqual([
      `from ${join(archives, "loki.tar")} to folder ${dir}`,
      `assemble from packages, to folder ${dir}`,
    ]);
    expect(await readdir(folder)).not.toContain("not-made");
  });

  test("exit code 0 when nothing is missing", () => {
    expect(exitCodeFor([{ ref: KAFKA, action: "left" }])).toBe(0);
  });
});

test("missingLibraries reads both formats of the loader's errors", () => {
  expect(missingLibraries("\tlibz.so.1 => not found\n\tlibc.so.6 => /lib/libc.so.6 (0x1)")).toEqual(["libz.so.1"]);
  const fatal = "java: error while loading shared libraries: libjli.so: cannot open shared object file";
  expect(missingLibraries(fatal)).toEqual(["libjli.so"]);
  expect(missingLibraries("\tstatically linked")).toEqual([]);
});
