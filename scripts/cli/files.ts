/** Files that other programs read at any time: complete or absent. */
import { randomBytes } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";

/**
 * Lets `create` write a file under a temporary name in the same folder, then renames it. The temporary name has the same
 * extension, from which browsers and encoders choose the format. Creates the folder.
 */
export async function createAtomic(path: string, create: (temporary: string) => Promise<unknown>): Promise<void> {
  const extension = extname(path);
  const unique = `${process.pid}-${randomBytes(4).toString("hex")}`;
  const temporary = join(dirname(path), `.${basename(path, extension)}.${unique}.tmp${extension}`);
  await mkdir(dirname(path), { recursive: true });
  try {
    await create(temporary);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Writes a file under a temporary name, then renames it. Creates the folder. */
export async function writeAtomic(path: string, content: string | Uint8Array, mode = 0o666): Promise<void> {
  await createAtomic(path, (temporary) => writeFile(temporary, content, { mode }));
}

/** Like `writeAtomic`, by default for its owner alone; a file that has this text already is not touched. */
export async function writeIfChanged(path: string, text: string, mode = 0o600): Promise<void> {
  if ((await readFile(path, "utf8").catch(() => undefined)) !== text) await writeAtomic(path, text, mode);
}
