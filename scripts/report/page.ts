/**
 * The pages of a run, each made from its result.json alone: one file without any request, for a desk, a phone, the dark
 * and paper. What they answer first: passed? lost? how long?
 */

import { isDrills, type LoadTestResult, type RunResult } from "../recording/result.ts";
import { renderComparison } from "./compare-page.ts";
import { type DrillsReportOptions, drillsReport } from "./drills-report.ts";
import { loadPicture, loadReport } from "./load-report.ts";

/** The report of a load test or of drills, as a whole HTML document. */
export const renderReport = (result: RunResult, options: DrillsReportOptions = {}): string =>
  isDrills(result) ? drillsReport(result, options) : loadReport(result);

/** What stands in outputs/hpa-scaling.png: verdict, charts and the table of scaling, as an HTML document for htmlToPng. */
export const renderScalingPicture = (result: LoadTestResult): string => loadPicture(result);

export { renderComparison };
