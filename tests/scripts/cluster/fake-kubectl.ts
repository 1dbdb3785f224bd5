/** A cluster whose kubectl is a program of the test, for outputs and ends that are rare with a real API server. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster } from "../../../scripts/cluster/cluster.ts";

/** @param program text of the program, with its `#!` line; written to `folder`/kubectl */
export function clusterOf(folder: string, program: string): Cluster {
  const command = join(folder, "kubectl");
  writeFileSync(command, program, { mode: 0o755 });
  return new Cluster({ context: "test", isLocal: false }, command);
}
