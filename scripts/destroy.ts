/**
 * Takes the pipeline away again: everything that deploy applied, in the reverse order, and, with the volumes, its data.
 *
 *   bun scripts/destroy.ts --yes
 *   bun scripts/destroy.ts --keep-data --yes     keeps the volumes, and with them topics, groups, bucket and tokens
 *
 * The cluster itself stays; `bun scripts/local-cluster.ts down` takes the local one down.
 */
import { createInterface } from "node:readline/promises";
import { runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import type { Report } from "./cli/report.ts";
import { waitFor } from "./cli/wait.ts";
import { apiVersionsOf, type Cluster, type KubernetesObject, NAMESPACE } from "./cluster/cluster.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { deleteKedaObjects, KEDA_API } from "./deploy/keda.ts";
import { loadStages } from "./deploy/stages.ts";
import { localTarget } from "./local-cluster/index.ts";

/** Deleting pods takes their grace period (Kafka: a minute), volumes some seconds more. */
const DELETE_LIMIT_MS = 180_000;

/** Kinds that make pods. */
const WORKLOADS = "statefulsets,deployments,daemonsets,jobs";

/** Kinds that a delete of the namespace takes along; the rest is deleted by name. */
const CLUSTER_SCOPED = new Set(["Namespace", "ClusterRole", "ClusterRoleBinding", "PriorityClass", "StorageClass"]);

/** True when the namespace is there and deploy made it. @throws OperatorError when somebody else's is there. */
async function ownedNamespace(cluster: Cluster, name = NAMESPACE): Promise<boolean> {
  const namespace = await cluster.get<KubernetesObject>("namespace", name);
  if (!namespace) return false;
  if (namespace.metadata.labels?.["app.kubernetes.io/part-of"] !== "conveyor") {
    throw new OperatorError(`namespace ${name} was not made by this project (label app.kubernetes.io/part-of)`, {
      exitCode: EXIT.precondition,
      hint: "nothing was deleted",
    });
  }
  return true;
}

/** @throws OperatorError (exit 2) unless a person at a terminal types the context's name, or --yes was given. */
async function confirm(cluster: Cluster, what: string, yes: boolean, report: Report): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY || report.json) {
    throw new OperatorError(`destroy would delete ${what}; it wants --yes where nobody can be asked`, {
      exitCode: EXIT.usage,
      hint: "bun scripts/destroy.ts --dry-run shows what would go",
    });
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(`Delete ${what}? Type the context's name (${cluster.context}) to go on: `);
    if (answer.trim() !== cluster.context) {
      throw new OperatorError("not confirmed; nothing was deleted", { exitCode: EXIT.failed });
    }
  } finally {
    prompt.close();
  }
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/destroy.ts",
      summary: "takes the pipeline and its data away; the cluster stays",
      usage: ["[--keep-data] [--yes] [--dry-run]"],
      flags: {
        ...CLUSTER_FLAGS,
        yes: { type: "boolean", short: "y", description: "do not ask" },
        "keep-data": { type: "boolean", description: "keep the volumes and the Secrets that belong to their data" },
        "dry-run": { type: "boolean", description: "show what would be deleted, delete nothing" },
      },
      examples: [
        ["bun scripts/destroy.ts --dry-run", "what would go"],
        ["bun scripts/destroy.ts --yes", "everything of the pipeline, with its data"],
        ["bun scripts/local-cluster.ts down", "the local cluster itself"],
      ],
    },
    async ({ flags, report, signal }) => {
      const cluster = await selectCluster(flags, localTarget);
      report.info(`target: ${cluster.describe()}`);
      await requireReachable(cluster, signal);
      const there = await ownedNamespace(cluster);
      const apiVersions = await apiVersionsOf(cluster, signal);
      // What the API server does not know cannot be there, and kubectl would end with an error about it.
      const objects = (await loadStages())
        .flatMap((stage) => stage.objects)
        .filter(({ apiVersion }) => apiVersions.has(apiVersion))
        .reverse();
      if (!there) {
        report.result({ deleted: [], kept: [], unchanged: true });
        report.print(`nothing to delete: namespace ${NAMESPACE} is not there`);
        return EXIT.ok;
      }
      const claims = await cluster.list<KubernetesObject>("persistentvolumeclaims");
      const keep = flags["keep-data"];
      const data = `${claims.length} volume claims with their data`;
      if (flags["dry-run"]) {
        report.result({
          would_delete: objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`),
          keep_data: keep,
        });
        for (const { kind, metadata } of objects) report.print(`would delete ${kind}/${metadata.name}`);
        report.print(keep ? `would keep ${data}` : `would delete ${data}`);
        return EXIT.ok;
      }
      await confirm(cluster, keep ? "the pipeline (its data stays)" : `the pipeline and ${data}`, flags.yes, report);
      const deleted: string[] = [];
      if (apiVersions.has(KEDA_API)) {
        await report.step("end the autoscaling", async (step) => {
          // Before the pods that they scale, and while KEDA is there to let them go.
          const freed = await deleteKedaObjects(cluster, signal);
          step.update(
            freed.length === 0 ? "KEDA's objects are gone" : `KEDA did not answer; freed by hand: ${freed.join(", ")}`,
          );
        });
      }
      // Secrets hold the tokens and the cluster id that the kept data was made with: they go with the data only.
      const going = keep ? objects.filter(({ kind }) => kind !== "Namespace" && kind !== "Secret") : objects;
      if (keep) {
        await report.step("delete the workloads", async (step) => {
          const input = JSON.stringify({ apiVersion: "v1", kind: "List", items: going });
          await cluster.kubectl(["delete", "-f", "-", "--ignore-not-found", "--wait=true"], {
            input,
            signal,
            timeoutMs: DELETE_LIMIT_MS,
          });
          step.update(`${going.length} objects; ${data} stay`);
        });
      } else {
        // The pipeline's own, and the one of the log collector where it was deployed.
        const named = objects.filter(({ kind }) => kind === "Namespace").map(({ metadata }) => metadata.name);
        const namespaces: string[] = [];
        for (const name of named) if (await ownedNamespace(cluster, name)) namespaces.push(name);
        await report.step(
          "end the pods",
          async (step) => {
            // First, and awaited: a namespace that still has pods looks again only after half of their grace period.
            for (const name of namespaces) {
              await cluster.kubectl(
                ["delete", WORKLOADS, "--all", "-n", name, "--cascade=foreground", "--wait=true", "--ignore-not-found"],
                { signal, timeoutMs: DELETE_LIMIT_MS },
              );
              await cluster.kubectl(["delete", "pods", "--all", "-n", name, "--wait=true", "--ignore-not-found"], {
                signal,
                timeoutMs: DELETE_LIMIT_MS,
              });
            }
            step.update("each within its grace period");
          },
          { limitMs: DELETE_LIMIT_MS },
        );
        await report.step(
          `delete namespace ${namespaces.join(", ")}`,
          async (step) => {
            await cluster.kubectl(["delete", "namespace", ...namespaces, "--wait=false", "--ignore-not-found"], {
              signal,
            });
            await waitFor(
              async () => {
                const left = await Promise.all(namespaces.map((name) => cluster.get("namespace", name)));
                if (left.every((namespace) => !namespace)) return { done: true, value: true };
                const pods = await cluster.list<KubernetesObject>("pods");
                return { done: false, state: `${pods.length} pods left` };
              },
              {
                what: `namespace ${namespaces.join(", ")} to be gone`,
                limitMs: DELETE_LIMIT_MS,
                intervalMs: 500,
                signal,
                onState: step.update,
                hint: `kubectl --context ${cluster.context} get all,pvc -n ${NAMESPACE}`,
              },
            );
            step.update("pods, volumes and Secrets are gone");
          },
          { limitMs: DELETE_LIMIT_MS },
        );
        const shared = objects.filter(({ kind }) => CLUSTER_SCOPED.has(kind) && kind !== "Namespace");
        if (shared.length > 0) {
          const input = JSON.stringify({ apiVersion: "v1", kind: "List", items: shared });
          await cluster.kubectl(["delete", "-f", "-", "--ignore-not-found"], { input, signal });
        }
      }
      deleted.push(...going.map(({ kind, metadata }) => `${kind}/${metadata.name}`));
      report.result({ deleted, kept: keep ? claims.map(({ metadata }) => metadata.name) : [], unchanged: false });
      report.print(`deleted ${deleted.length} objects${keep ? `; kept ${data}` : ` and ${data}`}`);
      return EXIT.ok;
    },
  );
}
