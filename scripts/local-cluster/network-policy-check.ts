/**
 * Checks that network policies are enforced: in a temporary namespace one pod reaches another; after a policy that denies
 * everything it no longer does. A cluster that accepts policies without enforcing them shows no other difference.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { writeIfChanged } from "../cli/files.ts";
import { waitFor } from "../cli/wait.ts";
import { SYSTEM_IMAGES } from "./addons.ts";
import { apply, type KubernetesObject, kubectl, listOf, tryKubectl } from "./kubectl.ts";
import type { Layout, NodeLayout } from "./layout.ts";
import { readPidFile } from "./processes.ts";

const NAMESPACE = "conveyor-policy-proof";
const PORT = 8080;
/** Two pods whose image is on the node. */
const PODS_LIMIT_MS = 60_000;
/** The first connection: a pod may be Running a moment before its program listens. */
const OPEN_LIMIT_MS = 15_000;
/** The controller applies a new policy at once, under load within a second or two. */
const DENIED_LIMIT_MS = 30_000;
/** A connection without an answer within this time counts as denied; an open one is answered within a millisecond. */
const DIAL_LIMIT_MS = 1_000;
/** Denied connections in a row, so that one slow moment does not count as a policy. */
const DENIED_TIMES = 2;
/** Removing the namespace with two pods that end at once. */
const REMOVE_LIMIT_MS = 60_000;

export interface PolicyCheck {
  /** What the client reported before the policy, and after it. */
  before: string;
  after: string;
  /** From applying the policy to the first denied connection. */
  denied_after_ms: number;
}

interface StoredCheck extends PolicyCheck {
  /** The process that was checked; another one is checked again. */
  enforcer: string;
}

const recordPath = (layout: Layout) => join(layout.state, "policy-proof.json");

/** The stored result of the last check. */
export async function readPolicyCheck(layout: Layout): Promise<StoredCheck | undefined> {
  try {
    return JSON.parse(await readFile(recordPath(layout), "utf8")) as StoredCheck;
  } catch {
    return undefined;
  }
}

/** Checks that policies are enforced, once for each start of the program that enforces them. */
export async function ensurePolicyCheck(
  layout: Layout,
  node: NodeLayout,
  update: (detail: string) => void,
  signal: AbortSignal | undefined,
): Promise<PolicyCheck> {
  const file = await readPidFile(layout.run, `${node.name}-network-policies`);
  const enforcer = `${file?.pid} ${file?.start_ticks} ${file?.boot_id}`;
  const stored = await readPolicyCheck(layout);
  if (stored?.enforcer === enforcer) return stored;
  const check = await checkPolicyEnforcement(update, signal);
  await writeIfChanged(recordPath(layout), `${JSON.stringify({ ...check, enforcer }, null, 2)}\n`);
  return check;
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

const DENY_ALL: KubernetesObject = {
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: "deny-all", namespace: NAMESPACE },
  spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] },
};

async function removeNamespace(): Promise<void> {
  await kubectl(
    ["delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", `--timeout=${REMOVE_LIMIT_MS / 1000}s`],
    { timeoutMs: REMOVE_LIMIT_MS + 5_000 },
  );
}

/**
 * Shows that a denied connection is denied, and removes what it created.
 * @throws OperatorError: exit 4 when a wait reached its limit, exit 1 when the denied connection stays open
 */
async function checkPolicyEnforcement(
  update: (detail: string) => void,
  signal: AbortSignal | undefined,
): Promise<PolicyCheck> {
  await removeNamespace(); // of an interrupted run
  try {
    update("starting two pods");
    const address = await startPods(signal);
    const target = `${address.includes(":") ? `[${address}]` : address}:${PORT}`;
    update("an allowed connection");
    const before = await awaitOpen(target, signal);
    update("the same connection, denied");
    const denied = await awaitDenied(target, signal);
    // The server still answers itself: the connection is denied, and the program has not ended.
    const self = await tryKubectl(dialCommand("server", `127.0.0.1:${PORT}`), { signal });
    if (self.stdout.trim() !== "open") {
      throw new OperatorError(
        `the check of network policies is void: its server ended (${self.stdout.trim() || self.stderr.trim()})`,
      );
    }
    return { before, ...denied };
  } finally {
    await removeNamespace().catch(() => {});
  }
}

interface PodStatus {
  metadata: { name: string };
  status: {
    phase: string;
    podIP?: string;
    containerStatuses?: { state: { waiting?: { reason?: string }; running?: object } }[];
  };
}

/** Starts client and server. @returns the server's address */
async function startPods(signal: AbortSignal | undefined): Promise<string> {
  const pods = [pod("client"), pod("server")];
  await apply([{ apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } }], signal);
  const created = await tryKubectl(["create", "-f", "-"], { input: listOf(pods), signal });
  // A new namespace gets its default service account a moment later.
  if (created.exitCode !== 0 && !/serviceaccount .*not found/i.test(created.stderr)) {
    throw new OperatorError(created.stderr.trim());
  }
  return await waitFor(
    async () => {
      const { items } = JSON.parse(await kubectl(["get", "pods", "-n", NAMESPACE, "-o", "json"])) as {
        items: PodStatus[];
      };
      if (items.length < pods.length) {
        await apply(pods, signal);
        return { done: false, state: "the namespace has no service account yet" };
      }
      const states = items.map(({ metadata, status }) => {
        const container = status.containerStatuses?.[0];
        return `${metadata.name} ${container?.state.waiting?.reason ?? status.phase}`;
      });
      const areRunning = items.every(({ status }) => status.containerStatuses?.[0]?.state.running && status.podIP);
      const address = items.find(({ metadata }) => metadata.name === "server")?.status.podIP;
      if (areRunning && address) return { done: true, value: address };
      return { done: false, state: states.join(", ") };
    },
    { what: "two pods for the check of network policies", limitMs: PODS_LIMIT_MS, intervalMs: 150, signal },
  );
}

const dialCommand = (from: string, target: string) => [
  ...["exec", from, "-n", NAMESPACE, "--"],
  ...["/netprobe", "dial", target, `${DIAL_LIMIT_MS}ms`],
];

async function dial(target: string, signal: AbortSignal | undefined): Promise<{ isOpen: boolean; answer: string }> {
  const { stdout, stderr, exitCode } = await tryKubectl(dialCommand("client", target), { signal });
  const answer = stdout.trim();
  // Exit 1 with a reason is netprobe's answer; anything else is a failed exec and says nothing about policies.
  if (exitCode !== 0 && answer === "") throw new Error(`exec in the pod failed: ${stderr.trim()}`);
  return { isOpen: exitCode === 0 && answer === "open", answer };
}

async function awaitOpen(target: string, signal: AbortSignal | undefined): Promise<string> {
  return await waitFor(
    async () => {
      const { isOpen, answer } = await dial(target, signal);
      return isOpen ? { done: true, value: answer } : { done: false, state: answer };
    },
    { what: "a connection between two pods without any policy", limitMs: OPEN_LIMIT_MS, signal },
  );
}

async function awaitDenied(
  target: string,
  signal: AbortSignal | undefined,
): Promise<Pick<PolicyCheck, "after" | "denied_after_ms">> {
  await apply([DENY_ALL], signal);
  const startedAt = performance.now();
  let deniedAfterMs = 0;
  let denied = 0;
  const after = await waitFor(
    async () => {
      const { isOpen, answer } = await dial(target, signal);
      if (isOpen) denied = 0;
      else if (++denied === 1) deniedAfterMs = Math.round(performance.now() - startedAt);
      return denied >= DENIED_TIMES ? { done: true, value: answer } : { done: false, state: answer };
    },
    { what: "a denied connection to be denied", limitMs: DENIED_LIMIT_MS, intervalMs: 100, signal },
  ).catch((error: unknown) => {
    if (signal?.aborted) throw error;
    throw new OperatorError("network policies are not enforced: a denied connection between two pods stays open", {
      exitCode: EXIT.failed,
      cause: error,
    });
  });
  return { after, denied_after_ms: deniedAfterMs };
}
