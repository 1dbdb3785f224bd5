/** Deeper chains repeat themselves, and a circular one must end. */
const MAX_CAUSES = 8;

/** An error and its causes, outermost first. kafkajs keeps the cause of an error as `originalError`. */
export function* causesOf(error: unknown): Generator<unknown, void> {
  let current = error;
  for (let depth = 0; depth < MAX_CAUSES && current !== undefined && current !== null; depth++) {
    yield current;
    const { cause, originalError } = current as { cause?: unknown; originalError?: unknown };
    current = cause ?? originalError;
  }
}
