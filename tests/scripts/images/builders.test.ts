import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OperatorError } from "../../../scripts/cli/errors.ts";
import { chooseBuilder, isLoopback, registryHost } from "../../../scripts/images/builders.ts";

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

test("isLoopback is true only for a registry of this machine", () => {
  for (const host of ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"]) {
    expect(isLoopback(host)).toBe(true);
  }
  for (const host of ["registry.lan", "128.0.0.1:5000", "localhost.evil.example", "127.0.0.1.example:80", "[::2]"]) {
    expect(isLoopback(host)).toBe(false);
  }
  expect(registryHost("127.0.0.1:5000/belts/x:1")).toBe("127.0.0.1:5000");
});
