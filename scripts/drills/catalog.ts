/** All drills, in the order in which they run: the cheapest first. */
import { cutDrills } from "./cut-network.ts";
import { deleteDrills } from "./delete-pod.ts";
import { diskFull } from "./disk-full.ts";
import type { Drill } from "./drill.ts";
import { freezeDrills } from "./freeze-process.ts";
import { killDrills } from "./kill-process.ts";
import { poisonedBatch } from "./poisoned-batch.ts";
import { rollingRestart } from "./rolling-restart.ts";
import { twoBrokersDown } from "./two-brokers-down.ts";

export const DRILLS: readonly Drill[] = [
  ...deleteDrills,
  ...killDrills,
  poisonedBatch,
  ...cutDrills,
  ...freezeDrills,
  diskFull,
  twoBrokersDown,
  rollingRestart,
];
