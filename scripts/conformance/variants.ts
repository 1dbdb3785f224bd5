/** The cases on variants of the local cluster: deploy from nothing, validate, one drill, audit, destroy. */
import { EXIT } from "../cli/errors.ts";
import { capture, type RunOptions, type RunResult } from "../cli/process.ts";
import { describeVariant, type VariantName } from "../local-cluster/index.ts";
import type { Case, OptionalRow, Step, StepOutcome } from "./case.ts";

/** Limits of the steps: several times what they take on two idle cores, so that a busy machine does not fail them. */
const LIMIT_MS = {
  /** Builds missing parts: 13 min on two cores. */
  up: 40 * 60_000,
  /** Builds missing images, of which InfluxDB takes 4 min; without that 2 min. */
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
/** Lines of a failed command's output in the result: the reason is in the last ones. */
const DETAIL_LINES = 8;

/** Additional flags that a user of such a cluster needs: of deploy, and of every command. */
const FLAGS: Partial<Record<VariantName, { deploy: readonly string[]; every?: readonly string[] }>> = {
  kubeadm: { deploy: ["--storage-class", "standard"] },
  renamed: { deploy: ["--storage-class", "fast"], every: ["--namespace", "telemetry"] },
};

type Runner = (command: readonly string[], options: RunOptions) => Promise<RunResult>;

/** Rows that neither passed nor failed the validation: with exit 0 those are the optional ones. */
export function optionalRows(stdout: string): OptionalRow[] {
  const { checks } = JSON.parse(stdout) as { checks: { title: string; status: string; detail: string }[] };
  return checks.filter(({ status }) => status !== "passed").map(({ title, detail }) => ({ title, reason: detail }));
}

function commandStep(
  name: keyof typeof LIMIT_MS,
  args: readonly string[],
  run: Runner,
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
      const output = (stderr.trim() || stdout.trim()).split("\n").slice(-DETAIL_LINES).join("\n");
      return { ok: false, detail: `exit ${exitCode}\n${output}` };
    },
  };
}

/** The case of a variant. */
export function variantCase(like: VariantName, run: Runner = capture): Case {
  const { deploy = [], every = [] } = FLAGS[like] ?? {};
  const target = ["--local", ...every];
  return {
    name: like,
    title: `local cluster --like ${like}: ${describeVariant(like)}`,
    steps: [
      commandStep("up", ["local-cluster.ts", "up", "--like", like], run),
      commandStep("deploy", ["deploy.ts", ...target, ...deploy], run),
      commandStep("validate", ["validate.ts", ...target], run, (stdout) => ({ optional: optionalRows(stdout) })),
      commandStep("drill", ["resilience-test.ts", ...target, "--only", "delete-processor"], run),
      commandStep("audit", ["audit.ts", ...target], run),
      commandStep("destroy", ["destroy.ts", ...target, "--yes"], run),
    ],
    removal: commandStep("down", ["local-cluster.ts", "down", "--delete-data"], run),
  };
}
