/**
 * Writes the dashboards of Grafana from their source in scripts/dashboards/.
 *
 *   bun scripts/dashboards.ts            writes k8s/grafana/dashboards/*.json and the ConfigMap with them
 *   bun scripts/dashboards.ts --check    says which files differ from the source, and writes nothing
 */

import { join } from "node:path";
import { runCommand } from "./cli/command.ts";
import { EXIT } from "./cli/errors.ts";
import { writeAtomic } from "./cli/files.ts";
import { dashboardFiles } from "./dashboards/files.ts";

const PROJECT = join(import.meta.dir, "..");

/** Paths below the project whose content is not what the source gives. */
export async function staleDashboards(project = PROJECT): Promise<string[]> {
  const stale: string[] = [];
  for (const [path, content] of dashboardFiles()) {
    const file = Bun.file(join(project, path));
    if (!(await file.exists()) || (await file.text()) !== content) stale.push(path);
  }
  return stale;
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/dashboards.ts",
      summary: "writes the dashboards of Grafana from their source",
      usage: ["[--check]"],
      flags: { check: { type: "boolean", description: "write nothing; exit 5 when a file differs from the source" } },
      examples: [["bun scripts/dashboards.ts", "after a change in scripts/dashboards/"]],
    },
    async ({ flags, report }) => {
      const stale = await staleDashboards();
      const files = dashboardFiles();
      if (!flags.check) {
        for (const path of stale) {
          await writeAtomic(join(PROJECT, path), files.get(path)!);
        }
      }
      report.result({ files: files.size, [flags.check ? "stale" : "written"]: stale });
      for (const path of stale) report.print(`${path}: ${flags.check ? "differs from the source" : "written"}`);
      if (stale.length === 0) report.print(`${files.size} files are what the source gives`);
      return flags.check && stale.length > 0 ? EXIT.violations : EXIT.ok;
    },
  );
}
