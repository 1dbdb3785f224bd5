/** The flag --run of the commands that work on one run's events. */
import { NAME_PATTERN, NAME_RULE } from "../../services/domain/event.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";

/** @throws OperatorError (exit 2) when --run is not a valid name of a run */
export function checkRunFlag(run: string | undefined): void {
  if (run === undefined || NAME_PATTERN.test(run)) return;
  throw new OperatorError(`--run: ${NAME_RULE}; got "${run}"`, { exitCode: EXIT.usage });
}
