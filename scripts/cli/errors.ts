/**
 * The error that commands show to an operator, and the exit codes that they share.
 * Any other error is a defect of this project and keeps its stack.
 */

/** Exit codes of every command (docs/architecture.md, "Conventions of every command"). */
export const EXIT = {
  /** Done, or everything checked and passed. */
  ok: 0,
  /** The work failed. */
  failed: 1,
  /** Unknown flag, missing argument, bad value. */
  usage: 2,
  /** A tool, a cluster or a permission is missing. */
  precondition: 3,
  /** Something awaited did not happen within its limit. */
  timeout: 4,
  /** The work ran to its end and found violations. */
  violations: 5,
  /** Interrupted by a signal. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export interface OperatorErrorOptions {
  /** The operator's next step: a sentence, or a command to paste. */
  hint?: string;
  /** Exit code of the command; `failed` when absent. */
  exitCode?: ExitCode;
  /** The original error; its chain is printed, one line each. */
  cause?: unknown;
  /** Fields of the --json document besides the error: what was done before it. */
  document?: object;
}

/** A problem that the operator can act on: what happened, what to do, what caused it. */
export class OperatorError extends Error {
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;
  readonly document: object | undefined;

  constructor(message: string, options: OperatorErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "OperatorError";
    this.hint = options.hint;
    this.exitCode = options.exitCode ?? EXIT.failed;
    this.document = options.document;
  }
}

/** Longest chain of causes that is followed: deeper ones repeat themselves, and a cycle must end. */
const MAX_CAUSES = 8;

/** An error and its causes, outermost first. */
function* errorsOf(error: unknown): Generator<unknown, void, void> {
  let current = error;
  for (let depth = 0; depth < MAX_CAUSES && current !== undefined && current !== null; depth++) {
    yield current;
    current = current instanceof Error ? current.cause : undefined;
  }
}

/** The messages of an error and of its causes, outermost first; repeated ones once. */
export const causeChain = (error: unknown): string[] => [
  ...new Set([...errorsOf(error)].map((each) => (each instanceof Error ? each.message || each.name : String(each)))),
];

/** The text that an operator sees for an error, without colour, one fact a line. */
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

/** True for the error of an aborted signal, also as the cause of another. */
export const isAbort = (error: unknown): boolean =>
  [...errorsOf(error)].some((each) => each instanceof Error && each.name === "AbortError");
