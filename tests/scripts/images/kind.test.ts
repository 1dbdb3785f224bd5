import { beforeAll, describe, expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ensureImages, SERVICES_IMAGE } from "../../../scripts/images/index.ts";
import { openTarget } from "../../../scripts/images/targets.ts";
import { writeImageArchive } from "../../../scripts/local-cluster/index.ts";
import { setEnvironment } from "../../environment.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { silentReport } from "../cli/silent-report.ts";

// kind's node image is in no package registry. Fake programs replace kind and the engine of its nodes: the tests cover the
// commands and the handling of their output, not kind itself.
describe("--kind", () => {
  const ref = "conveyor.invalid/loaded:1.0.0";
  const folder = temporaryFolder();
  setEnvironment({ PATH: `${folder}:${process.env.PATH}`, XDG_CACHE_HOME: join(folder, "cache") });

  beforeAll(async () => {
    const programs = {
      kind: [
        `echo "kind $*" >> ${folder}/calls`,
        'case "$1 $2" in',
        '"get nodes") [ "$4" = dev ] && printf "dev-control-plane\\ndev-worker\\n" ;;',
        '"get clusters") echo dev ;;',
        `"load image-archive") touch ${folder}/loaded ;;`,
        "esac",
      ],
      docker: [
        `[ -e ${folder}/loaded ] || exit 1`,
        `[ -e ${folder}/worker-lost-it ] && [ "$2" = dev-worker ] && exit 1`,
        `echo '{"status":{"id":"sha256:${"e".repeat(64)}"}}'`,
      ],
    };
    for (const [name, lines] of Object.entries(programs)) {
      await writeFile(join(folder, name), `#!/bin/sh\n${lines.join("\n")}\n`, { mode: 0o755 });
    }
    const layer = { kind: "files" as const, files: [{ path: "hello", content: "hello\n" }] };
    await writeImageArchive(join(folder, "loaded.tar"), { ref, layers: [layer], config: {} });
  });

  const load = async () => {
    const target = { kind: "kind", name: "dev" } as const;
    const [result] = await ensureImages(target, [ref], silentReport(), { imagesDir: folder });
    return result?.action;
  };

  test("loads the archive once, and again when a node has lost the image", async () => {
    expect(await load()).toBe("imported");
    expect(await readFile(join(folder, "calls"), "utf8")).toContain(
      `kind load image-archive ${join(folder, "loaded.tar")} --name dev`,
    );
    expect(await load()).toBe("present");
    await writeFile(join(folder, "worker-lost-it"), "");
    expect(await load()).toBe("imported");
  });

  test("an own image is built from its Dockerfile, for a named platform, from a base image that docker may pull", async () => {
    // The store may have the base image of another platform, which a build without a platform would take.
    const docker = `case "$1" in
      info) echo 28.2.2 ;;
      build) echo "$*" >> ${folder}/builds ;;
      save) cp ${folder}/loaded.tar "$3" ;;
      exec) [ -e ${folder}/loaded ] && echo '{"status":{"id":"sha256:${"e".repeat(64)}"}}' ;;
    esac`;
    await writeFile(join(folder, "docker"), `#!/bin/sh\n${docker}\n`, { mode: 0o755 });
    const target = { kind: "kind", name: "dev" } as const;
    const mine = `linux/${process.arch === "x64" ? "amd64" : process.arch}`;
    for (const platforms of [undefined, ["linux/arm"]]) {
      const options = { baseRegistry: "mirror.lan/hub", ...(platforms ? { platforms } : {}) };
      const [result] = await ensureImages(target, [SERVICES_IMAGE], silentReport(), options);
      expect(result?.action).toBe("built");
    }
    const builds = (await readFile(join(folder, "builds"), "utf8")).trim().split("\n");
    expect(builds.map((line) => /--build-arg (\S+) --platform (\S+) /.exec(line)?.slice(1))).toEqual([
      ["BASE_REGISTRY=mirror.lan/hub", mine],
      ["BASE_REGISTRY=mirror.lan/hub", "linux/arm"],
    ]);
  });

  test("the error of an unknown cluster lists the existing ones", async () => {
    const error = await openTarget({ kind: "kind", name: "prod" }).catch((thrown) => thrown);
    expect(error.message).toBe('there is no kind cluster "prod"');
    expect(error.hint).toBe("existing clusters: dev");
    expect(error.exitCode).toBe(3);
  });
});
