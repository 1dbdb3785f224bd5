/**
 * Builds variants of the services with a seeded defect, by replacing text while the sources are bundled for a test. Text
 * that does not occur exactly once is an error, so that no test runs a program without its defect.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const SERVICES = join(import.meta.dir, "..", "..", "services");

export interface Patch {
  /** Below services/. */
  file: string;
  /** Text that occurs there exactly once. */
  was: string;
  becomes: string;
}

/**
 * Bundles a patched service into a folder, otherwise like services/bundle.ts.
 * @throws Error that names the file and the text when a patch does not apply.
 */
export async function buildVariant(folder: string, entry: string, patches: readonly Patch[]): Promise<void> {
  const applied = new Set<Patch>();
  const problems: string[] = [];
  const result = await Bun.build({
    entrypoints: [join(SERVICES, `${entry}.ts`)],
    outdir: folder,
    target: "bun",
    naming: "[name].js",
    plugins: [
      {
        name: "patches",
        setup(build) {
          build.onLoad({ filter: /[/\\]services[/\\].*\.ts$/ }, async ({ path }) => {
            let contents = await readFile(path, "utf8");
            for (const patch of patches) {
              if (path !== join(SERVICES, patch.file)) continue;
              const times = contents.split(patch.was).length - 1;
              if (times !== 1) {
                problems.push(
                  `services/${patch.file} must hold the changed place once; it does ${times} times: ${patch.was}`,
                );
              }
              contents = contents.replace(patch.was, () => patch.becomes);
              applied.add(patch);
            }
            return { contents, loader: "ts" };
          });
        },
      },
    ],
  });
  for (const patch of patches) {
    if (!applied.has(patch)) problems.push(`${entry} does not load services/${patch.file}`);
  }
  if (problems.length > 0) throw new Error(problems.join("; "));
  if (!result.success) throw new AggregateError(result.logs, `${entry} does not build`);
}
