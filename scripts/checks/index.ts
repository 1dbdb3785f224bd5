/** The checklist of validate, in the order of what stands on what. */

import type { ProbeSession } from "../clients/probe-session.ts";
import { requireReachable } from "../cluster/target.ts";
import { autoscalingCheck } from "./autoscaling.ts";
import { certificatesCheck } from "./certificates.ts";
import type { Check } from "./checklist.ts";
import { passed } from "./checklist.ts";
import { FLOW_CHECKS } from "./flow.ts";
import { INFLUXDB_CHECKS } from "./influxdb.ts";
import { KAFKA_CHECKS } from "./kafka.ts";
import { NETWORK_CHECKS } from "./network.ts";
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
  certificatesCheck,
  NETWORK_CHECKS.policies,
  POD_CHECKS.restricted,
  ...POD_CHECKS.ready,
  POD_CHECKS.confined,
  NETWORK_CHECKS.denied,
  NETWORK_CHECKS.allowed,
  ...KAFKA_CHECKS,
  ...INFLUXDB_CHECKS,
  ...FLOW_CHECKS,
  ...SIGNAL_CHECKS,
  autoscalingCheck,
];

/** What deploy looks at when it is done: do events flow, and how fast. */
export const FLOW_CHECK_IDS = FLOW_CHECKS.map(({ id }) => id);
