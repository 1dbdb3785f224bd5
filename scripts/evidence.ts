/**
 * Makes outputs/ from the deployed pipeline: policies, TLS, scaling, pictures, checks, audit, and an index of them.
 *
 *   bun scripts/evidence.ts                         everything; artifacts that cannot be made here are listed with the reason
 *   bun scripts/evidence.ts --only tls --only network-policies
 *   bun scripts/evidence.ts --list
 *
 * outputs/README.md lists time, command and commit of each file.
 */
import { join, relative, resolve } from "node:path";
import { type CommandContext, defineCommand, type Flags, runCommand } from "./cli/command.ts";
import { EXIT, type ExitCode, isAbort, OperatorError } from "./cli/errors.ts";
import { versionOf } from "./cli/version.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import type { Artifact, EvidenceContext, Making } from "./evidence/artifact.ts";
import { ARTIFACTS } from "./evidence/catalog.ts";
import { entryOf, readRecord, writeIndex } from "./evidence/index-page.ts";
import { localTarget } from "./local-cluster/index.ts";

const PROJECT = join(import.meta.dir, "..");

/** @throws OperatorError (exit 2) that lists the known names for an unknown one. */
export function selectedArtifacts(only: readonly string[], all: readonly Artifact[] = ARTIFACTS): readonly Artifact[] {
  for (const name of only) {
    if (all.some((artifact) => artifact.name === name)) continue;
    const known = all.map((artifact) => artifact.name).join(", ");
    throw new OperatorError(`--only: must be one of ${known}; got "${name}"`, { exitCode: EXIT.usage });
  }
  return only.length === 0 ? all : all.filter(({ name }) => only.includes(name));
}

const FLAGS = {
  ...CLUSTER_FLAGS,
  only: { type: "string", multiple: true, valueName: "NAME", description: "make only this artifact" },
  quick: { type: "boolean", description: "skip artifacts that take minutes" },
  reuse: {
    type: "boolean",
    description: "use the newest records of load test and drills in outputs/runs instead of new runs",
  },
  list: { type: "boolean", description: "list the artifacts, make nothing" },
  out: { type: "string", valueName: "DIR", description: "folder of the files (the project's outputs/ when absent)" },
  browser: {
    type: "string",
    valueName: "COMMAND",
    env: "CONVEYOR_BROWSER",
    description: "Chromium for the pictures; by default the one of the system",
  },
} as const satisfies Flags;
type Context = CommandContext<typeof FLAGS>;

function list(artifacts: readonly Artifact[], report: Context["report"]): void {
  report.result({ subjects: artifacts.map(({ name, title, files, minutes }) => ({ name, title, files, minutes })) });
  for (const { name, title, files } of artifacts) report.print(`${name.padEnd(18)} ${files.join(", ")}: ${title}`);
}

/** @returns isFailure: the artifact should have been made, since neither a tool nor an image is missing. */
async function attempt(artifact: Artifact, context: EvidenceContext): Promise<{ making: Making; isFailure: boolean }> {
  try {
    return { making: await artifact.make(context), isFailure: false };
  } catch (error) {
    if (context.signal.aborted || isAbort(error)) throw error;
    const known = error instanceof OperatorError ? error : undefined;
    const reason = error instanceof Error ? error.message : String(error);
    const hint = known?.hint ?? `bun scripts/evidence.ts --only ${artifact.name}`;
    return { making: { made: false, reason, hint }, isFailure: known?.exitCode !== EXIT.precondition };
  }
}

/** Makes the selected artifacts; a failed one does not stop the others. */
async function makeArtifacts({ flags, report, signal }: Context): Promise<ExitCode> {
  const artifacts = selectedArtifacts(flags.only).filter(({ minutes }) => !(flags.quick && minutes !== undefined));
  if (flags.list) {
    list(artifacts, report);
    return EXIT.ok;
  }
  if (flags.quick && flags.reuse) {
    throw new OperatorError("--quick and --reuse exclude each other", {
      exitCode: EXIT.usage,
      hint: "--quick skips the load test and the drills, --reuse uses their newest records",
    });
  }
  const cluster = await selectCluster(flags, localTarget);
  report.info(`target: ${cluster.describe()}`);
  await requireReachable(cluster, signal);
  const out = flags.out === undefined ? join(PROJECT, "outputs") : resolve(flags.out);
  const version = await versionOf(PROJECT);
  const record = await readRecord(out);
  let hasFailed = false;
  for (const artifact of artifacts) {
    const { making, isFailure } = await report.step(artifact.name, async (step) => {
      const result = await attempt(artifact, {
        cluster,
        clusterFlags: cluster.isLocal ? ["--local"] : ["--context", cluster.context],
        out,
        browser: flags.browser,
        reuse: flags.reuse,
        signal,
        step,
      });
      step.update(result.making.made ? result.making.detail : `not made: ${result.making.reason}`);
      return result;
    });
    hasFailed ||= isFailure;
    record[artifact.name] = await entryOf(artifact, making, out, version, new Date());
    // After each: an interrupt of the next one keeps the index correct.
    await writeIndex(out, ARTIFACTS, record);
  }
  const entries = artifacts.map(({ name }) => ({ name, ...record[name]! }));
  report.result({ out, ...version, subjects: entries });
  for (const { name, made, detail, hint, files } of entries) {
    const paths = Object.keys(files).map((file) => relative(process.cwd(), join(out, file)));
    report.print(made ? paths.join(", ") : `not made: ${name}: ${detail}; ${hint}`);
  }
  return hasFailed ? EXIT.failed : EXIT.ok;
}

export const command = defineCommand({
  name: "scripts/evidence.ts",
  summary: "makes outputs/ from the deployed pipeline, with an index",
  usage: ["[--only NAME]… [--quick | --reuse]", "--list"],
  flags: FLAGS,
  examples: [
    ["bun scripts/evidence.ts", "everything, with a load test and all drills"],
    ["bun scripts/evidence.ts --quick", "only what takes no more than a minute each"],
    ["bun scripts/evidence.ts --reuse", "everything, with the newest load test and drills"],
    ["bun scripts/evidence.ts --only tls", "outputs/tls-config-summary.md"],
  ],
  notes: ["An artifact that needs a missing image or tool is listed with the reason; that is not a failure."],
  run: makeArtifacts,
});

if (import.meta.main) await runCommand(command);
