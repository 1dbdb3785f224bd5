/** Goal: the picture of `kubectl get hpa -w` has its header and every change of replicas. Method: lines of a load test. */
import { expect, test } from "bun:test";
import { linesOfChanges } from "../../../scripts/load/scaling-text.ts";

test("linesOfChanges: the header, and the lines before and after each change, per autoscaler", () => {
  const header =
    "TIME       NAME                 REFERENCE              TARGETS        MINPODS   MAXPODS   REPLICAS   AGE";
  const line = (time: string, name: string, replicas: number) =>
    `${time}   ${name}   Deployment/x   cpu: <unknown>/70%, 1/1k (avg)   1         6         ${replicas}          29m`;
  const lines = [
    line("00:00:01", "keda-hpa-processor", 1),
    line("00:00:01", "producer", 1),
    line("00:00:02", "keda-hpa-processor", 1),
    line("00:00:03", "producer", 1),
    line("00:00:04", "keda-hpa-processor", 6),
    line("00:00:05", "keda-hpa-processor", 6),
    line("00:00:06", "keda-hpa-processor", 3),
  ];
  const without = (...indexes: number[]) => lines.filter((_, index) => !indexes.includes(index));
  expect(linesOfChanges([header, ...lines])).toEqual([header, ...without(3)]);
  expect(linesOfChanges([header, ...lines.slice(0, 4)])).toEqual([header, ...lines.slice(0, 2)]);
});
