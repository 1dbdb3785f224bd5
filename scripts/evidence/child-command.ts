/** Another command of the project, run as a person would run it: its words are the evidence, its exit code the verdict. */
import { join } from "node:path";

const PROJECT = join(import.meta.dir, "..", "..");
/** The last thing that a command printed, for a reason. */
const REASON_LINES = 3;

export interface Ran {
  exitCode: number;
  /** As typed: "bun scripts/validate.ts". */
  command: string;
  stdout: string;
  stderr: string;
}

/** An argument as a person types it into a shell. */
const quoted = (arg: string) => (/^[\w./:=,@+-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`);

/** Runs `bun scripts/NAME …` to its end; a signal is handed on, so that it cleans up. */
export async function runScript(args: readonly string[], limitMs: number, signal: AbortSignal): Promise<Ran> {
  const child = Bun.spawn([process.execPath, ...args], {
    cwd: PROJECT,
    env: { ...process.env, NO_COLOR: "1" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const end = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
  const stop = () => child.kill("SIGINT");
  end.addEventListener("abort", stop, { once: true });
  try {
    const [stdout, stderr, exitCode] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    signal.throwIfAborted();
    const shown = args.filter((arg) => !["--local", "--json"].includes(arg));
    return { exitCode, command: ["bun", ...shown.map(quoted)].join(" "), stdout, stderr };
  } finally {
    end.removeEventListener("abort", stop);
  }
}

/** Why it failed, in its own last words. */
export const lastOutputLines = ({ stderr, stdout }: Ran): string =>
  (stderr.trim() || stdout.trim()).split("\n").slice(-REASON_LINES).join(" · ");
