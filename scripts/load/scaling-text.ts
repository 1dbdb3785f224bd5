/** What stands in hpa-scaling.txt: who scaled when, and the lines of kubectl get hpa over the time of a load test. */
import type { LoadTestResult } from "../recording/result.ts";

/** The text of a load test's record. */
export function scalingText(result: LoadTestResult): string {
  const head = [
    `# kubectl get hpa -n conveyor -w during load test ${result.facts.id} (UTC), profile ${result.profile}`,
    ...result.scaling.map(
      ({ timeMs, workload, from, to, ready_after_ms }) =>
        `# ${new Date(timeMs).toISOString().slice(11, 19)} ${workload} ${from} → ${to}${ready_after_ms === undefined ? "" : `, Ready after ${(ready_after_ms / 1000).toFixed(1)} s`}`,
    ),
  ];
  return `${[...head, ...result.hpaTable].join("\n")}\n`;
}
