/** prometheus-operator for servicemonitor.test.ts: built from its Go module, assembled into images under its own names. */
import { join } from "node:path";
import { must } from "../../scripts/cli/process.ts";
import type { Report } from "../../scripts/cli/report.ts";
import { assembled } from "../../scripts/images/catalog.ts";
import { BASE, program } from "../../scripts/images/layers.ts";
import {
  ensurePart,
  GO_TOOL,
  type GoBuild,
  goBuild,
  goModuleFolder,
  goRecipe,
  type Part,
} from "../../scripts/local-cluster/index.ts";

const VERSION = "0.93.1";
const MODULE = "github.com/prometheus-operator/prometheus-operator";
export const OPERATOR_IMAGE = `quay.io/prometheus-operator/prometheus-operator:v${VERSION}`;
export const RELOADER_IMAGE = `quay.io/prometheus-operator/prometheus-config-reloader:v${VERSION}`;

/** Kinds that the operator always watches; it does not start without any of the first five. */
const CRDS = [
  ...["prometheuses", "servicemonitors", "prometheusrules", "podmonitors", "probes"],
  ...["alertmanagers", "alertmanagerconfigs", "scrapeconfigs", "prometheusagents", "thanosrulers"],
];

const build = {
  module: join(import.meta.dir, "operator"),
  packages: [`${MODULE}/cmd/operator`, `${MODULE}/cmd/prometheus-config-reloader`],
  cgo: false,
} satisfies Omit<GoBuild, "out">;

const OPERATOR: Part = {
  name: "prometheus-operator",
  version: VERSION,
  recipe: JSON.stringify([goRecipe(build), CRDS]),
  requires: [GO_TOOL],
  async build(out, context) {
    await goBuild({ ...build, out: `${out}/` }, context);
    const source = await goModuleFolder(build.module, MODULE, context);
    const folder = join(source, "example/prometheus-operator-crd");
    const files = CRDS.map((name) => join(folder, `monitoring.coreos.com_${name}.yaml`));
    await must(["cp", "--no-preserve=mode", ...files, out]);
  },
};

/** Paths of the CRD files. */
export async function operatorCrds(report: Report): Promise<string[]> {
  const folder = await ensurePart(OPERATOR, report);
  return CRDS.map((name) => join(folder, `monitoring.coreos.com_${name}.yaml`));
}

/** Recipes of the operator's images. */
export const OPERATOR_RECIPES = [
  assembled(OPERATOR_IMAGE, [BASE, program(OPERATOR, "operator", "usr/bin/operator")], {
    Entrypoint: ["/bin/operator"],
  }),
  assembled(
    RELOADER_IMAGE,
    [BASE, program(OPERATOR, "prometheus-config-reloader", "usr/bin/prometheus-config-reloader")],
    {
      Entrypoint: ["/bin/prometheus-config-reloader"],
    },
  ),
];
