/** What a subject of the evidence is: some files of outputs/, and how they are made from what is deployed. */

import type { StepHandle } from "../cli/report.ts";
import type { Cluster } from "../cluster/cluster.ts";

export interface EvidenceContext {
  /** @throws OperatorError (exit 3) when the cluster does not answer. */
  cluster(): Promise<Cluster>;
  /** Flags that name the same cluster to another command. */
  clusterFlags: readonly string[];
  /** Folder of the evidence. */
  out: string;
  browser: string | undefined;
  /** Long runs are taken from the newest record in outputs/runs instead of being made anew. */
  reuse: boolean;
  signal: AbortSignal;
  step: StepHandle;
}

/** Made, with what is to be seen in a few words; or not, and why. */
export type Making =
  | {
      made: true;
      detail: string;
      files: readonly string[];
      /** Files of the subject that could not be made with the others, and why. */
      missing?: Readonly<Record<string, string>>;
    }
  | { made: false; reason: string; hint: string };

export interface Artifact {
  /** For --only. */
  name: string;
  /** What its files show. */
  title: string;
  /** Names below outputs/, the most that it makes. */
  files: readonly string[];
  /** Minutes that it takes, where it is more than one. */
  minutes?: number;
  make(context: EvidenceContext): Promise<Making>;
}
