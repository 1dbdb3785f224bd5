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

/** Of the lines of `kubectl get hpa -w`: the header, and each autoscaler's lines before and after a change of replicas. */
export function linesOfChanges([header = "", ...lines]: readonly string[]): string[] {
  const before = new Map<string, { index: number; replicas: string }>();
  const kept = new Set<number>();
  lines.forEach((line, index) => {
    const cells = line.split(/ {2,}/);
    const [, name = ""] = cells;
    const replicas = cells.at(-2) ?? "";
    const last = before.get(name);
    if (last === undefined) kept.add(index);
    else if (last.replicas !== replicas) kept.add(last.index).add(index);
    before.set(name, { index, replicas });
  });
  return [header, ...lines.filter((_, index) => kept.has(index))];
}
