/**
 * Privileged pods that act on the nodes for the drills, with access to the node's processes, in their own namespace that
 * only exists while drills run. One per node, started at its first use.
 */
import { join } from "node:path";
import {
  type AgentAction,
  type AgentAnswer,
  type AgentErrorCode,
  type AgentState,
  MAX_VOLUME_MEBIBYTES,
  SPARE_VOLUME_MEBIBYTES,
} from "../../services/protocol/node-agent.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { DRILL_LABELS, DRILLS_NAMESPACE, drillsNamespace } from "../cluster/drill-leftovers.ts";
import { copiedPullSecrets, pullPolicy } from "../cluster/image-pulls.ts";
import { podState } from "../cluster/one-off-pods.ts";

const PROGRAMS = "drill-programs";
/** A pod of a present image starts within seconds; a busy machine takes longer. */
const AGENT_START_LIMIT_MS = 60_000;
/** Undoing the faults of a killed run takes minutes; a run of drills gives its own length. */
const HEALING_LIFETIME_SECONDS = 3600;
/** Copying a small volume takes the longest. */
const CALL_LIMIT_MS = 70_000;
const NAMESPACE_GONE_LIMIT_MS = 60_000;

/** A program of services/tools as one text that only needs Bun. */
export async function bundled(name: string): Promise<string> {
  const built = await Bun.build({
    entrypoints: [join(import.meta.dir, "../../services/tools", `${name}.ts`)],
    target: "bun",
  });
  const text = await built.outputs[0]?.text();
  if (!built.success || !text) throw new Error(`${name}.ts could not be bundled: ${built.logs.join("; ")}`);
  return text;
}

/** Once per run, not once per drill. */
const prepared = new WeakMap<Cluster, Promise<string[]>>();

/** Creates the namespace with what the agents need. @returns names of the pull secrets */
function prepareNamespace(cluster: Cluster): Promise<string[]> {
  let preparing = prepared.get(cluster);
  if (!preparing) {
    preparing = makeNamespace(cluster);
    prepared.set(cluster, preparing);
    preparing.catch(() => prepared.delete(cluster));
  }
  return preparing;
}

async function makeNamespace(cluster: Cluster): Promise<string[]> {
  // A terminating namespace of an earlier run accepts no objects.
  await waitFor(
    async () => {
      const live = await cluster.get("namespace", DRILLS_NAMESPACE);
      return live?.metadata.deletionTimestamp
        ? { done: false, state: "it is being deleted" }
        : { done: true, value: undefined };
    },
    { what: "the drills' namespace of an earlier run to be deleted", limitMs: NAMESPACE_GONE_LIMIT_MS },
  );
  const objects: KubernetesObject[] = [
    {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: {
        name: DRILLS_NAMESPACE,
        labels: {
          ...DRILL_LABELS,
          "pod-security.kubernetes.io/enforce": "privileged",
          "conveyor.dev/intake-client": "true",
        },
      },
    },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: PROGRAMS, namespace: DRILLS_NAMESPACE, labels: DRILL_LABELS },
      data: { "agent.js": await bundled("node-agent") },
    },
  ];
  const pullSecrets = await copiedPullSecrets(cluster, DRILLS_NAMESPACE, DRILL_LABELS);
  await cluster.apply([...objects, ...pullSecrets]);
  return pullSecrets.map(({ metadata }) => metadata.name);
}

/** Removes the drills' namespace with its pods; another project's namespace of that name stays. */
export async function removeNamespace(cluster: Cluster, wait = false): Promise<void> {
  prepared.delete(cluster);
  if (!(await drillsNamespace(cluster))) return;
  await cluster.kubectl(["delete", "pods", "--all", "-n", DRILLS_NAMESPACE, "--now", "--wait=false"], {
    allowFailure: true,
  });
  await cluster.kubectl(["delete", "namespace", DRILLS_NAMESPACE, "--ignore-not-found", `--wait=${wait}`], {
    allowFailure: true,
    timeoutMs: NAMESPACE_GONE_LIMIT_MS,
  });
}

/** The id of a pod's first container on its node, without the runtime's name. @throws Error when it has none. */
function containerIdOf(pod: Pod): string {
  const id = pod.status.containerStatuses?.[0]?.containerID?.split("://")[1];
  if (!id) throw new Error(`pod ${pod.metadata.name} has no running container (${podState(pod)})`);
  return id;
}

export class AgentError extends OperatorError {
  constructor(
    message: string,
    readonly code: AgentErrorCode,
  ) {
    super(message);
  }
}

export class FaultAgents {
  readonly #agents = new Map<string, Promise<string>>();

  constructor(
    private readonly cluster: Cluster,
    private readonly image: string,
    /** The kubelet ends the agents of a killed command after this time. */
    private readonly lifetimeSeconds = HEALING_LIFETIME_SECONDS,
  ) {}

  /** Sends a request to the agent on a pod's node. @throws AgentError */
  async request(pod: Pod, action: AgentAction): Promise<AgentState> {
    const node = pod.spec.nodeName;
    if (!node) throw new OperatorError(`pod ${pod.metadata.name} is on no node`);
    const agent = await this.#on(node);
    const { stdout, stderr, exitCode } = await this.cluster.exec(
      agent,
      ["bun", "/programs/agent.js", JSON.stringify({ ...action, containerId: containerIdOf(pod) })],
      { namespace: DRILLS_NAMESPACE, timeoutMs: CALL_LIMIT_MS },
    );
    let answer: AgentAnswer;
    try {
      answer = JSON.parse(stdout) as AgentAnswer;
    } catch (error) {
      throw new OperatorError(`the agent on ${node} returned no answer (exit ${exitCode}): ${stderr.trim()}`, {
        cause: error,
      });
    }
    if (!answer.ok) throw new AgentError(`${action.op} on ${pod.metadata.name}: ${answer.error}`, answer.code);
    return answer;
  }

  /** Why agents are not possible here (rights, admission, missing programs); undefined: they are. */
  async obstacle(pod: Pod, needsRules: boolean): Promise<string | undefined> {
    try {
      await this.request(pod, { op: needsRules ? "tools" : "state" });
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  #on(node: string): Promise<string> {
    let agent = this.#agents.get(node);
    if (!agent) {
      agent = this.#start(node);
      this.#agents.set(node, agent);
      agent.catch(() => this.#agents.delete(node));
    }
    return agent;
  }

  async #start(node: string): Promise<string> {
    const name = `agent-${node.replaceAll(/[^a-z0-9-]/g, "-")}`.slice(0, 60).replace(/-$/, "");
    const pullSecrets = await prepareNamespace(this.cluster);
    const existing = await this.cluster.get<Pod>("pod", name, DRILLS_NAMESPACE);
    // Of a run that was killed: its lifetime may end soon, and it may be one of another version, which cannot be changed.
    if (existing) {
      await this.cluster.kubectl(["delete", "pod", name, "-n", DRILLS_NAMESPACE, "--now"]);
    }
    await this.cluster.apply([
      agentPod(name, node, { image: this.image, pullSecrets, lifetimeSeconds: this.lifetimeSeconds }),
    ]);
    await waitFor(
      async () => {
        const pod = await this.cluster.get<Pod>("pod", name, DRILLS_NAMESPACE);
        return pod?.status.phase === "Running" && !pod.metadata.deletionTimestamp
          ? { done: true, value: true }
          : { done: false, state: podState(pod) };
      },
      { what: `the drills' agent on node ${node}`, limitMs: AGENT_START_LIMIT_MS },
    );
    return name;
  }
}

/** A program of the agent, with those that it starts. */
const PROGRAM_MEBIBYTES = 256;
/** The kernel counts the pages of a small volume as memory of the container that writes them. */
const MEMORY_LIMIT = `${PROGRAM_MEBIBYTES + MAX_VOLUME_MEBIBYTES + SPARE_VOLUME_MEBIBYTES}Mi`;

/** A pod that waits; each action is a call of kubectl exec. */
function agentPod(
  name: string,
  node: string,
  { image, pullSecrets, lifetimeSeconds }: { image: string; pullSecrets: readonly string[]; lifetimeSeconds: number },
): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: DRILLS_NAMESPACE,
      labels: { ...DRILL_LABELS, "app.kubernetes.io/name": "fault-agent" },
    },
    spec: {
      nodeName: node,
      hostPID: true,
      restartPolicy: "Never",
      activeDeadlineSeconds: lifetimeSeconds,
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      tolerations: [{ operator: "Exists" }],
      imagePullSecrets: pullSecrets.map((secret) => ({ name: secret })),
      containers: [
        {
          name: "agent",
          image,
          imagePullPolicy: pullPolicy(image),
          command: ["sleep", String(lifetimeSeconds)],
          securityContext: { privileged: true, runAsUser: 0, runAsNonRoot: false },
          resources: { requests: { cpu: "10m", memory: "32Mi" }, limits: { memory: MEMORY_LIMIT } },
          volumeMounts: [{ name: "programs", mountPath: "/programs", readOnly: true }],
        },
      ],
      volumes: [{ name: "programs", configMap: { name: PROGRAMS } }],
    },
  };
}

async function runningPods(cluster: Cluster): Promise<Pod[]> {
  const pods = await cluster.list<Pod>("pods", "app.kubernetes.io/part-of=conveyor", NAMESPACE);
  return pods.filter((pod) => pod.status.phase === "Running" && pod.status.containerStatuses?.[0]?.state.running);
}

/**
 * Undoes frozen processes and packet rules of an earlier run, in every pod of the pipeline.
 * @returns a sentence for each
 */
export async function healLeftovers(cluster: Cluster, agents: FaultAgents): Promise<string[]> {
  const undone: string[] = [];
  for (const pod of await runningPods(cluster)) {
    const { name } = pod.metadata;
    try {
      const { state } = await agents.request(pod, { op: "state" });
      if (state === "T") {
        await agents.request(pod, { op: "signal", signal: "SIGCONT" });
        undone.push(`${name}: continued, was frozen`);
      }
      const { dropped } = await agents.request(pod, { op: "uncut" });
      if (dropped !== undefined) undone.push(`${name}: network restored, was cut (${dropped} packets dropped)`);
    } catch (error) {
      // The faults of a pod that is being replaced end with it.
      if (error instanceof OperatorError && error.exitCode === EXIT.timeout) throw error;
    }
  }
  return undone;
}
