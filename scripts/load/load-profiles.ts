/** Named loads with their thresholds. */
import type { LoadStage } from "../../services/domain/load-stages.ts";
import { parseStages } from "../../services/domain/load-stages.ts";

export interface Profile {
  title: string;
  stages: readonly LoadStage[];
  thresholds: readonly string[];
  /** The load is for the autoscalers: it requires them, and waits until they are back at their minimum. */
  scales: boolean;
}

/** Thresholds of every load, also of --stages. */
export const COMMON_THRESHOLDS = ["lost=0", "duplicated=0", "error_rate<=0.001"] as const;

/** No process grows, over hours of load. */
const FLAT_PROCESSES = ["memory_growth_percent<=20", "open_files_growth_percent<=20"] as const;

export const PROFILES = {
  smoke: {
    title: "a small load for ten seconds",
    stages: parseStages("10s@500"),
    thresholds: [...COMMON_THRESHOLDS, "e2e_p99_ms<2000"],
    scales: false,
  },
  ramp: {
    title: "up in steps and down again: the autoscalers follow",
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
    title: "from a low rate to a high one and back",
    stages: parseStages("20s@200,30s@15000,60s@200"),
    thresholds: [...COMMON_THRESHOLDS, "lag_settle_seconds<=120"],
    scales: true,
  },
  soak: {
    title: "a steady load for half an hour: memory, open files and lag must not grow",
    stages: parseStages("30m@1000"),
    thresholds: [
      ...COMMON_THRESHOLDS,
      "e2e_p99_ms<2000",
      "lag_max_events<=5000",
      "producer_memory_growth_percent<=20",
      "processor_memory_growth_percent<=20",
      ...FLAT_PROCESSES,
    ],
    scales: false,
  },
  "soak-drills": {
    title: "two hours of load, for drills at the same time: nothing is lost, memory and open files do not grow",
    stages: parseStages("2h@500"),
    thresholds: [
      "lost=0",
      "duplicated=0",
      // 24 drills in two hours, each of which refuses events for ten seconds at most: 3.3 %, usually a tenth of that.
      "error_rate<=0.03",
      // The lag grows while a drill stops the processor; it must not stay.
      "lag_settle_seconds<=120",
      ...FLAT_PROCESSES,
    ],
    scales: false,
  },
} as const satisfies Record<string, Profile>;

export type ProfileName = keyof typeof PROFILES;
export const PROFILE_NAMES = Object.keys(PROFILES) as ProfileName[];
