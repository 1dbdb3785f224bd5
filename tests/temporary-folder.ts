/** A folder for the tests of one file. */
import { afterAll } from "bun:test";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A new folder that is removed after the last test of the file or group that calls this. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "conveyor-files-"));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
