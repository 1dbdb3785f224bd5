/** Named loads, each with what it has to keep to. */
import type { LoadStage } from "../../services/domain/load-stages.ts";
import { parseStages } from "../../services/domain/load-stages.ts";

export interface Profile {
  title: string;
  stages: readonly LoadStage[];
  thresholds: readonly string[];
  /** It is meant to make the autoscalers work: it needs them, and waits until they are back at their minimum. */
  scales: boolean;
}

/** What every load keeps to, its own stages or not. */
export const COMMON_THRESHOLDS = ["lost=0", "duplicated=0", "error_rate<=0.001"] as const;

export const PROFILES = {
  smoke: {
    title: "does it work at all: a little load for a moment",
    stages: parseStages("10s@500"),
    thresholds: [...COMMON_THRESHOLDS, "e2e_p99_ms<2000"],
    scales: false,
  },
  ramp: {
    title: "up in steps and down again: the autoscalers follow by themselves",
    stages: parseStages("10s@500,40s@12000,40s@16000,5s@500"),
    thresholds: [
      ...COMMON_THRESHOLDS,
      "time_to_scale_seconds<=30",
      "processor_replicas_max>=3",
      "producer_replicas_max>=3",
      "processor_replicas_end<=1",
      "producer_replicas_end<=1",
      "rebalance_gap_seconds<=5",
    ],
    scales: true,
  },
  spike: {
    title: "from calm to everything at once, and calm again",
    stages: parseStages("20s@200,30s@15000,60s@200"),
    thresholds: [...COMMON_THRESHOLDS, "lag_settle_seconds<=120"],
    scales: true,
  },
  soak: {
    title: "a steady load for half an hour: does anything creep",
    stages: parseStages("30m@1000"),
    thresholds: [
      ...COMMON_THRESHOLDS,
      "e2e_p99_ms<2000",
      "lag_max_events<=5000",
      "producer_memory_growth_percent<=20",
      "processor_memory_growth_percent<=20",
    ],
    scales: false,
  },
} as const satisfies Record<string, Profile>;

export type ProfileName = keyof typeof PROFILES;
export const PROFILE_NAMES = Object.keys(PROFILES) as ProfileName[];
