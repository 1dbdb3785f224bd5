/**
 * The case of a user with kubectl alone: Secrets, the overlay `small`, validate; then a deploy over it, and the rendered files
 * of the deploy compared with the cluster.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { OperatorError } from "../cli/errors.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { awaitRollout } from "../cluster/rollout.ts";
import { ensureCertificates } from "../deploy/certificates.ts";
import { imagesOf, MANIFEST_FOLDER } from "../deploy/manifests.ts";
import { fillSecrets } from "../deploy/secrets.ts";
import { loadStages } from "../deploy/stages.ts";
import type { Case, Step, StepOutcome } from "./case.ts";
import { commandStep, DOWN, UP } from "./commands.ts";
import { optionalRows } from "./variants.ts";

/** Everything starts at once, and pods restart until those that they need answer: 3 min on two idle cores. */
const APPLY_LIMIT_MS = 15 * 60_000;
const DIFF_LIMIT_MS = 2 * 60_000;
/** The field manager of deploy, so that both own the same fields. */
const MANAGER = ["--server-side", "--force-conflicts", "--field-manager", "conveyor-deploy"];
/** Workloads of the overlay. */
const WORKLOADS = {
  StatefulSet: ["kafka", "influxdb", "producer", "alertmanager"],
  Deployment: ["processor", "lag-exporter", "prometheus", "kube-state-metrics"],
} as const;

/** Applies the Secrets as users make them: certificates from files, random values. */
async function applySecrets(cluster: Cluster, folder: string, signal: AbortSignal): Promise<void> {
  await ensureCertificates(folder);
  const objects = (await loadStages()).filter(({ name }) => ["secrets", "metrics"].includes(name));
  const secrets = objects.flatMap((stage) => stage.objects).filter(({ kind }) => kind === "Secret");
  const file = async (name: string) => await readFile(join(folder, name), "utf8").catch(() => undefined);
  await cluster.apply(await fillSecrets(secrets, { file, live: async () => undefined }), { signal });
}

/** @param folder for certificates and rendered files; removed by the caller */
export async function kubectlCase(cluster: Cluster, folder: string): Promise<Case> {
  const [certs, rendered] = [join(folder, "certs"), join(folder, "rendered")];
  const inOverlay = (await loadStages()).filter(({ name, optional }) => !optional || name === "metrics");
  const images = imagesOf(inOverlay.flatMap(({ objects }) => objects));
  const overlay = join(MANIFEST_FOLDER, "overlays/small");
  const applied = async (path: string, signal: AbortSignal) =>
    await cluster.kubectl(["apply", ...MANAGER, "-k", path], { signal, timeoutMs: DIFF_LIMIT_MS });
  const apply: Step = {
    name: "apply",
    command: "kubectl apply --server-side -k k8s/overlays/small",
    limitMs: APPLY_LIMIT_MS,
    async run(signal) {
      await applied(join(MANIFEST_FOLDER, "foundation"), signal);
      await applySecrets(cluster, certs, signal);
      await applied(overlay, signal);
      const limits = { limitMs: APPLY_LIMIT_MS, signal, namespace: NAMESPACE };
      for (const kind of ["StatefulSet", "Deployment"] as const) {
        await Promise.all(WORKLOADS[kind].map((name) => awaitRollout(cluster, kind, name, limits)));
      }
      return { ok: true, detail: "" };
    },
  };
  const diff: Step = {
    name: "diff",
    command: "bun scripts/deploy.ts --local --render DIR; kubectl diff --server-side -k DIR",
    limitMs: DIFF_LIMIT_MS,
    async run(signal): Promise<StepOutcome> {
      const { exitCode, stdout, stderr } = await cluster.kubectl(["diff", ...MANAGER, "-k", rendered], {
        signal,
        timeoutMs: DIFF_LIMIT_MS,
        allowFailure: true,
      });
      // 1: differences; more: kubectl failed.
      if (exitCode > 1) throw new OperatorError(`kubectl diff failed (exit ${exitCode}): ${stderr.trim()}`);
      return { ok: exitCode === 0, detail: stdout.trim() };
    },
  };
  const rows = (stdout: string) => ({ optional: optionalRows(stdout) });
  return {
    name: "kubectl",
    title: "kubectl apply -k k8s/overlays/small, then a deploy over it, then its rendered files",
    steps: [
      UP,
      commandStep("images", ["build-images.ts", "--local", ...images]),
      apply,
      commandStep("validate", ["validate.ts", "--local"], undefined, rows),
      commandStep("deploy", ["deploy.ts", "--local", "--certs", certs]),
      commandStep("deploy", ["deploy.ts", "--local", "--render", rendered]),
      diff,
      commandStep("destroy", ["destroy.ts", "--local", "--yes"]),
    ],
    removal: DOWN,
  };
}
