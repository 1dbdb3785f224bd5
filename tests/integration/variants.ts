/**
 * The real services with one place changed: what a defect would look like in this very code. The change is made while
 * the sources are bundled for a test; a place that is no longer there is an error, so that a test cannot go on with a
 * program that has no defect.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const SERVICES = join(import.meta.dir, "..", "..", "services");

export interface Patch {
  /** Below services/. */
  file: string;
  /** Text that stands there exactly once. */
  was: string;
  becomes: string;
}

/**
 * Bundles a service with patches into a folder, as services/bundle.ts does without.
 * @throws Error that names the file and the place when a patch does not fit.
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
