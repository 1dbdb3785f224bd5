/** A report that prints nothing. */
import { TerminalReport } from "../../../scripts/cli/report.ts";

const nowhere = { write: () => true };
export const silentReport = () => new TerminalReport({ stdout: nowhere, stderr: nowhere, color: false });
