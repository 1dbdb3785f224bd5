/** Artifacts that are the output of commands: validate, audit, and both in a row. */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { EXIT } from "../cli/errors.ts";
import { writeAtomic } from "../cli/files.ts";
import type { Artifact, EvidenceContext, Making } from "./artifact.ts";
import { lastOutputLines, type Ran, runScript } from "./child-command.ts";

/** validate takes half a minute; an audit of ten minutes about as long. */
const LIMIT_MS = 300_000;

/** A command with its output and exit code, as in a terminal. */
const typed = ({ command, stderr, stdout, exitCode }: Ran) =>
  `${[`$ ${command}`, stderr.trimEnd(), stdout.trimEnd(), `exit ${exitCode}`].filter(Boolean).join("\n")}\n`;

/** Below outputs/. The folder has the name that the user's plan gives it. */
const TRAIL_FILE = "../run_logs/validation-trail.txt";
/** From the plan of a deploy that changes nothing to the proof that nothing is lost. */
const TRAIL: readonly (readonly string[])[] = [
  ["scripts/deploy.ts", "--dry-run"],
  ["scripts/validate.ts"],
  ["scripts/audit.ts"],
];

export const trail: Artifact = {
  name: "validation-trail",
  title:
    "a validation from start to end, with the time of each command: what a deploy would change, all checks, the audit",
  files: [TRAIL_FILE],
  minutes: 2,
  async make(context) {
    const blocks: string[] = [];
    const verdicts: string[] = [];
    for (const args of TRAIL) {
      const startedAt = new Date().toISOString();
      const ran = await runScript([...args, ...context.clusterFlags], LIMIT_MS, context.signal);
      blocks.push(`${startedAt} ${typed(ran)}`);
      verdicts.push(ran.stdout.trimEnd().split("\n").at(-1) ?? "");
      if (ran.exitCode === EXIT.ok) continue;
      return { made: false, reason: `exit ${ran.exitCode}: ${lastOutputLines(ran)}`, hint: ran.command };
    }
    const path = join(context.out, TRAIL_FILE);
    await mkdir(dirname(path), { recursive: true });
    await writeAtomic(path, blocks.join("\n"));
    return { made: true, detail: verdicts.join("; "), files: [TRAIL_FILE] };
  },
};

async function transcript(context: EvidenceContext, file: string, args: readonly string[]): Promise<Making> {
  const ran = await runScript([...args, ...context.clusterFlags], LIMIT_MS, context.signal);
  // Exit 5 is a result too: violations were found.
  if (ran.exitCode !== EXIT.ok && ran.exitCode !== EXIT.violations) {
    return { made: false, reason: `exit ${ran.exitCode}: ${lastOutputLines(ran)}`, hint: ran.command };
  }
  await writeAtomic(join(context.out, file), typed(ran));
  const verdict = ran.stdout.trimEnd().split("\n").at(-1) ?? "";
  return { made: true, detail: verdict, files: [file] };
}

export const validation: Artifact = {
  name: "validate",
  title: "all checks of the deployed pipeline, with measured values",
  files: ["validation.txt"],
  make: (context) => transcript(context, "validation.txt", ["scripts/validate.ts"]),
};

export const audit: Artifact = {
  name: "audit",
  title: "every acknowledged event of the last ten minutes, checked by identity against each invariant",
  files: ["audit.txt"],
  make: (context) => transcript(context, "audit.txt", ["scripts/audit.ts"]),
};
