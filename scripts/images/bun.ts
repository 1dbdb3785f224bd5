/** The Bun binary of the project's npm package: commands and services run on the same one. */
import { copyFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { capture } from "../cli/process.ts";
import type { Part } from "../local-cluster/index.ts";

const BUN_VERSION = "1.4.5";
/** `bun --version` answers in milliseconds. */
const VERSION_LIMIT_MS = 10_000;

/** The binary of node_modules; otherwise the one that runs this program. */
async function bunBinary(): Promise<string> {
  const candidates = [join(import.meta.dir, "../../node_modules/.bin/bun"), process.execPath];
  const seen: string[] = [];
  for (const candidate of candidates) {
    const path = await realpath(candidate).catch(() => undefined);
    if (!path) continue;
    const { stdout } = await capture([path, "--version"], { timeoutMs: VERSION_LIMIT_MS });
    if (stdout.trim() === BUN_VERSION) return path;
    seen.push(`${path} is ${stdout.trim()}`);
  }
  throw new OperatorError(`bun: must be ${BUN_VERSION} for the services' image; ${seen.join(", ") || "none found"}`, {
    exitCode: EXIT.precondition,
    hint: "npm ci",
  });
}

export const bunPart: Part = {
  name: "bun",
  version: BUN_VERSION,
  recipe: "npm package, linux",
  requires: [],
  async build(out) {
    if (process.platform !== "linux") {
      throw new OperatorError("bun's image needs the Linux binary; this machine's npm package has another", {
        exitCode: EXIT.precondition,
        hint: "bun scripts/build-images.ts --allow-pull ...   (the tool pulls the base image of services/Dockerfile)",
      });
    }
    await copyFile(await bunBinary(), join(out, "bun"));
  },
};
