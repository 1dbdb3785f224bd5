/**
 * Bundles the services for their image: one file per entry in services/dist; the same sources produce the same bytes.
 * build-images calls `bundle()` before it builds services/Dockerfile, so the build needs no packages and no network.
 */
import { mkdir, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";

export const ENTRIES = [
  "producer",
  "processor",
  "lag-exporter",
  "setup",
  "tools/probe",
  "tools/log-reader",
  "tools/observer",
  "tools/load-generator",
  "tools/relay",
  "liveness-worker",
] as const;
const DIST = join(import.meta.dir, "dist");

/**
 * Writes <folder>/<entry>.js, all or none; the folder is replaced.
 * @returns the paths. @throws with the bundler's messages when a source does not build.
 */
export async function bundle(folder = DIST): Promise<string[]> {
  const temporary = `${folder}.${process.pid}.tmp`;
  try {
    const result = await Bun.build({
      entrypoints: ENTRIES.map((entry) => join(import.meta.dir, `${entry}.ts`)),
      root: import.meta.dir,
      outdir: temporary,
      target: "bun",
      format: "esm",
      naming: "[name].js",
      // Readable stack traces matter more than a few kilobytes.
      minify: false,
      sourcemap: "none",
    });
    if (!result.success) throw new AggregateError(result.logs, "the services do not build");
    await rm(folder, { recursive: true, force: true });
    await mkdir(join(folder, ".."), { recursive: true });
    await rename(temporary, folder);
    return ENTRIES.map((entry) => join(folder, `${basename(entry)}.js`));
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

if (import.meta.main) for (const path of await bundle()) console.log(path);
