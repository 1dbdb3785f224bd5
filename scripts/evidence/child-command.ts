/** Runs another command of the project; its output is the evidence, its exit code the verdict. */
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { capture } from "../cli/process.ts";
import { NAMESPACE } from "../cluster/namespace.ts";

const PROJECT = join(import.meta.dir, "..", "..");
/** Lines of a command's output that go into a reason. */
const REASON_LINES = 3;
/** A command ends its pods and forwards after an interrupt; the longest clean-up is that of a drill. */
const CLEANUP_LIMIT_MS = 5 * 60_000;

export interface Ran {
  exitCode: number;
  /** As typed: "bun scripts/validate.ts". */
  command: string;
  stdout: string;
  stderr: string;
}

/** An argument as typed into a shell. */
const quoted = (arg: string) => (/^[\w./:=,@+-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`);

/** Runs `bun scripts/NAME …` to its end. The signal interrupts it, so that it cleans up; so does the limit. */
export async function runScript(args: readonly string[], limitMs: number, signal: AbortSignal): Promise<Ran> {
  const shown = args.filter((arg) => !["--local", "--json"].includes(arg));
  const command = ["bun", ...shown.map(quoted)].join(" ");
  try {
    const result = await capture([process.execPath, ...args], {
      cwd: PROJECT,
      env: { NO_COLOR: "1", CONVEYOR_NAMESPACE: NAMESPACE },
      what: command,
      signal,
      timeoutMs: limitMs,
      stopSignal: "SIGINT",
      graceMs: CLEANUP_LIMIT_MS,
    });
    return { command, ...result };
  } catch (error) {
    if (!(error instanceof OperatorError) || error.exitCode !== EXIT.timeout) throw error;
    return { command, exitCode: EXIT.timeout, stdout: "", stderr: error.message };
  }
}

/** The last lines of its output, as the reason of a failure. */
export const lastOutputLines = ({ stderr, stdout }: Ran): string =>
  (stderr.trim() || stdout.trim()).split("\n").slice(-REASON_LINES).join(" · ");
