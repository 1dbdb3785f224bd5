import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OperatorError } from "../../../scripts/cli/errors.ts";
import { describeMissing } from "../../../scripts/cli/tools.ts";
import {
  type Builder,
  type BuilderName,
  type BuildRequest,
  chooseBuilder,
  isLoopback,
  missingBuilder,
  registryHost,
} from "../../../scripts/images/builders.ts";

let bin: string;
let path: string | undefined;
beforeEach(async () => {
  bin = await mkdtemp(join(tmpdir(), "conveyor-bin-"));
  path = process.env.PATH;
  process.env.PATH = bin;
});
afterEach(async () => {
  process.env.PATH = path;
  await rm(bin, { recursive: true, force: true });
});

async function program(name: string, script: string): Promise<void> {
  await writeFile(join(bin, name), `#!/bin/sh\n${script}\n`);
  await chmod(join(bin, name), 0o755);
}

const failure = (promise: Promise<unknown>): Promise<OperatorError> =>
  promise.then(
    () => {
      throw new Error("it was expected to fail");
    },
    (error) => error as OperatorError,
  );

describe("chooseBuilder", () => {
  test("without any tool: exit 3, one line per tool, and the package to install", async () => {
    const error = await failure(chooseBuilder());
    expect(error).toBeInstanceOf(OperatorError);
    expect(error.exitCode).toBe(3);
    for (const name of ["docker", "podman", "buildah"]) expect(error.message).toContain(`${name} is not installed`);
    expect(error.hint).toContain("buildah");
  });

  test("rejects a docker client without an engine, with its output", async () => {
    await program("docker", 'echo ""; echo "Cannot connect to the Docker daemon" >&2; exit 1');
    const error = await failure(chooseBuilder());
    expect(error.message).toContain("docker is installed but does not work: Cannot connect to the Docker daemon");
    await program("buildah", "echo {}");
    expect((await chooseBuilder()).name).toBe("buildah");
  });

  test("rejects a docker client that exits 0 without an engine's version", async () => {
    await program("docker", 'echo ""');
    expect((await failure(chooseBuilder())).message).toContain("docker is installed but does not work");
  });

  test("chooses the first tool that works, or only the requested one", async () => {
    await program("docker", "echo 28.2.2");
    await program("podman", "echo linux");
    expect((await chooseBuilder()).name).toBe("docker");
    expect((await chooseBuilder("podman")).name).toBe("podman");
    const error = await failure(chooseBuilder("buildah"));
    expect(error.message).toContain("buildah is not installed");
    expect(error.message).not.toContain("podman");
  });
});

describe("command lines", () => {
  const digest = `sha256:${"a".repeat(64)}`;
  const request: BuildRequest = {
    ref: "conveyor.invalid/x:1",
    context: "/context",
    dockerfile: "/Dockerfile",
    labels: { name: "value" },
    pull: true,
    base: "docker.io/library/base:1",
    platform: "linux/arm64",
    buildArguments: { BASE_REGISTRY: "mirror.lan" },
  };
  const flags =
    "--tag conveyor.invalid/x:1 --file /Dockerfile --label name=value --build-arg BASE_REGISTRY=mirror.lan --platform linux/arm64 /context";

  /** What a tool was called with after the global flags; its output is an info, a digest, and a file of the digest. */
  async function calls(name: BuilderName, work: (builder: Builder) => Promise<unknown>): Promise<string[]> {
    await program(
      name,
      `echo "$@" >> ${bin}/calls; echo ${digest}; while [ $# -gt 0 ]; do [ "$1" = --digestfile ] && echo ${digest} > "$2"; shift; done`,
    );
    const builder = await chooseBuilder(name);
    await writeFile(join(bin, "calls"), "");
    await work(builder);
    const lines = (await readFile(join(bin, "calls"), "utf8")).trim().split("\n");
    return lines.map((line) => line.replace(/^--root \S+ --runroot \S+ /, ""));
  }
  const run = () => ({ log: join(bin, "log") });

  test("a base image is pulled where the store lacks it, or never; the platform is that of the nodes", async () => {
    const build = (name: BuilderName, more: Partial<BuildRequest> = {}) =>
      calls(name, (builder) => builder.build({ ...request, ...more }, run()));
    expect(await build("docker")).toEqual([`build ${flags}`]);
    for (const [name, never] of [
      ["podman", "--pull=never"],
      ["buildah", "--pull-never"],
    ] as const) {
      expect(await build(name)).toEqual([`build --isolation chroot --timestamp 0 ${flags}`]);
      expect(await build(name, { pull: false })).toEqual([`build --isolation chroot --timestamp 0 ${never} ${flags}`]);
      // Only a registry of this machine is used without TLS.
      expect(await build(name, { base: "127.0.0.1:5000/library/base:1" })).toEqual([
        `build --isolation chroot --timestamp 0 --tls-verify=false ${flags}`,
      ]);
    }
  });

  test("docker builds one image, without the attestations that make it a list", async () => {
    await program("docker", `echo "$BUILDX_NO_DEFAULT_ATTESTATIONS" >> ${bin}/environment; echo 28.2.2`);
    await (await chooseBuilder("docker")).build(request, run());
    expect((await readFile(join(bin, "environment"), "utf8")).trim().split("\n").at(-1)).toBe("1");
  });

  test("images of several platforms are pushed as one list, whose digest is returned", async () => {
    const images = ["r.lan/x@sha256:1", "r.lan/x@sha256:2"];
    const found: (string | undefined)[] = [];
    const push = (name: BuilderName, target: string) =>
      calls(name, async (builder) => found.push(await builder.pushList(images, target, run())));
    expect(await push("docker", "r.lan/x:1")).toEqual([
      "manifest rm r.lan/x:1",
      "manifest create r.lan/x:1 r.lan/x@sha256:1 r.lan/x@sha256:2",
      "manifest push --purge r.lan/x:1",
    ]);
    expect((await push("docker", "localhost:5000/x:1"))[2]).toBe("manifest push --purge --insecure localhost:5000/x:1");
    const list = `localhost/conveyor-list:${process.pid}`;
    for (const name of ["podman", "buildah"] as const) {
      expect(await push(name, "r.lan/x:1")).toEqual([
        `manifest create ${list}`,
        `manifest add ${list} docker://r.lan/x@sha256:1`,
        `manifest add ${list} docker://r.lan/x@sha256:2`,
        `manifest push --digestfile ${join(bin, "log.digest")} ${list} docker://r.lan/x:1`,
        `manifest rm ${list}`,
      ]);
    }
    expect(found).toEqual(Array(4).fill(digest));
  });
});

test("missingBuilder names the package, and tools that are installed and do not work", async () => {
  expect(await missingBuilder()).toMatchObject({
    command: "buildah",
    aptPackage: "buildah netavark",
    brewPackage: "podman",
  });
  await program("docker", 'echo "Cannot connect to the Docker daemon" >&2; exit 1');
  expect(describeMissing([(await missingBuilder())!])).toEqual([
    "buildah is not installed, and docker is installed but does not work: Cannot connect to the Docker daemon: " +
      "builds and pushes the project's images (docker and podman do it too)",
  ]);
  await program("podman", "echo linux");
  expect(await missingBuilder()).toBeUndefined();
});

test("isLoopback is true only for a registry of this machine", () => {
  for (const host of ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"]) {
    expect(isLoopback(host)).toBe(true);
  }
  for (const host of ["registry.lan", "128.0.0.1:5000", "localhost.evil.example", "127.0.0.1.example:80", "[::2]"]) {
    expect(isLoopback(host)).toBe(false);
  }
  expect(registryHost("127.0.0.1:5000/belts/x:1")).toBe("127.0.0.1:5000");
});
