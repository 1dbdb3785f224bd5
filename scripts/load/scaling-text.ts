/** Text of hpa-scaling.txt: changes of replicas, and the output of kubectl get hpa during a load test. */
import { NAMESPACE } from "../cluster/namespace.ts";
import type { LoadTestResult } from "../recording/result.ts";

export function scalingText(result: LoadTestResult): string {
  const head = [
    `# kubectl get hpa -n ${NAMESPACE} -w during load test ${result.facts.id} (UTC), profile ${result.profile}`,
    ...result.scaling.map(
      ({ timeMs, workload, from, to, ready_after_ms }) =>
        `# ${new Date(timeMs).toISOString().slice(11, 19)} ${workload} ${from} → ${to}${ready_after_ms === undefined ? "" : `, Ready after ${(ready_after_ms / 1000).toFixed(1)} s`}`,
    ),
  ];
  return `${[...head, ...result.hpaTable].join("\n")}\n`;
}
