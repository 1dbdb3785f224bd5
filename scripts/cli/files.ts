/** Files that are read by a program while they are written: whole or not at all, and only touched when they change. */
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";

/** Writes a file, by default for its owner alone, unless it already has this text. */
export async function writeFileAtomic(path: string, text: string, mode = 0o600): Promise<void> {
  if ((await readFile(path, "utf8").catch(() => undefined)) === text) return;
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.new`, text, { mode });
  await rename(`${path}.new`, path);
}
