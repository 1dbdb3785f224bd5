/** An artifact of the evidence: files of outputs/, made from the deployed pipeline. */

import type { StepHandle } from "../cli/report.ts";
import type { Cluster } from "../cluster/cluster.ts";

export interface EvidenceContext {
  cluster: Cluster;
  /** Flags that select the same cluster in another command. */
  clusterFlags: readonly string[];
  out: string;
  browser: string | undefined;
  /** Use the newest records in outputs/runs instead of new long runs. */
  reuse: boolean;
  signal: AbortSignal;
  step: StepHandle;
}

/** Made, with a summary; or not made, with the reason. */
export type Making =
  | {
      made: true;
      detail: string;
      files: readonly string[];
      /** Files that could not be made, with the reasons. */
      missing?: Readonly<Record<string, string>>;
    }
  | { made: false; reason: string; hint: string };

export interface Artifact {
  /** For --only. */
  name: string;
  /** Content of its files. */
  title: string;
  /** All files that it may make, below outputs/. */
  files: readonly string[];
  /** Duration in minutes, if longer than one. */
  minutes?: number;
  make(context: EvidenceContext): Promise<Making>;
}
