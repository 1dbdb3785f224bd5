/** Fault: all workloads are restarted one after the other, as after a change of certificates or of a node. */

import { OperatorError } from "../cli/errors.ts";
import { type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { awaitRollout } from "../cluster/rollout.ts";
import { type Drill, type DrillContext, defineDrill } from "./drill.ts";
import { getPods } from "./targets.ts";

type Kind = "StatefulSet" | "Deployment";

interface RestartedWorkloads {
  workloads: { kind: Kind; name: string; uids: string[] }[];
}

/** In the order of the data flow, then the observing workloads. */
const ORDER = [
  "kafka",
  "influxdb",
  "processor",
  "producer",
  "lag-exporter",
  "loki",
  "victorialogs",
  "grafana",
  "kube-state-metrics",
  "alertmanager",
  "prometheus",
];
/** The longest is that of three brokers, each awaited until its replicas have caught up. */
const ROLLOUT_LIMIT_MS = 240_000;

async function uidsOf({ cluster }: DrillContext, name: string): Promise<string[]> {
  return (await cluster.pods(name)).map(({ metadata }) => metadata.uid ?? "");
}

export const rollingRestart: Drill = defineDrill<RestartedWorkloads>({
  name: "rolling-restart",
  title: "All workloads are restarted, one after the other",
  hypothesis: "An orderly restart is maintenance, not an outage: events flow throughout, and none is lost.",
  fault: "kubectl rollout restart of every workload, each awaited before the next",
  budgetMs: 10_000,
  budgetReason: "after the last pod nothing is left to recover; the goal for one broker",
  // Each workload is down for no longer than its own goal; InfluxDB's is the longest.
  freshnessLimitSeconds: 20,
  recoversFrom: "effect",
  holdMs: 0,
  workloads: ["kafka", "influxdb", "processor", "producer"],
  commands: [["get", "pods", "-n", NAMESPACE], getPods("kafka")],
  async prepare(context) {
    const workloads: RestartedWorkloads["workloads"] = [];
    for (const name of ORDER) {
      for (const kind of ["StatefulSet", "Deployment"] as const) {
        if (!(await context.cluster.get<KubernetesObject>(kind, name))) continue;
        workloads.push({ kind, name, uids: await uidsOf(context, name) });
      }
    }
    return { workloads };
  },
  async inject(context, { workloads }) {
    for (const { kind, name } of workloads) {
      context.note(name, "is restarted");
      await context.cluster.kubectl(["rollout", "restart", `${kind.toLowerCase()}/${name}`, "-n", NAMESPACE], {
        signal: context.signal,
      });
      await awaitRollout(context.cluster, kind, name, { limitMs: ROLLOUT_LIMIT_MS, signal: context.signal });
    }
  },
  async proveEffect(context, { workloads }) {
    let pods = 0;
    for (const { name, uids } of workloads) {
      const now = await uidsOf(context, name);
      if (now.some((uid) => uids.includes(uid))) return undefined;
      pods += now.length;
    }
    return { proof: `all ${pods} pods of ${workloads.length} workloads have new uids` };
  },
  async heal({ cluster }, { workloads }) {
    // An interrupted restart completes by itself; undoing it would be another restart.
    for (const { kind, name } of workloads) {
      if (!(await cluster.get(kind, name))) throw new OperatorError(`${kind} ${name} does not exist`);
    }
  },
});
