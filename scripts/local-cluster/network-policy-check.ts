/**
 * Proof that network policies are enforced: in a throw-away namespace one pod reaches another; after a policy that
 * denies everything it no longer does. A cluster that accepts policies without enforcing them looks just like one that
 * enforces them, so this is tried and not assumed.
 */

import { EXIT, OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import type { Cluster, KubernetesObject, Pod } from "../cluster/cluster.ts";
import { SYSTEM_IMAGES } from "./addons.ts";

const NAMESPACE = "conveyor-policy-proof";
const PORT = 8080;
/** Two pods of images that are there. */
const PODS_LIMIT_MS = 60_000;
/** The first connection: the pod may be Running a moment before its program listens. */
const OPEN_LIMIT_MS = 15_000;
/** The controller looks at new policies at once; under load within a second or two. */
const DENIED_LIMIT_MS = 30_000;
/** A connection that is not answered within this counts as denied; an open one is answered within a millisecond. */
const DIAL_LIMIT_MS = 1_000;
/** Denied this often in a row, so that one slow moment is not taken for a policy. */
const DENIED_TIMES = 2;
/** Removing the namespace with two pods that end at once. */
const REMOVE_LIMIT_MS = 60_000;

export interface PolicyCheck {
  /** What the client saw before the policy, and after it. */
  before: string;
  after: string;
  /** From applying the policy to the first denied connection. */
  denied_after_ms: number;
}

const pod = (name: string): KubernetesObject => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: NAMESPACE, labels: { "app.kubernetes.io/name": name } },
  spec: {
    terminationGracePeriodSeconds: 0,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: "RuntimeDefault" } },
    containers: [
      {
        name: "netprobe",
        image: SYSTEM_IMAGES.netprobe.ref,
        imagePullPolicy: "Never",
        args: ["serve", `:${PORT}`],
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        },
      },
    ],
  },
});

async function removeNamespace(cluster: Cluster): Promise<void> {
  await cluster.kubectl(
    ["delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", `--timeout=${REMOVE_LIMIT_MS / 1000}s`],
    { timeoutMs: REMOVE_LIMIT_MS + 5_000 },
  );
}

/**
 * Shows that a denied connection is denied, and removes what it made.
 * @throws OperatorError: exit 4 when something awaited did not happen, exit 1 when the denied connection stays open
 */
export async function checkPolicyEnforcement(
  cluster: Cluster,
  update: (detail: string) => void,
  signal?: AbortSignal,
): Promise<PolicyCheck> {
  await removeNamespace(cluster); // of a run that was killed
  try {
    update("starting two pods");
    await cluster.apply(
      [{ apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } }],
      signal ? { signal } : {},
    );
    const made = await cluster.kubectl(["create", "-f", "-"], {
      input: JSON.stringify({ apiVersion: "v1", kind: "List", items: [pod("client"), pod("server")] }),
      allowFailure: true,
      ...(signal ? { signal } : {}),
    });
    // A new namespace has its default service account a moment later.
    if (made.exitCode !== 0 && !/serviceaccount .*not found/i.test(made.stderr))
      throw new OperatorError(made.stderr.trim());
    const address = await waitFor(
      async () => {
        const pods = await cluster.list<Pod>("pods", undefined, NAMESPACE);
        if (pods.length < 2) {
          await cluster.apply([pod("client"), pod("server")], signal ? { signal } : {});
          return { done: false, state: "the namespace has no service account yet" };
        }
        const states = pods.map((each) => {
          const container = each.status.containerStatuses?.[0];
          return `${each.metadata.name} ${container?.state.waiting?.reason ?? each.status.phase}`;
        });
        const running = pods.every((each) => each.status.containerStatuses?.[0]?.state.running && each.status.podIP);
        const server = pods.find((each) => each.metadata.name === "server");
        if (running && server?.status.podIP) return { done: true, value: server.status.podIP };
        return { done: false, state: states.join(", ") };
      },
      { what: "two pods for the proof of network policies", limitMs: PODS_LIMIT_MS, intervalMs: 150, signal },
    );
    const dial = async () => {
      const command = ["/netprobe", "dial", `${address}:${PORT}`, `${DIAL_LIMIT_MS}ms`];
      const { stdout, stderr, exitCode } = await cluster.exec("client", command, {
        namespace: NAMESPACE,
        ...(signal ? { signal } : {}),
      });
      const said = stdout.trim();
      // exit 1 with a reason is netprobe's own answer; anything else is a failed exec and says nothing about policies.
      if (exitCode !== 0 && said === "") throw new Error(`exec in the pod failed: ${stderr.trim()}`);
      return { open: exitCode === 0 && said === "open", said };
    };
    update("an allowed connection");
    const before = await waitFor(
      async () => {
        const { open, said } = await dial();
        return open ? { done: true, value: said } : { done: false, state: said };
      },
      { what: "a connection between two pods without any policy", limitMs: OPEN_LIMIT_MS, signal },
    );
    update("the same one, denied");
    const policy = {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: "deny-all", namespace: NAMESPACE },
      spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] },
    };
    await cluster.apply([policy], signal ? { signal } : {});
    const startedAt = performance.now();
    let deniedAfterMs = 0;
    let denied = 0;
    const after = await waitFor(
      async () => {
        const { open, said } = await dial();
        if (open) denied = 0;
        else if (++denied === 1) deniedAfterMs = Math.round(performance.now() - startedAt);
        return denied >= DENIED_TIMES ? { done: true, value: said } : { done: false, state: said };
      },
      { what: "a denied connection to be denied", limitMs: DENIED_LIMIT_MS, intervalMs: 100, signal },
    ).catch((error: unknown) => {
      if (signal?.aborted) throw error;
      throw new OperatorError("network policies are not enforced: a denied connection between two pods stays open", {
        exitCode: EXIT.failed,
        cause: error,
      });
    });
    // Denied, and not merely gone: the server still answers itself.
    const self = await cluster.exec("server", ["/netprobe", "dial", `127.0.0.1:${PORT}`, `${DIAL_LIMIT_MS}ms`], {
      namespace: NAMESPACE,
      ...(signal ? { signal } : {}),
    });
    if (self.stdout.trim() !== "open") {
      throw new OperatorError(
        `the proof of network policies proves nothing: its server ended (${self.stdout.trim() || self.stderr.trim()})`,
      );
    }
    return { before, after, denied_after_ms: deniedAfterMs };
  } finally {
    await removeNamespace(cluster).catch(() => {});
  }
}
