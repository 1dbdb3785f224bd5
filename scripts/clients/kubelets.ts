/**
 * Whether Prometheus can read the kubelets, by the results of its scrapes. Prometheus itself is the probe: it has the
 * rights, the network policy and the TLS verification that count, and a cluster that becomes readable shows at once. A read
 * through the API server's node proxy would hide the certificate, which the API server does not verify by default.
 */
import { pause } from "../cli/wait.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { isPrometheusExternal, PrometheusReader, type Target } from "./prometheus.ts";

/** Prometheus' job of the kubelets; cAdvisor is a second path of theirs. */
export const KUBELET_JOB = "kubelet";

/** Errors of a certificate that the cluster's CA has not signed for the node's address. An expired one is not among them. */
const UNVERIFIABLE =
  /x509: (certificate signed by unknown authority|cannot validate certificate for \S+ because it doesn't contain any IP SANs|certificate is (not )?valid for |certificate relies on legacy Common Name field)/;

/** kubeadm, kind and minikube create such kubelets: https://github.com/kubernetes/kubeadm/issues/1602. */
const REMEDY =
  "to fix: serverTLSBootstrap: true in the kubelets' configuration, then approve their requests (kubectl get csr; kubectl certificate approve NAME)";

export interface KubeletState {
  /** Why the kubelets' metrics cannot be had on this cluster, with the remedy; undefined where they can be had. */
  problem?: string | undefined;
}

/** What the targets alone say: every kubelet presents a certificate that cannot be verified. */
export function unverifiableKubelets(targets: readonly Target[]): string | undefined {
  const kubelets = targets.filter(({ labels }) => labels.job === KUBELET_JOB);
  const isUnverifiable = ({ health, lastError }: Target) => health === "down" && UNVERIFIABLE.test(lastError);
  if (kubelets.length === 0 || !kubelets.every(isUnverifiable)) return undefined;
  const [error] = UNVERIFIABLE.exec(kubelets[0]!.lastError)!;
  return `the kubelets' certificates are not signed by the cluster's CA (kubeadm#1602, "${error.trim()}"): node and volume metrics are not available; ${REMEDY}`;
}

/**
 * The state of the kubelets; undefined while one of them is not scraped yet, or where Prometheus has none of their targets.
 * A kubelet that was readable before makes an unverifiable certificate a fault, and not a property of the cluster.
 */
export async function readKubelets(
  prometheus: Pick<PrometheusReader, "targets" | "query">,
  signal?: AbortSignal,
): Promise<KubeletState | undefined> {
  const targets = await prometheus.targets(signal);
  const kubelets = targets.filter(({ labels }) => labels.job === KUBELET_JOB);
  if (kubelets.length === 0 || kubelets.some(({ health }) => health === "unknown")) return undefined;
  const problem = unverifiableKubelets(targets);
  if (!problem) return {};
  // 15 days: Prometheus' retention.
  const [best] = await prometheus.query(`max(max_over_time(up{job="${KUBELET_JOB}"}[15d]))`, signal);
  return best && { problem: best.value === 0 ? problem : undefined };
}

/** The state of the kubelets on a cluster; undefined where Prometheus is absent or external, does not answer, or does not know yet. */
export async function kubeletsOf(cluster: Cluster, signal: AbortSignal): Promise<KubeletState | undefined> {
  if ((await isPrometheusExternal(cluster)) || !(await PrometheusReader.isDeployed(cluster))) return undefined;
  try {
    await using prometheus = await PrometheusReader.open(cluster);
    return await readKubelets(prometheus, signal);
  } catch {
    // A Prometheus that is down must not stop the deploy that repairs it.
    signal.throwIfAborted();
    return undefined;
  }
}

/** A target is first scraped within its interval of 15 s after discovery; a scrape may take 10 s. */
const FIRST_SCRAPE_LIMIT_MS = 60_000;
const POLL_MS = 2000;

/** Waits for the first scrape of every kubelet. @returns undefined where one is not scraped within a minute */
export async function awaitKubelets(cluster: Cluster, signal: AbortSignal): Promise<KubeletState | undefined> {
  const endMs = performance.now() + FIRST_SCRAPE_LIMIT_MS;
  for (;;) {
    const state = await kubeletsOf(cluster, signal);
    if (state || performance.now() >= endMs) return state;
    await pause(POLL_MS, signal);
  }
}
