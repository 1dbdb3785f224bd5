/**
 * The pages of a run, made only from its result.json: each is one HTML file without network requests, for desktop,
 * phone and paper. The verdict comes first.
 */

import { isDrills, type LoadTestResult, type RunResult } from "../recording/result.ts";
import { renderComparison } from "./compare-page.ts";
import { type DrillsReportOptions, drillsReport } from "./drills-report.ts";
import { loadPicture, loadReport } from "./load-report.ts";

/** The report of a load test or of drills, as an HTML document. */
export const renderReport = (result: RunResult, options: DrillsReportOptions = {}): string =>
  isDrills(result) ? drillsReport(result, options) : loadReport(result);

/** The page of outputs/hpa-scaling.png, for htmlToPng. */
export const renderScalingPicture = (result: LoadTestResult): string => loadPicture(result);

export { renderComparison };
