/** VictoriaLogs' store and its log collector, from their Go module. */
import { join } from "node:path";
import { must } from "../cli/process.ts";
import { GO_TOOL, type GoBuild, goBuild, goRecipe, type Part } from "../local-cluster/index.ts";

export const VICTORIA_LOGS_VERSION = "1.52.1";
const MODULE = "github.com/VictoriaMetrics/VictoriaLogs";
const PROGRAMS = ["victoria-logs", "vlagent"] as const;

const build = {
  module: join(import.meta.dir, "victorialogs"),
  packages: PROGRAMS.map((name) => `${MODULE}/app/${name}`),
  cgo: false,
  variables: { "github.com/VictoriaMetrics/VictoriaMetrics/lib/buildinfo.Version": `v${VICTORIA_LOGS_VERSION}` },
} satisfies Omit<GoBuild, "out">;

/** The store `victoria-logs`, with its web interface, and the collector `vlagent`. */
export const VICTORIA_LOGS: Part = {
  name: "victorialogs",
  version: VICTORIA_LOGS_VERSION,
  recipe: goRecipe(build),
  requires: [GO_TOOL],
  async build(out, context) {
    await goBuild({ ...build, out: `${out}/` }, context);
    for (const name of PROGRAMS) await must([join(out, name), "-version"]);
  },
};
