/**
 * Parts: programs and folders that are built once per machine and kept in the user's cache folder, keyed by name,
 * version and a hash of the recipe. A part is complete or absent: it is built in a temporary folder, then renamed. After an
 * interrupt the next run continues with what the tools keep (Go's build cache, `context.work`). A lock prevents two runs from
 * building the same part at once.
 */
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OperatorError } from "../cli/errors.ts";
import { cacheFolder } from "../cli/paths.ts";
import type { Report } from "../cli/report.ts";
import { missingTools, type Tool, toolsError } from "../cli/tools.ts";
import { takeLock } from "./lock.ts";

/** Another run may be building the same part: the time of the slowest part on a slow machine. */
const LOCK_LIMIT_MS = 40 * 60_000;
/** Hex digits of the recipe's hash in a folder's name: enough to tell recipes apart. */
const KEY_DIGITS = 12;
/** Written last into a finished part. */
const STAMP = ".part.json";

export interface BuildContext {
  /** File for the output of the tools; named in the error when the build fails. */
  log: string;
  /** Folder that an interrupted build of this part keeps; removed when it is done. */
  work: string;
  signal: AbortSignal;
  /** Detail for the progress line. */
  update(detail: string): void;
}

export interface Part {
  name: string;
  version: string;
  /** Everything whose change requires another build: commands, lock files, sources. */
  recipe: string;
  requires: Tool[];
  /** Fills `out`, an empty folder; called under the part's lock. */
  build(out: string, context: BuildContext): Promise<void>;
}

const partsFolder = () => join(cacheFolder(), "parts");

/** Folder name of a part: changes with name, version and recipe. */
export function partKey(part: Pick<Part, "name" | "version" | "recipe">): string {
  const hash = new Bun.CryptoHasher("sha256").update(`${part.name}\n${part.version}\n${process.arch}\n${part.recipe}`);
  return `${part.name}-${part.version}-${hash.digest("hex").slice(0, KEY_DIGITS)}`.replaceAll(/[^\w.+-]/g, "_");
}

/** Folder of a part, built or not. */
export const partDir = (part: Pick<Part, "name" | "version" | "recipe">): string => join(partsFolder(), partKey(part));

/** True when the part is built. */
export async function isBuilt(part: Pick<Part, "name" | "version" | "recipe">): Promise<boolean> {
  return await stat(join(partDir(part), STAMP)).then(
    () => true,
    () => false,
  );
}

/**
 * Builds a part unless it is built, with one progress line.
 * @returns the part's folder
 * @throws OperatorError: exit 3 with every missing tool; otherwise the failure with the end of the log
 */
export async function ensurePart(part: Part, report: Report, signal?: AbortSignal): Promise<string> {
  const place = partDir(part);
  if (await isBuilt(part)) return place;
  const missing = await missingTools(part.requires);
  if (missing.length > 0) throw toolsError(`${part.name} ${part.version} cannot be built`, missing);
  return await report.step(`build ${part.name} ${part.version}`, async (step) => {
    const lock = await takeLock(join(cacheFolder(), "locks", `${part.name}.lock`), {
      what: `build of ${part.name}`,
      limitMs: LOCK_LIMIT_MS,
      signal,
      onWait: (holder) => step.update(`${holder} is building it`),
    });
    try {
      if (await isBuilt(part)) return place;
      await buildUnderLock(part, place, signal ?? new AbortController().signal, (detail) => step.update(detail));
      step.update("");
      return place;
    } finally {
      lock.release();
    }
  });
}

/** Removes builds of a part in other versions or by other recipes; some have hundreds of megabytes. */
export async function removeOlderBuilds(part: Pick<Part, "name" | "version" | "recipe">): Promise<void> {
  for (const folder of await readdir(partsFolder()).catch(() => [] as string[])) {
    if (folder === partKey(part) || folder.endsWith(".tmp")) continue;
    const stamp = await readFile(join(partsFolder(), folder, STAMP), "utf8").catch(() => undefined);
    if (stamp === undefined) continue;
    const built = JSON.parse(stamp) as { name?: string };
    if (built.name === part.name) await rm(join(partsFolder(), folder), { recursive: true, force: true });
  }
}

async function buildUnderLock(
  part: Part,
  place: string,
  signal: AbortSignal,
  update: (detail: string) => void,
): Promise<void> {
  const logs = join(cacheFolder(), "logs");
  const temporary = `${place}.tmp`;
  const work = join(cacheFolder(), "work", partKey(part));
  await mkdir(logs, { recursive: true });
  await mkdir(work, { recursive: true });
  // This process has the lock: the folders are of a run that has ended.
  await rm(temporary, { recursive: true, force: true });
  await rm(place, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  const log = join(logs, `${part.name}.log`);
  const startedAt = performance.now();
  await writeFile(log, `build of ${part.name} ${part.version}, ${new Date().toISOString()}\n`);
  try {
    await part.build(temporary, { log, work, signal, update });
    signal.throwIfAborted();
    if ((await readdir(temporary)).length === 0) {
      throw new OperatorError(`the build of ${part.name} ended without an error and without a result`, { hint: log });
    }
    const durationMs = Math.round(performance.now() - startedAt);
    await writeFile(
      join(temporary, STAMP),
      `${JSON.stringify({ name: part.name, version: part.version, duration_ms: durationMs })}\n`,
    );
    await rename(temporary, place);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
  await rm(work, { recursive: true, force: true });
}
