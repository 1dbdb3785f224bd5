/** Every case of a conformance run, by name. */
import type { Report } from "../cli/report.ts";
import { Cluster } from "../cluster/cluster.ts";
import { localTarget, VARIANT_NAMES } from "../local-cluster/index.ts";
import { deployFromBareWorkstation } from "./bare-workstation.ts";
import type { Case } from "./case.ts";
import { DOWN, LIMIT_MS, UP } from "./commands.ts";
import { externalPrometheusCase } from "./external-prometheus.ts";
import { externalStoresCase } from "./external-stores.ts";
import { kubectlCase } from "./kubectl-apply.ts";
import { variantCase } from "./variants.ts";

export const CASE_NAMES = [...VARIANT_NAMES, "kubectl", "workstation", "external", "prometheus"] as const;
export type CaseName = (typeof CASE_NAMES)[number];

/** From nothing, with a registry that other processes start. */
function workstationCase(report: Report): Case {
  return {
    name: "workstation",
    title: "a deploy from a root file system with Node.js, kubectl, openssl and buildah alone, without root",
    steps: [
      UP,
      {
        name: "deploy",
        command: "npx bun scripts/deploy.ts --context NAME --registry HOST/team --base-registry HOST",
        limitMs: LIMIT_MS.deploy,
        async run(signal) {
          const { checks } = await deployFromBareWorkstation(report, signal);
          const failed = checks.filter(({ status }) => status !== "passed");
          return { ok: failed.length === 0, detail: failed.map(({ title }) => title).join("; ") };
        },
      },
    ],
    removal: DOWN,
  };
}

async function makeCase(name: CaseName, folder: string, report: Report): Promise<Case> {
  const cluster = async () => {
    const { kubeconfig, kubectl } = await localTarget.locate();
    return new Cluster({ context: localTarget.context, kubeconfig, isLocal: true }, kubectl);
  };
  switch (name) {
    case "kubectl":
      return await kubectlCase(await cluster(), folder);
    case "workstation":
      return workstationCase(report);
    case "external":
      return externalStoresCase(await cluster(), folder);
    case "prometheus":
      return externalPrometheusCase(await cluster(), folder, report);
    default:
      return variantCase(name);
  }
}

/**
 * The case of a name.
 * @param folder for files of the case; its commands are shown with DIR in place of it
 */
export async function caseOf(name: CaseName, folder: string, report: Report): Promise<Case> {
  const made = await makeCase(name, folder, report);
  return { ...made, steps: made.steps.map((step) => ({ ...step, command: step.command.replaceAll(folder, "DIR") })) };
}
