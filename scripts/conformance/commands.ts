/** Steps of a case that are commands of the project. */
import { EXIT } from "../cli/errors.ts";
import { capture, type RunOptions, type RunResult } from "../cli/process.ts";
import type { Step, StepOutcome } from "./case.ts";

/** Limits of the steps: several times what they take on two idle cores, so that a busy machine does not fail them. */
export const LIMIT_MS = {
  /** Builds missing parts: 13 min on two cores. */
  up: 40 * 60_000,
  /** Builds missing images, of which InfluxDB takes 4 min. */
  images: 30 * 60_000,
  /** The same; without images 2 min. */
  deploy: 30 * 60_000,
  /** A minute and a half. */
  validate: 10 * 60_000,
  /** One drill with its budget, record and verdict: 2 min. */
  drill: 10 * 60_000,
  audit: 5 * 60_000,
  destroy: 5 * 60_000,
  down: 2 * 60_000,
} as const;
/** Clean-up of an interrupted command: a drill undoes its fault. */
const CLEANUP_LIMIT_MS = 60_000;
/** Lines of a failed command's output in the result. */
const DETAIL_LINES = 8;

export type Runner = (command: readonly string[], options: RunOptions) => Promise<RunResult>;

/** A step that runs `bun scripts/…` to its end, and reads its JSON document. */
export function commandStep(
  name: keyof typeof LIMIT_MS,
  args: readonly string[],
  run: Runner = capture,
  read: (stdout: string) => Partial<StepOutcome> = () => ({}),
): Step {
  return {
    name,
    command: `bun scripts/${args.join(" ")}`,
    limitMs: LIMIT_MS[name],
    async run(signal) {
      const [script = "", ...flags] = args;
      const { exitCode, stdout, stderr } = await run(
        [process.execPath, `scripts/${script}`, ...flags, "--json", "--no-color"],
        { signal, timeoutMs: LIMIT_MS[name], stopSignal: "SIGINT", graceMs: CLEANUP_LIMIT_MS, what: script },
      );
      if (exitCode === EXIT.ok) return { ok: true, detail: "", ...read(stdout) };
      const lines = (stderr.trim() || stdout.trim()).split("\n");
      // Of a checklist the failed rows: the last ones are those that depend on them.
      const failed = lines.filter((line) => line.includes("✗"));
      const output = failed.length > 0 ? failed.slice(0, DETAIL_LINES) : lines.slice(-DETAIL_LINES);
      return { ok: false, detail: `exit ${exitCode}\n${output.join("\n")}` };
    },
  };
}

/** The first and the last step of a case on the plain local cluster. */
export const UP: Step = commandStep("up", ["local-cluster.ts", "up"]);
export const DOWN: Step = commandStep("down", ["local-cluster.ts", "down", "--delete-data"]);
