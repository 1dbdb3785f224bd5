/**
 * Short-lived pods that a command starts on the services' image, under the same restrictions as every other pod: ingest,
 * probe, observer, load generator, drill sender. Their service accounts, `default` too, name the pull secrets.
 */
import { randomBytes } from "node:crypto";
import { OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "./cluster.ts";
import { pullPolicy } from "./image-pulls.ts";

/** A pod whose image is on the node starts within seconds, on a busy machine within some ten. */
const POD_START_LIMIT_MS = 60_000;
/** Deletes again while the API server does not answer: a busy or restarting one does so again within a minute. */
const REMOVE_LIMIT_MS = 60_000;
const REMOVE_INTERVAL_MS = 1000;
/** Bounds a pod whose command was killed before it could delete it. */
const POD_LIFETIME_SECONDS = 3600;

export interface OneOffPod {
  /** Name of the container; with a random suffix the name of the pod. */
  prefix: string;
  /** Name of the pod, where it has to be known in advance. */
  name?: string;
  /** The pipeline's namespace when absent. */
  namespace?: string;
  image: string;
  /** Network policies select by label. */
  labels: Record<string, string>;
  serviceAccount?: string;
  command: string[];
  environment?: Record<string, string>;
  /** Secret name → folder with all of its keys, or with the listed keys only. */
  secrets?: Record<string, string | { folder: string; keys: readonly string[] }>;
  /** ConfigMap name → folder, which is empty where the ConfigMap does not exist. */
  optionalConfigMaps?: Record<string, string>;
  stdin?: boolean;
  /** The kubelet ends the pod after this time; an hour when absent. */
  lifetimeSeconds?: number;
}

/** The object of a one-off pod: non-root, read-only root file system, restricted, with resource limits and a deadline. */
export function podObject(pod: OneOffPod): KubernetesObject {
  const secrets = Object.entries(pod.secrets ?? {}).map(([name, place]) =>
    typeof place === "string" ? { name, folder: place, keys: undefined } : { name, ...place },
  );
  const configMaps = Object.entries(pod.optionalConfigMaps ?? {}).map(([name, folder]) => ({ name, folder }));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: pod.name ?? `${pod.prefix}-${randomBytes(3).toString("hex")}`,
      namespace: pod.namespace ?? NAMESPACE,
      labels: pod.labels,
    },
    spec: {
      restartPolicy: "Never",
      activeDeadlineSeconds: pod.lifetimeSeconds ?? POD_LIFETIME_SECONDS,
      terminationGracePeriodSeconds: 1,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      serviceAccountName: pod.serviceAccount,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: 10001,
        runAsGroup: 10001,
        fsGroup: 10001,
        seccompProfile: { type: "RuntimeDefault" },
      },
      containers: [
        {
          name: pod.prefix,
          image: pod.image,
          imagePullPolicy: pullPolicy(pod.image),
          command: pod.command,
          ...(pod.stdin ? { stdin: true, stdinOnce: true } : {}),
          env: [
            { name: "POD_NAME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
            ...Object.entries(pod.environment ?? {}).map(([name, value]) => ({ name, value })),
          ],
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ["ALL"] },
          },
          resources: {
            requests: { cpu: "50m", memory: "96Mi", "ephemeral-storage": "16Mi" },
            limits: { cpu: "1", memory: "384Mi", "ephemeral-storage": "64Mi" },
          },
          volumeMounts: [
            { name: "tmp", mountPath: "/tmp" },
            ...[...secrets, ...configMaps].map(({ name, folder }) => ({ name, mountPath: folder, readOnly: true })),
          ],
        },
      ],
      volumes: [
        { name: "tmp", emptyDir: { sizeLimit: "32Mi" } },
        ...secrets.map(({ name, keys }) => ({
          name,
          secret: {
            secretName: name,
            defaultMode: 0o440,
            items: keys?.map((key) => ({ key, path: key })),
          },
        })),
        ...configMaps.map(({ name }) => ({ name, configMap: { name, optional: true } })),
      ],
    },
  };
}

/** State of a pod for messages: phase, and the reason why it does not run. */
export function podState(pod: Pod | undefined): string {
  if (!pod) return "does not exist";
  const waiting = pod.status.containerStatuses?.map((status) => status.state.waiting?.reason).find(Boolean);
  const unscheduled = pod.status.conditions?.find(({ type, status }) => type === "PodScheduled" && status === "False");
  return [pod.status.phase, waiting, unscheduled?.message].filter(Boolean).join(": ");
}

/** A one-off pod that runs until it is removed. */
export interface StartedPod {
  name: string;
  /** Deletes the pod, also after an interrupt; idempotent. Where that fails, a line on stderr names the command. */
  remove(): Promise<void>;
}

/**
 * Deletes a pod without waiting for its end. Never throws: a pod that remains must not hide the result of its work.
 * Without a signal: an interrupted command must still remove its pods.
 */
export async function removePod(cluster: Cluster, name: string, namespace: string): Promise<void> {
  const args = ["delete", "pod", name, "-n", namespace, "--ignore-not-found"];
  const options = {
    what: `pod ${name} to be deleted`,
    limitMs: REMOVE_LIMIT_MS,
    intervalMs: REMOVE_INTERVAL_MS,
    hint: `kubectl --context ${cluster.context} ${args.join(" ")}   (its deadline ends it, at the latest)`,
  };
  await waitFor(async () => {
    await cluster.kubectl([...args, "--wait=false", "--now"]);
    return { done: true, value: undefined };
  }, options).catch((error: OperatorError) => {
    process.stderr.write(`! ${error.message}\n  ${error.hint}\n`);
  });
}

/**
 * Starts a one-off pod; the caller removes it.
 * @throws OperatorError (exit 4) with the pod's state when it does not start; the pod is deleted then.
 */
export async function startPod(cluster: Cluster, pod: OneOffPod, signal: AbortSignal): Promise<StartedPod> {
  const object = podObject(pod);
  const { name, namespace = NAMESPACE } = object.metadata;
  const remove = () => removePod(cluster, name, namespace);
  try {
    await cluster.kubectl(["create", "-f", "-"], { input: JSON.stringify(object), signal });
    await waitFor(
      async () => {
        const live = await cluster.get<Pod>("pod", name, namespace);
        if (live?.status.phase === "Running" || live?.status.phase === "Succeeded") return { done: true, value: live };
        if (live?.status.phase === "Failed") {
          throw new OperatorError(`pod ${name} failed at start: ${await podLog(cluster, name, { namespace })}`);
        }
        return { done: false, state: podState(live) };
      },
      {
        what: `pod ${name} to start`,
        limitMs: POD_START_LIMIT_MS,
        signal,
        hint: `kubectl --context ${cluster.context} -n ${namespace} describe pod ${name}`,
      },
    );
    return { name, remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/**
 * Runs `work` while a one-off pod is running, and deletes the pod afterwards, also after an error.
 * @throws OperatorError (exit 4) with the pod's state when it does not start.
 */
export async function withPod<T>(
  cluster: Cluster,
  pod: OneOffPod,
  signal: AbortSignal,
  work: (name: string) => Promise<T>,
): Promise<T> {
  const { name, remove } = await startPod(cluster, pod, signal);
  try {
    return await work(name);
  } finally {
    await remove();
  }
}

/** The last lines of a pod's log. */
export async function podLog(
  cluster: Cluster,
  pod: string,
  { lines = 20, namespace = NAMESPACE }: { lines?: number; namespace?: string } = {},
): Promise<string> {
  const { stdout, stderr } = await cluster.kubectl(["logs", pod, "-n", namespace, `--tail=${lines}`], {
    allowFailure: true,
  });
  return (stdout || stderr).trim();
}
