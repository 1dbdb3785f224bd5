/** Everything that outputs/ holds, in the order in which it is made: what changes the pipeline most comes last. */

import type { Artifact } from "./artifact.ts";
import { hpaScaling, resilience } from "./long-runs.ts";
import { autoscalers, networkPolicies } from "./manifests.ts";
import { dashboard, keyMetrics, logSearch } from "./pictures.ts";
import { tls } from "./tls.ts";
import { audit, validation } from "./transcripts.ts";

export const ARTIFACTS: readonly Artifact[] = [
  networkPolicies,
  autoscalers,
  // Before the handshakes and checks, which leave lines of refused connections in the logs.
  logSearch,
  keyMetrics,
  dashboard,
  tls,
  validation,
  audit,
  hpaScaling,
  resilience,
];
