/** The cases on variants of the local cluster: deploy from nothing, validate, one drill, audit, destroy. */
import { capture } from "../cli/process.ts";
import { describeVariant, type VariantName } from "../local-cluster/index.ts";
import type { Case, OptionalRow } from "./case.ts";
import { commandStep, type Runner } from "./commands.ts";

/** Additional flags that a user of such a cluster needs: of deploy, and of every command. */
const FLAGS: Partial<Record<VariantName, { deploy: readonly string[]; every?: readonly string[] }>> = {
  kubeadm: { deploy: ["--storage-class", "standard"] },
  renamed: { deploy: ["--storage-class", "fast"], every: ["--namespace", "telemetry"] },
};

/** Rows that neither passed nor failed the validation: with exit 0 those are the optional ones. */
export function optionalRows(stdout: string): OptionalRow[] {
  const { checks } = JSON.parse(stdout) as { checks: { title: string; status: string; detail: string }[] };
  return checks.filter(({ status }) => status !== "passed").map(({ title, detail }) => ({ title, reason: detail }));
}

/** The case of a variant. */
export function variantCase(like: VariantName, run: Runner = capture): Case {
  const { deploy = [], every = [] } = FLAGS[like] ?? {};
  const target = ["--local", ...every];
  return {
    name: like,
    title: `local cluster --like ${like}: ${describeVariant(like)}`,
    steps: [
      commandStep("up", ["local-cluster.ts", "up", "--like", like], run),
      commandStep("deploy", ["deploy.ts", ...target, ...deploy], run),
      commandStep("validate", ["validate.ts", ...target], run, (stdout) => ({ optional: optionalRows(stdout) })),
      commandStep("drill", ["resilience-test.ts", ...target, "--only", "delete-processor"], run),
      commandStep("audit", ["audit.ts", ...target], run),
      commandStep("destroy", ["destroy.ts", ...target, "--yes"], run),
    ],
    removal: commandStep("down", ["local-cluster.ts", "down", "--delete-data"], run),
  };
}
