/**
 * Checks of the network: the policies are there as written, what nobody allowed is denied, and what is allowed works.
 * The denied connections mean something because the same probe, from a pod that is allowed, gets through.
 */
import { isDeepStrictEqual } from "node:util";
import { OperatorError } from "../cli/errors.ts";
import { INFLUXDB_PORT, KAFKA_CLIENT_PORT, type Probe, type ProbeSession } from "../clients/probe-session.ts";
import { type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { deployedStages } from "../deploy/deployed-stages.ts";
import { type Check, failed, passed } from "./checklist.ts";

/**
 * Targets by address, not by name: a pod without DNS would fail to reach a name whatever the policies say.
 * The API server stands for everything outside of the namespace: it is there in every cluster, and answers.
 */
async function targets({ cluster }: ProbeSession): Promise<Record<"kafka" | "influxdb" | "outside", Probe>> {
  const podIp = async (workload: string) => {
    const pod = (await cluster.pods(workload)).find(({ status }) => status.podIP && status.phase === "Running");
    if (!pod) throw new OperatorError(`no running pod of ${workload}`);
    return pod.status.podIP;
  };
  const api = await cluster.get<Service>("service", "kubernetes", "default");
  return {
    kafka: { id: "kafka", kind: "tcp", host: await podIp("kafka"), port: KAFKA_CLIENT_PORT },
    influxdb: { id: "influxdb", kind: "tcp", host: await podIp("influxdb"), port: INFLUXDB_PORT },
    outside: { id: "outside", kind: "tcp", host: api?.spec.clusterIP, port: api?.spec.ports[0]?.port ?? 443 },
  };
}

type Service = KubernetesObject & { spec: { clusterIP: string; ports: { port: number }[] } };

const policiesCheck: Check<ProbeSession> = {
  id: "network-policies",
  title: "network policies are as in k8s/network",
  needs: ["objects"],
  limitMs: 20_000,
  async run({ cluster }) {
    const objects = (await deployedStages(cluster)).stages.flatMap((stage) => stage.objects);
    const wanted = objects.filter(({ kind, metadata }) => kind === "NetworkPolicy" && metadata.namespace === NAMESPACE);
    const live = new Map((await cluster.list<KubernetesObject>("networkpolicy")).map((p) => [p.metadata.name, p]));
    const problems: string[] = [];
    // What the server makes of the file, so that its defaults do not count as differences.
    const asServed = await cluster.json<{ items?: KubernetesObject[] } & KubernetesObject>(
      [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--force-conflicts",
        "--field-manager=conveyor-validate",
        "-f",
        "-",
      ],
      { input: JSON.stringify({ apiVersion: "v1", kind: "List", items: wanted }) },
    );
    for (const policy of asServed.items ?? [asServed]) {
      const there = live.get(policy.metadata.name);
      live.delete(policy.metadata.name);
      if (!there) problems.push(`${policy.metadata.name} is missing`);
      else if (!isDeepStrictEqual(there.spec, policy.spec)) problems.push(`${policy.metadata.name} was changed`);
    }
    for (const name of live.keys()) problems.push(`${name} is in no file`);
    return problems.length === 0 ? passed(`${wanted.length} policies`) : failed(problems.join("; "));
  },
};

const deniedCheck: Check<ProbeSession> = {
  id: "network-denied",
  title: "an unlabelled pod reaches nothing",
  needs: ["network-policies", "kafka-ready", "influxdb-ready"],
  limitMs: 90_000,
  async run(context) {
    const probes = Object.values(await targets(context));
    const results = await context.probeFrom("unlabelled", probes);
    const reached = probes.filter(({ id }) => results.get(id)!.ok).map(({ id }) => id);
    if (reached.length > 0) return failed(`an unlabelled pod reaches ${reached.join(", ")}`);
    return passed(probes.map(({ id }) => `${id}: ${results.get(id)!.outcome}`).join(", "));
  },
};

const allowedCheck: Check<ProbeSession> = {
  id: "network-allowed",
  title: "allowed pods reach what they need, and no more",
  needs: ["network-policies", "kafka-ready", "influxdb-ready", "processor-ready", "producer-ready"],
  limitMs: 90_000,
  async run(context) {
    const { kafka, influxdb, outside } = await targets(context);
    const expectations: { from: string; may: Probe[]; mayNot: Probe[] }[] = [
      { from: "processor", may: [kafka, influxdb], mayNot: [outside] },
      { from: "producer", may: [kafka], mayNot: [influxdb, outside] },
    ];
    const problems: string[] = [];
    let connections = 0;
    let denied = 0;
    for (const { from, may, mayNot } of expectations) {
      const results = await context.probeIn(from, [...may, ...mayNot]);
      for (const { id } of may) {
        const result = results.get(id)!;
        if (result.ok) connections++;
        else problems.push(`${from} cannot reach ${id}: ${result.outcome} ${result.detail}`);
      }
      for (const { id } of mayNot) {
        if (results.get(id)!.ok) problems.push(`${from} reaches ${id}`);
        else denied++;
      }
    }
    // The positive control of "outside": the one pod that may talk to the API server does.
    const admin = (await context.probeFrom("admin", [outside])).get(outside.id)!;
    if (admin.ok) connections++;
    else problems.push(`the setup job cannot reach the API server: ${admin.outcome} ${admin.detail}`);
    return problems.length === 0
      ? passed(`${connections} allowed connections work, ${denied} others are denied`)
      : failed(problems.join("; "));
  },
};

export const NETWORK_CHECKS = { policies: policiesCheck, denied: deniedCheck, allowed: allowedCheck };
