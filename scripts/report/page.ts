/**
 * The report of a run, made only from its result.json: one HTML file without network requests, for desktop, phone and
 * paper. The verdict comes first.
 */

import { isDrills, type RunResult } from "../recording/result.ts";
import { type DrillsReportOptions, drillsReport } from "./drills-report.ts";
import { loadReport } from "./load-report.ts";

export const renderReport = (result: RunResult, options: DrillsReportOptions = {}): string =>
  isDrills(result) ? drillsReport(result, options) : loadReport(result);
