/**
 * Makes outputs/ from what is deployed: policies, TLS, scaling, pictures, checks, audit, and an index of them.
 *
 *   bun scripts/evidence.ts                         everything that this machine can make; names what it cannot, and why
 *   bun scripts/evidence.ts --only tls --only network-policies
 *   bun scripts/evidence.ts --list
 *
 * Each subject can be made alone; outputs/README.md says of each file when, by what and from which commit it was made.
 */
import { join, relative, resolve } from "node:path";
import { runCommand } from "./cli/command.ts";
import { EXIT, isAbort, OperatorError } from "./cli/errors.ts";
import { capture } from "./cli/process.ts";
import type { Cluster } from "./cluster/cluster.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import type { Artifact, Making } from "./evidence/artifact.ts";
import { ARTIFACTS } from "./evidence/catalog.ts";
import { entryOf, readRecord, type Version, writeIndex } from "./evidence/index-page.ts";
import { localTarget } from "./local-cluster/index.ts";

const PROJECT = join(import.meta.dir, "..");

/** The commit that the project's folder is at, and how many files differ from it. */
async function versionOf(folder: string): Promise<Version> {
  const head = await capture(["git", "rev-parse", "HEAD"], { cwd: folder });
  if (head.exitCode !== 0) return { commit: "unknown", changed_files: 0 };
  const status = await capture(["git", "status", "--porcelain", "--", ".", ":!outputs"], { cwd: folder });
  return { commit: head.stdout.trim(), changed_files: status.stdout.split("\n").filter(Boolean).length };
}

/** @throws OperatorError (exit 2) that names the unknown subject and the known ones. */
export function selectedArtifacts(only: readonly string[], all: readonly Artifact[] = ARTIFACTS): readonly Artifact[] {
  for (const name of only) {
    if (all.some((subject) => subject.name === name)) continue;
    throw new OperatorError(`--only: must be one of ${all.map((subject) => subject.name).join(", ")}; got "${name}"`, {
      exitCode: EXIT.usage,
    });
  }
  return only.length === 0 ? all : all.filter(({ name }) => only.includes(name));
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/evidence.ts",
      summary: "makes outputs/ from what is deployed, with an index",
      usage: ["[--only NAME]… [--quick | --reuse]", "--list"],
      flags: {
        ...CLUSTER_FLAGS,
        only: { type: "string", multiple: true, valueName: "NAME", description: "this subject" },
        quick: { type: "boolean", description: "leave out what takes minutes" },
        reuse: {
          type: "boolean",
          description: "take load test and drills from their newest record in outputs/runs, run nothing long",
        },
        list: { type: "boolean", description: "name the subjects, make nothing" },
        out: {
          type: "string",
          valueName: "DIR",
          description: "where the files go (the project's outputs/ when absent)",
        },
        browser: {
          type: "string",
          valueName: "COMMAND",
          env: "CONVEYOR_BROWSER",
          description: "Chromium for the pictures; by default the one of the system",
        },
      },
      examples: [
        ["bun scripts/evidence.ts", "everything; the load test and the drills take their time"],
        ["bun scripts/evidence.ts --quick", "what takes no more than a minute each"],
        ["bun scripts/evidence.ts --reuse", "the same, with the load test and the drills that were run last"],
        ["bun scripts/evidence.ts --only tls", "outputs/tls-config-summary.md"],
      ],
      notes: [
        "What cannot be made here (an image, a browser is missing) is named, with the reason; that is no failure.",
      ],
    },
    async ({ flags, report, signal }) => {
      const subjects = selectedArtifacts(flags.only).filter(({ minutes }) => !(flags.quick && minutes !== undefined));
      if (flags.list) {
        report.result({
          subjects: subjects.map(({ name, title, files, minutes }) => ({ name, title, files, minutes })),
        });
        for (const { name, title, files } of subjects) report.print(`${name.padEnd(18)} ${files.join(", ")}: ${title}`);
        return EXIT.ok;
      }
      if (flags.quick && flags.reuse) {
        throw new OperatorError("--quick and --reuse exclude each other", {
          exitCode: EXIT.usage,
          hint: "--quick leaves out the load test and the drills, --reuse takes their newest record",
        });
      }
      const cluster = await selectCluster(flags, localTarget);
      report.info(`target: ${cluster.describe()}`);
      await requireReachable(cluster, signal);
      const out = flags.out === undefined ? join(PROJECT, "outputs") : resolve(flags.out);
      const version = await versionOf(PROJECT);
      const record = await readRecord(out);
      const failures: string[] = [];
      for (const subject of subjects) {
        const making = await report.step(subject.name, async (step): Promise<Making> => {
          const result = await make(subject, cluster, step);
          step.update(result.made ? result.detail : `not made: ${result.reason}`);
          return result;
        });
        record[subject.name] = await entryOf(subject, making, out, version, new Date());
        // After each: what was made is in the index even if the next one is interrupted.
        await writeIndex(out, ARTIFACTS, record);
      }
      const entries = subjects.map(({ name }) => ({ name, ...record[name]! }));
      report.result({ out, ...version, subjects: entries });
      for (const { name, made, detail, hint, files } of entries) {
        const where = Object.keys(files).map((file) => relative(process.cwd(), join(out, file)));
        report.print(made ? `${where.join(", ")}` : `not made: ${name}: ${detail}; ${hint}`);
      }
      return failures.length === 0 ? EXIT.ok : EXIT.failed;

      async function make(subject: Artifact, target: Cluster, step: { update(detail: string): void }): Promise<Making> {
        try {
          return await subject.make({
            cluster: async () => target,
            clusterFlags: target.isLocal ? ["--local"] : ["--context", target.context],
            out,
            browser: flags.browser,
            reuse: flags.reuse,
            signal,
            step,
          });
        } catch (error) {
          if (signal.aborted || isAbort(error)) throw error;
          // A precondition that this machine lacks is a reason; anything else is a fault, and the others are still made.
          if (!(error instanceof OperatorError) || error.exitCode !== EXIT.precondition) failures.push(subject.name);
          const reason = error instanceof Error ? error.message : String(error);
          const hint =
            error instanceof OperatorError && error.hint
              ? error.hint
              : `bun scripts/evidence.ts --only ${subject.name}`;
          return { made: false, reason, hint };
        }
      }
    },
  );
}
