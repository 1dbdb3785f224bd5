/** All artifacts of outputs/ in the order in which they are made: those that disturb the pipeline most are last. */

import type { Artifact } from "./artifact.ts";
import { hpaScaling, resilience } from "./long-runs.ts";
import { autoscalers, networkPolicies } from "./manifests.ts";
import { dashboard, keyMetrics, logSearch } from "./pictures.ts";
import { tls } from "./tls.ts";
import { audit, trail, validation } from "./transcripts.ts";
import { dashboards } from "./viewer-pictures.ts";

export const ARTIFACTS: readonly Artifact[] = [
  networkPolicies,
  autoscalers,
  // Before the handshakes and checks, which add lines of rejected connections to the logs.
  logSearch,
  keyMetrics,
  dashboards,
  dashboard,
  tls,
  validation,
  audit,
  trail,
  hpaScaling,
  resilience,
];
