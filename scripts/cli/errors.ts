/**
 * The one error that commands show to a person, and the exit codes they all share.
 * Everything that is not an OperatorError is a defect of this project and keeps its stack.
 */

/** Exit codes of every command (docs/architecture.md, "Conventions of every command"). */
export const EXIT = {
  /** Done, or everything checked and passed. */
  ok: 0,
  /** The work failed. */
  failed: 1,
  /** Unknown flag, missing argument, bad value. */
  usage: 2,
  /** A tool, a cluster or a right that the work needs is missing. */
  precondition: 3,
  /** Something awaited did not happen within its limit. */
  timeout: 4,
  /** The work ran to its end and found violations: the verdict is red. */
  violations: 5,
  /** Interrupted by a signal. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export interface OperatorErrorOptions {
  /** What the operator can do next, in a sentence or a command to paste. */
  hint?: string;
  /** Exit code of the command; `failed` when absent. */
  exitCode?: ExitCode;
  /** The error underneath; its chain is printed in one line each. */
  cause?: unknown;
}

/** A problem that a person can act on: what happened, what to do, what caused it. */
export class OperatorError extends Error {
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;

  constructor(message: string, options: OperatorErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "OperatorError";
    this.hint = options.hint;
    this.exitCode = options.exitCode ?? EXIT.failed;
  }
}

/** Longest chain of causes that is followed: deeper ones repeat themselves, and a cycle must end. */
const MAX_CAUSES = 8;

/** The messages of an error and of its causes, outermost first; repeated ones once. */
export function causeChain(error: unknown): string[] {
  const messages: string[] = [];
  let current: unknown = error;
  for (let depth = 0; depth < MAX_CAUSES && current !== undefined && current !== null; depth++) {
    const message = current instanceof Error ? current.message || current.name : String(current);
    if (!messages.includes(message)) messages.push(message);
    current = current instanceof Error ? current.cause : undefined;
  }
  return messages;
}

/** The whole text that an operator sees for an error, without colour, one fact a line. */
export function formatError(error: unknown): string {
  if (error instanceof OperatorError) {
    const [message, ...causes] = causeChain(error);
    const lines = [`error: ${message}`];
    for (const cause of causes) lines.push(`  cause: ${cause.trimEnd().replaceAll("\n", "\n         ")}`);
    if (error.hint) lines.push(`  hint: ${error.hint.replaceAll("\n", "\n        ")}`);
    return lines.join("\n");
  }
  if (error instanceof Error) {
    const causes = causeChain(error).slice(1);
    return [
      `unexpected error (a defect of this project): ${error.stack ?? error.message}`,
      ...causes.map((cause) => `  cause: ${cause}`),
    ].join("\n");
  }
  return `unexpected error: ${String(error)}`;
}

/** True for the error that an aborted signal raises, however it was wrapped. */
export function isAbort(error: unknown): boolean {
  let current: unknown = error;
  for (let depth = 0; depth < MAX_CAUSES && current instanceof Error; depth++) {
    if (current.name === "AbortError") return true;
    current = current.cause;
  }
  return false;
}
