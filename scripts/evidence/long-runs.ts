/** Subjects that take minutes, since they put load on the pipeline: each is a command of its own, run here as such. */
import { join } from "node:path";
import { EXIT } from "../toolkit/errors.ts";
import { lastWords, runScript } from "./child-command.ts";
import type { EvidenceContext, Making, Subject } from "./subject.ts";

/** The profile takes some six minutes, the audit behind it less than one. */
const LOAD_LIMIT_MS = 1_200_000;

/** Runs a command that leaves its files in outputs/ by itself, and looks whether they are there and new. */
async function leaves(
  context: EvidenceContext,
  args: readonly string[],
  files: readonly string[],
  limitMs: number,
): Promise<Making> {
  const startedAt = Date.now();
  const ran = await runScript([...args, ...context.clusterFlags], limitMs, context.signal);
  const made: string[] = [];
  for (const file of files) {
    const there = Bun.file(join(context.out, file));
    if ((await there.exists()) && there.lastModified >= startedAt) made.push(file);
  }
  if (made.length === 0) return { made: false, reason: `exit ${ran.exitCode}: ${lastWords(ran)}`, hint: ran.command };
  // A run that missed a threshold is evidence too, and says so.
  const verdict = ran.exitCode === EXIT.ok ? "passed" : `exit ${ran.exitCode}: ${lastWords(ran)}`;
  return { made: true, detail: verdict, files: made };
}

/** All drills take some twenty minutes, the audit behind them and the video one each. */
const DRILLS_LIMIT_MS = 3_600_000;

export const resilience: Subject = {
  name: "resilience",
  title:
    "each part broken on purpose while events flow: what was seen, how long it took, what was lost; a video of three",
  files: ["resilience-drill.mp4", "resilience-drill.html"],
  minutes: 25,
  make: (context) =>
    leaves(
      context,
      ["scripts/resilience-test.ts", "--record"],
      ["resilience-drill.mp4", "resilience-drill.html"],
      DRILLS_LIMIT_MS,
    ),
};

export const hpaScaling: Subject = {
  name: "hpa-scaling",
  title: "the autoscalers under a load that rises and falls: replicas, lag and rates over time, and kubectl get hpa",
  files: ["hpa-scaling.png", "hpa-scaling.txt"],
  minutes: 9,
  make: (context) =>
    leaves(
      context,
      ["scripts/load-test.ts", "--profile", "ramp"],
      ["hpa-scaling.png", "hpa-scaling.txt"],
      LOAD_LIMIT_MS,
    ),
};
