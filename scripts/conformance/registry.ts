/** A container registry on this machine, without TLS, for images that are pushed and pulled here. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { start } from "../cli/process.ts";
import { waitFor } from "../cli/wait.ts";
import { GO_TOOL, type GoBuild, goBuild, goRecipe, type Part, partDir } from "../local-cluster/index.ts";

/** It opens its port within milliseconds. */
const START_LIMIT_MS = 10_000;

const build = {
  module: join(import.meta.dir, "registry"),
  packages: ["."],
  cgo: false,
} satisfies Omit<GoBuild, "out">;

/** The registry of go-containerregistry. */
export const REGISTRY: Part = {
  name: "registry",
  version: "0.22.1",
  recipe: goRecipe(build, ["main.go"]),
  requires: [GO_TOOL],
  async build(out, context) {
    await goBuild({ ...build, out: join(out, "registry") }, context);
  },
};

/** Runs the built registry with its blobs in a folder. @throws OperatorError when it cannot listen on an address */
export async function startRegistry(folder: string, addresses: readonly string[]): Promise<AsyncDisposable> {
  await mkdir(folder, { recursive: true });
  const server = start([join(partDir(REGISTRY), "registry"), folder, ...addresses], { stdout: "ignore" });
  await waitFor(
    async () => {
      const answers = await Promise.all(
        addresses.map((address) => fetch(`http://${address}/v2/`).catch(() => undefined)),
      );
      return answers.every((answer) => answer?.ok)
        ? { done: true, value: true }
        : { done: false, state: server.stderr.trim() };
    },
    { what: "the registry to answer", limitMs: START_LIMIT_MS },
  );
  return server;
}
