/** Artifacts that are the output of a command: validate and audit. */
import { join } from "node:path";
import { EXIT } from "../cli/errors.ts";
import { writeAtomic } from "../cli/files.ts";
import type { Artifact, EvidenceContext, Making } from "./artifact.ts";
import { lastOutputLines, runScript } from "./child-command.ts";

/** validate takes half a minute; an audit of ten minutes about as long. */
const LIMIT_MS = 300_000;

async function transcript(context: EvidenceContext, file: string, args: readonly string[]): Promise<Making> {
  const ran = await runScript([...args, ...context.clusterFlags], LIMIT_MS, context.signal);
  // Exit 5 is a result too: violations were found.
  if (ran.exitCode !== EXIT.ok && ran.exitCode !== EXIT.violations) {
    return { made: false, reason: `exit ${ran.exitCode}: ${lastOutputLines(ran)}`, hint: ran.command };
  }
  const text = [ran.stderr.trimEnd(), ran.stdout.trimEnd()].filter(Boolean).join("\n");
  await writeAtomic(join(context.out, file), `$ ${ran.command}\n${text}\nexit ${ran.exitCode}\n`);
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
