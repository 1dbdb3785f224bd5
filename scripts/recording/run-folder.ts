/** The folder of one run of a load test or of drills, outputs/runs/<id>/. */

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomic } from "../cli/files.ts";
import { RUN_KINDS, type RunKind, type RunResult } from "./result.ts";

export const RUNS_FOLDER = join(import.meta.dir, "../../outputs/runs");
/** Bound on runs that start within one second; they get a number after their name. */
const MAX_IN_ONE_SECOND = 100;

export interface RunFolder {
  /** "20261125T071500Z-load-test". */
  readonly id: string;
  readonly folder: string;
  path(name: string): string;
  /** Writes a JSON document atomically. @returns its path. */
  writeJson(name: string, value: unknown): Promise<string>;
  /** Writes a text atomically. @returns its path. */
  writeText(name: string, text: string): Promise<string>;
}

/**
 * Creates the folder of a run.
 * @param now milliseconds since 1970
 * @throws Error when all names of this second are taken.
 */
export async function createRun(kind: RunKind, now: number, root = RUNS_FOLDER): Promise<RunFolder> {
  const stamp = new Date(now)
    .toISOString()
    .replace(/\.\d+Z$/, "Z")
    .replace(/[-:]/g, "");
  await mkdir(root, { recursive: true });
  for (let attempt = 1; attempt <= MAX_IN_ONE_SECOND; attempt++) {
    const id = `${stamp}-${kind}${attempt === 1 ? "" : `-${attempt}`}`;
    try {
      await mkdir(join(root, id));
    } catch (error) {
      if ((error as { code?: string }).code === "EEXIST") continue;
      throw error;
    }
    return openRun(id, root);
  }
  throw new Error(`outputs/runs: ${MAX_IN_ONE_SECOND} runs of ${kind} began in the second ${stamp}`);
}

/** The result of a run from its result.json; undefined when the file is missing or not a run result. */
export async function readResult(path: string): Promise<RunResult | undefined> {
  const result = (await Bun.file(path)
    .json()
    .catch(() => undefined)) as RunResult | undefined;
  return result?.facts && RUN_KINDS.includes(result.facts.kind) ? result : undefined;
}

/** The folder of an existing run. */
export function openRun(id: string, root = RUNS_FOLDER): RunFolder {
  const folder = join(root, id);
  const path = (name: string) => join(folder, name);
  const writeText = async (name: string, text: string) => {
    await writeAtomic(path(name), text);
    return path(name);
  };
  return {
    id,
    folder,
    path,
    writeText,
    writeJson: (name, value) => writeText(name, `${JSON.stringify(value)}\n`),
  };
}
