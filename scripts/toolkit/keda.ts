/**
 * KEDA's own side of the pipeline's objects: it holds on to each of them until it has done its part, so where KEDA itself
 * is gone, or goes first, nobody lets go of them.
 */
import { type Cluster, type KubernetesObject, NAMESPACE } from "./cluster.ts";
import { OperatorError } from "./errors.ts";
import { waitFor } from "./wait.ts";

/** Group and version of ScaledObjects; on a cluster without it there is no KEDA. */
export const KEDA_API = "keda.sh/v1alpha1";

/** What deploy makes of KEDA's kinds; a ScaledObject first, since it uses the other. */
const KINDS = ["scaledobjects.keda.sh", "triggerauthentications.keda.sh"] as const;

/**
 * KEDA gives its objects free within a second. Where KEDA is gone or broken nobody does; then they are freed by hand, or
 * neither their namespace nor their kinds would ever go.
 */
const RELEASE_LIMIT_MS = 20_000;

/**
 * True while KEDA's kinds are being deleted, as `kubectl delete -f` of its release does together with everything that
 * would let them go: the API server still lists them, and nothing works on them.
 */
export async function isKedaLeaving(cluster: Cluster, signal: AbortSignal): Promise<boolean> {
  const args = ["get", "crd", KINDS[0], "--ignore-not-found", "-o", "jsonpath={.metadata.deletionTimestamp}"];
  // Who may not look at definitions is told nothing; what does not work is seen by validate.
  const { stdout, exitCode } = await cluster.kubectl(args, { signal, allowFailure: true });
  return exitCode === 0 && stdout.trim() !== "";
}

/** kubectl's words for a kind that went meanwhile, and with it all of its objects. */
const KIND_IS_GONE = /doesn't have a resource type|could not find the requested resource/;

/** Names of the pipeline's objects of one of KEDA's kinds. */
async function namesOf(cluster: Cluster, kind: string, signal: AbortSignal): Promise<string[]> {
  const { stdout, stderr, exitCode } = await cluster.kubectl(["get", kind, "-n", NAMESPACE, "-o", "json"], {
    signal,
    allowFailure: true,
  });
  if (exitCode === 0) {
    return (JSON.parse(stdout) as { items: KubernetesObject[] }).items.map(({ metadata }) => metadata.name);
  }
  if (KIND_IS_GONE.test(stderr)) return [];
  throw new OperatorError(`${kind} cannot be listed: ${stderr.trim()}`);
}

/**
 * Deletes the pipeline's objects of KEDA's kinds; while KEDA is there it lets them go.
 * @param limitMs how long KEDA is given
 * @returns those that it did not let go in time, and that were freed by hand
 * @throws OperatorError when one stays all the same
 */
export async function deleteKedaObjects(
  cluster: Cluster,
  signal: AbortSignal,
  limitMs = RELEASE_LIMIT_MS,
): Promise<string[]> {
  const freed: string[] = [];
  for (const kind of KINDS) {
    const list = () => namesOf(cluster, kind, signal);
    if ((await list()).length === 0) continue;
    // Both may fail because KEDA was quicker; what counts is what is left at the end.
    const tried = { signal, allowFailure: true };
    await cluster.kubectl(["delete", kind, "--all", "-n", NAMESPACE, "--wait=false"], tried);
    const stuck = await waitFor<string[]>(
      async () => {
        const left = await list();
        return left.length === 0
          ? { done: true, value: [] }
          : { done: false, state: `KEDA has not let go of ${left.join(", ")}` };
      },
      { what: `${kind} to be gone`, limitMs, intervalMs: 300, signal },
    ).catch(async (error: unknown) => {
      if (signal.aborted) throw error;
      return await list();
    });
    for (const name of stuck) {
      const patch = '{"metadata":{"finalizers":null}}';
      await cluster.kubectl(["patch", kind, name, "-n", NAMESPACE, "--type=merge", "-p", patch], tried);
      freed.push(`${kind.split(".")[0]}/${name}`);
    }
    const left = await list();
    if (left.length > 0) {
      throw new OperatorError(`${kind}: ${left.join(", ")} cannot be deleted`, {
        hint: `kubectl -n ${NAMESPACE} get ${kind} -o yaml   (metadata.finalizers says who holds on to it)`,
      });
    }
  }
  return freed;
}
