/**
 * Checks of the network: the policies match the manifests, other connections are denied, allowed ones work. A denied
 * connection is evidence because the same probe from an allowed pod connects.
 */
import { isIP } from "node:net";
import { isDeepStrictEqual } from "node:util";
import type { ProbeSpec } from "../../services/protocol/probe.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { INFLUXDB_PORT, KAFKA_CLIENT_PORT, type ProbeSession } from "../clients/probe-session.ts";
import { type Cluster, type KubernetesObject, listOf, NAMESPACE } from "../cluster/cluster.ts";
import { type EgressRule, endpointOf } from "../cluster/external-stores.ts";
import { ADAPTED, adaptStages } from "../deploy/adapt.ts";
import { readFacts } from "../deploy/facts.ts";
import { deployedStages, type Stage } from "../deploy/stages.ts";
import { type Check, failed, outcomeOf, passed } from "./checklist.ts";

/**
 * Targets by address: a pod without DNS cannot reach a name, whatever the policies. The API server represents everything
 * outside of the namespace, since every cluster has one.
 */
async function targets(context: ProbeSession): Promise<Record<Target, TcpProbe>> {
  const { cluster } = context;
  const { kafka, influxdb } = await context.stores();
  const podIp = async (workload: string) => {
    const running = await cluster.runningPods(workload);
    const address = running.map(({ status }) => status.podIP).find(Boolean);
    if (!address) throw new OperatorError(`no running pod of ${workload}`);
    return address;
  };
  return {
    kafka: kafka
      ? await addressOf(cluster, kafka.brokers[0]!)
      : { kind: "tcp", host: await podIp("kafka"), port: KAFKA_CLIENT_PORT },
    influxdb: influxdb
      ? await addressOf(cluster, influxdb.url)
      : { kind: "tcp", host: await podIp("influxdb"), port: INFLUXDB_PORT },
    outside: await outside(cluster),
  };
}

/** A name server answers within milliseconds; a pod without one waits for 5 s and tries again. */
const LOOKUP_LIMIT_MS = 15_000;

type Target = "kafka" | "influxdb" | "outside";
type TcpProbe = ProbeSpec & { kind: "tcp" };

/** Prints the address of its argument; a program for Bun in a pod. */
const LOOKUP = 'console.log((await require("node:dns/promises").lookup(process.argv.at(-1))).address)';

/** An external server by its address, as a pod of the processor resolves its name: this machine may have another DNS. */
async function addressOf(cluster: Cluster, server: string): Promise<TcpProbe> {
  const { host, port } = endpointOf(server);
  const [pod] = await cluster.runningPods("processor");
  if (!pod) throw new OperatorError("no running pod of processor");
  const { stdout, stderr } = await cluster.exec(pod.metadata.name, ["bun", "-e", LOOKUP, host], {
    timeoutMs: LOOKUP_LIMIT_MS,
  });
  const address = stdout.trim();
  if (!isIP(address)) throw new OperatorError(`${host} has no address in the cluster: ${stderr.trim().slice(0, 200)}`);
  return { kind: "tcp", host: address, port };
}

/** True where the rules allow a target: at unknown addresses two external servers may share a port. */
const allowsTarget = (rules: readonly EgressRule[], { port }: TcpProbe): boolean =>
  rules.some(
    ({ to, ports }) =>
      to.some(({ ipBlock }) => ipBlock?.cidr === "0.0.0.0/0") && ports.some((one) => one.port === port),
  );

async function outside(cluster: Cluster): Promise<TcpProbe> {
  const api = await cluster.get<Service>("service", "kubernetes", "default");
  if (!api) throw new OperatorError("the API server's service cannot be read");
  return { kind: "tcp", host: api.spec.clusterIP, port: api.spec.ports[0]?.port ?? 443 };
}

/** Network plugins apply a policy to a new pod within a second or two. */
const ENFORCEMENT_LIMIT_MS = 15_000;

/**
 * Waits until the deny-all policy of the namespace applies to a new pod. For a deploy, before its first workload starts.
 * @throws OperatorError (exit 3) where a pod that no policy allows anything still reaches the API server after the limit
 */
export async function requireEnforcement(
  session: ProbeSession,
  signal: AbortSignal,
  limitMs = ENFORCEMENT_LIMIT_MS,
): Promise<string> {
  const probe = { outside: await outside(session.cluster) };
  const denied = async () => {
    const { outside } = await session.probeFrom("unlabelled", probe);
    return outside.ok
      ? { done: false as const, state: outside.outcome }
      : { done: true as const, value: outside.outcome };
  };
  const what = "the network policies to be enforced";
  try {
    return await waitFor(denied, { what, limitMs, signal });
  } catch (error) {
    if (!(error instanceof OperatorError) || error.exitCode !== EXIT.timeout) throw error;
    throw new OperatorError(
      "the cluster does not enforce NetworkPolicies: a pod that may open no connection reaches the API server",
      {
        exitCode: EXIT.precondition,
        hint: [
          "no workload was started; the namespace, its service accounts and policies exist",
          "install a network plugin that enforces them (Calico, Cilium; kind from version 0.24 and k3s do by default), or",
          "--open-network deploys nevertheless: every pod of the cluster can then connect to Kafka and InfluxDB, which still ask for certificates and tokens",
        ].join("\n"),
      },
    );
  }
}

type Service = KubernetesObject & { spec: { clusterIP: string; ports: { port: number }[] } };

const policiesCheck: Check<ProbeSession> = {
  id: "network-policies",
  title: "network policies match k8s/network and the cluster",
  needs: ["objects"],
  limitMs: 20_000,
  async run({ cluster }, signal) {
    const [{ stages }, facts] = await Promise.all([deployedStages(cluster), readFacts(cluster, signal)]);
    const live = new Map((await cluster.list<KubernetesObject>("networkpolicy")).map((p) => [p.metadata.name, p]));
    const policiesOf = (some: readonly Stage[]) =>
      some
        .flatMap(({ objects }) => objects)
        .filter(({ kind, metadata }) => kind === "NetworkPolicy" && metadata.namespace === NAMESPACE);
    const isGeneral = ({ metadata: { name } }: KubernetesObject) =>
      live.has(name) && live.get(name)!.metadata.annotations?.[ADAPTED] === undefined;
    const general = policiesOf(stages).filter(isGeneral);
    const wanted = [...policiesOf(adaptStages(stages, facts)).filter((policy) => !isGeneral(policy)), ...general];
    const problems: string[] = [];
    // A server-side dry run adds the defaults, so that they do not count as differences.
    const asServed = await cluster.json<{ items?: KubernetesObject[] } & KubernetesObject>(
      [
        ...["apply", "--server-side", "--dry-run=server"],
        "--force-conflicts",
        "--field-manager=conveyor-validate",
        "-f",
        "-",
      ],
      { input: listOf(wanted) },
    );
    for (const policy of asServed.items ?? [asServed]) {
      const found = live.get(policy.metadata.name);
      live.delete(policy.metadata.name);
      if (!found) problems.push(`${policy.metadata.name} is missing`);
      else if (!isDeepStrictEqual(found.spec, policy.spec))
        problems.push(`${policy.metadata.name} was changed, or the cluster's addresses were`);
    }
    for (const name of live.keys()) problems.push(`${name} is in no file`);
    const note = general.length > 0 ? `, ${general.length} of them in the general form of k8s/network` : "";
    return outcomeOf(problems, `${wanted.length} policies${note}`);
  },
};

const deniedCheck: Check<ProbeSession> = {
  id: "network-denied",
  title: "an unlabelled pod reaches nothing",
  needs: ["network-policies", "kafka-ready", "influxdb-ready"],
  limitMs: 90_000,
  async run(context) {
    const results = Object.entries(await context.probeFrom("unlabelled", await targets(context)));
    const reached = results.filter(([, { ok }]) => ok).map(([target]) => target);
    if (reached.length > 0)
      return failed(
        `an unlabelled pod reaches ${reached.join(", ")}${reached.length === results.length ? ": the cluster's network plugin does not enforce NetworkPolicies; Calico, Cilium and kube-router do" : ""}`,
      );
    return passed(results.map(([target, { outcome }]) => `${target}: ${outcome}`).join(", "));
  },
};

const allowedCheck: Check<ProbeSession> = {
  id: "network-allowed",
  title: "allowed pods reach their targets and no others",
  needs: ["network-policies", "kafka-ready", "influxdb-ready", "processor-ready", "producer-ready"],
  limitMs: 90_000,
  async run(context) {
    const probes = await targets(context);
    const { kafka, influxdb } = await context.stores();
    const rules: Record<string, readonly EgressRule[]> = {
      producer: kafka?.egress ?? [],
      processor: [...(kafka?.egress ?? []), ...(influxdb?.egress ?? [])],
    };
    const expectations: { from: string; may: Target[] }[] = [
      { from: "processor", may: ["kafka", "influxdb"] },
      { from: "producer", may: ["kafka"] },
    ];
    const problems: string[] = [];
    let connections = 0;
    let denied = 0;
    for (const { from, may } of expectations) {
      const results = await context.probeIn(from, probes);
      for (const [target, result] of Object.entries(results)) {
        const isAllowed = may.some((allowed) => allowed === target);
        if (isAllowed && !result.ok) {
          problems.push(`${from} cannot reach ${target}: ${result.outcome} ${result.detail}`);
        } else if (!isAllowed && allowsTarget(rules[from]!, probes[target as Target])) {
          connections++;
        } else if (!isAllowed && result.ok) problems.push(`${from} reaches ${target}`);
        else if (isAllowed) connections++;
        else denied++;
      }
    }
    // Positive control of "outside": the one pod that may reach the API server reaches it.
    const { outside: admin } = await context.probeFrom("admin", { outside: probes.outside });
    if (admin.ok) connections++;
    else problems.push(`the setup job cannot reach the API server: ${admin.outcome} ${admin.detail}`);
    return outcomeOf(problems, `${connections} allowed connections work, ${denied} others are denied`);
  },
};

export const NETWORK_CHECKS = { policies: policiesCheck, denied: deniedCheck, allowed: allowedCheck };
