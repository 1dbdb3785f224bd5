/** The checklist of validate; a check follows those that it depends on. */
import type { Report } from "../cli/report.ts";
import { ProbeSession } from "../clients/probe-session.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { deployedServicesImage } from "../cluster/services-image.ts";
import { requireReachable } from "../cluster/target.ts";
import { autoscalingCheck } from "./autoscaling.ts";
import { certificatesCheck } from "./certificates.ts";
import { type Check, type ChecklistResult, passed, reportChecklist, selectChecks } from "./checklist.ts";
import { exposeCheck } from "./expose.ts";
import { FLOW_CHECKS } from "./flow.ts";
import { INFLUXDB_CHECKS } from "./influxdb.ts";
import { KAFKA_CHECKS } from "./kafka.ts";
import { NETWORK_CHECKS } from "./network.ts";
import { nodeMetricsCheck } from "./node-metrics.ts";
import { POD_CHECKS } from "./pods.ts";
import { SIGNAL_CHECKS } from "./signals.ts";

const clusterCheck: Check<ProbeSession> = {
  id: "cluster",
  title: "the cluster answers",
  limitMs: 20_000,
  run: async ({ cluster }, signal) => passed(`Kubernetes ${await requireReachable(cluster, signal)}`),
};

export const CHECKS: readonly Check<ProbeSession>[] = [
  clusterCheck,
  { ...POD_CHECKS.objects, needs: ["cluster"] },
  POD_CHECKS.volumes,
  POD_CHECKS.drills,
  certificatesCheck,
  NETWORK_CHECKS.policies,
  POD_CHECKS.restricted,
  ...POD_CHECKS.ready,
  POD_CHECKS.confined,
  NETWORK_CHECKS.denied,
  NETWORK_CHECKS.allowed,
  exposeCheck,
  ...KAFKA_CHECKS,
  ...INFLUXDB_CHECKS,
  ...FLOW_CHECKS,
  ...SIGNAL_CHECKS,
  nodeMetricsCheck,
  autoscalingCheck,
];

/** The closing check of deploy: whether events flow, and how fast. */
export const FLOW_CHECK_IDS = FLOW_CHECKS.map(({ id }) => id);

/**
 * Runs checks on a deployed pipeline, one line each.
 * @param ids the checks, with those that they depend on; all where empty
 */
export async function runChecks(
  cluster: Cluster,
  ids: readonly string[],
  report: Report,
  signal: AbortSignal,
): Promise<ChecklistResult> {
  await using session = new ProbeSession(cluster, await deployedServicesImage(cluster), signal);
  return await reportChecklist(selectChecks(CHECKS, ids), session, report, signal);
}
