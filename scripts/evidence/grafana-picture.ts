/** Takes a picture of a Grafana page once every panel is drawn with data. */

import type { Page } from "playwright-core";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { createAtomic } from "../cli/files.ts";
import { pause } from "../cli/wait.ts";
import { judgePanels, readPanels, type Verdict } from "./grafana-panels.ts";

/** For loading the page and for the screenshot; a second on an idle machine. */
const PAGE_LIMIT_MS = 90_000;
/** Grafana's first page after a start takes many seconds on two busy cores. */
const DRAW_LIMIT_MS = 90_000;
/** An error that disappears earlier is that of a query before its data existed. */
const FAULT_PATIENCE_MS = 20_000;
const POLL_INTERVAL_MS = 500;
/** Consecutive polls that must find the page ready: panels are drawn in steps. */
const READY_POLLS = 3;

export interface PictureOptions {
  url: string;
  /** Titles of panels that must exist. */
  expected: readonly string[];
  path: string;
  signal: AbortSignal;
  drawLimitMs?: number;
  faultPatienceMs?: number;
  onState?: (state: string) => void;
}

const reasonsOf = (verdict: Verdict) => (verdict.state === "ready" ? "" : verdict.reasons.join("; "));

/**
 * Opens the page, waits until every panel is drawn, and saves the picture.
 * @throws OperatorError (exit 5) for a panel that is empty or fails, exit 4 when it does not finish; no file then.
 */
export async function takePicture(page: Page, options: PictureOptions): Promise<void> {
  const drawLimitMs = options.drawLimitMs ?? DRAW_LIMIT_MS;
  const patienceMs = options.faultPatienceMs ?? FAULT_PATIENCE_MS;
  const name = options.url.replace(/\?.*$/, "");
  const response = await page.goto(options.url, { waitUntil: "domcontentloaded", timeout: PAGE_LIMIT_MS });
  if (!response?.ok()) {
    throw new OperatorError(`${name} answered ${response?.status() ?? "nothing"}`, { exitCode: EXIT.failed });
  }
  const startedAt = performance.now();
  let readyPolls = 0;
  let faultSince: number | undefined;
  for (;;) {
    options.signal.throwIfAborted();
    const verdict = judgePanels(options.expected, await readPanels(page));
    const now = performance.now();
    readyPolls = verdict.state === "ready" ? readyPolls + 1 : 0;
    if (readyPolls >= READY_POLLS) break;
    faultSince = verdict.state === "bad" ? (faultSince ?? now) : undefined;
    if (faultSince !== undefined && now - faultSince >= patienceMs) {
      throw new OperatorError(`no picture of ${name}: ${reasonsOf(verdict)}`, {
        exitCode: EXIT.violations,
        hint: "run the query of the panel by hand: docs/observability.md",
      });
    }
    if (now - startedAt >= drawLimitMs) {
      throw new OperatorError(
        `waited ${Math.round(drawLimitMs / 1000)} s for the panels of ${name} to be drawn; last state: ${reasonsOf(verdict)}`,
        { exitCode: EXIT.timeout },
      );
    }
    options.onState?.(reasonsOf(verdict) || "drawn");
    await pause(POLL_INTERVAL_MS, options.signal);
  }
  await createAtomic(options.path, (path) =>
    page.screenshot({ path, fullPage: true, animations: "disabled", timeout: PAGE_LIMIT_MS }),
  );
}
