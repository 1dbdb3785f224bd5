import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TerminalReport } from "../../../scripts/cli/report.ts";
import { ensureImages } from "../../../scripts/images/index.ts";
import { openTarget } from "../../../scripts/images/targets.ts";
import { writeImageArchive } from "../../../scripts/local-cluster/index.ts";

// kind's node image is in no package registry. Fake programs replace kind and the engine of its nodes: the tests cover the
// commands and the handling of their output, not kind itself.
describe("--kind", () => {
  const ref = "docker.io/conveyor/loaded:1.0.0";
  const before = { PATH: process.env.PATH, XDG_CACHE_HOME: process.env.XDG_CACHE_HOME };
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-kind-"));
    process.env.PATH = `${folder}:${process.env.PATH}`;
    process.env.XDG_CACHE_HOME = join(folder, "cache");
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
      await writeFile(join(folder, name), `#!/bin/sh\n${lines.join("\n")}\n`);
      await chmod(join(folder, name), 0o755);
    }
    const layer = { kind: "files" as const, files: [{ path: "hello", content: "hello\n" }] };
    await writeImageArchive(join(folder, "loaded.tar"), { ref, layers: [layer], config: {} });
  });
  afterAll(async () => {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    await rm(folder, { recursive: true, force: true });
  });

  const load = async () => {
    const silent = { write: () => {} };
    const report = new TerminalReport({ stdout: silent, stderr: silent });
    const [result] = await ensureImages({ kind: "kind", name: "dev" }, [ref], report, { imagesDir: folder });
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

  test("the error of an unknown cluster lists the existing ones", async () => {
    const error = await openTarget({ kind: "kind", name: "prod" }).catch((thrown) => thrown);
    expect(error.message).toBe('there is no kind cluster "prod"');
    expect(error.hint).toBe("existing clusters: dev");
    expect(error.exitCode).toBe(3);
  });
});
