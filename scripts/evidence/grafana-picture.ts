/** A picture of a page whose panels have drawn, and never of another. */

import type { Page } from "playwright-core";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { createAtomic } from "../cli/files.ts";
import { pause } from "../cli/wait.ts";
import { judgePanels, readPanels, type Verdict } from "./grafana-panels.ts";

/** The page itself is there within a second, its picture too; a machine with ten programs in front of the browser takes longer. */
const PAGE_LIMIT_MS = 90_000;
/** Grafana's first page after a start compiles and fetches for many seconds on two busy cores. */
export const DRAW_LIMIT_MS = 90_000;
/** A fault may be that of a query before the data was there; one that stays this long is one. */
export const FAULT_PATIENCE_MS = 20_000;
const LOOK_INTERVAL_MS = 500;
/** So many looks in a row must say "ready": a panel is drawn in steps. */
const READY_LOOKS = 3;

export interface PictureOptions {
  url: string;
  /** Titles of panels that must be on it. */
  expected: readonly string[];
  path: string;
  signal: AbortSignal;
  drawLimitMs?: number;
  faultPatienceMs?: number;
  onState?: (state: string) => void;
}

const reasonsOf = (verdict: Verdict) => (verdict.state === "ready" ? "" : verdict.reasons.join("; "));

/**
 * Opens the page, waits until every panel has drawn, and saves the picture under its name.
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
  let readyLooks = 0;
  let faultSince: number | undefined;
  for (;;) {
    options.signal.throwIfAborted();
    const verdict = judgePanels(options.expected, await readPanels(page));
    const now = performance.now();
    readyLooks = verdict.state === "ready" ? readyLooks + 1 : 0;
    if (readyLooks >= READY_LOOKS) break;
    faultSince = verdict.state === "bad" ? (faultSince ?? now) : undefined;
    if (faultSince !== undefined && now - faultSince >= patienceMs) {
      throw new OperatorError(`no picture of ${name}: ${reasonsOf(verdict)}`, {
        exitCode: EXIT.violations,
        hint: "the panel's query in the dashboard's JSON, run by hand, says why: docs/observability.md",
      });
    }
    if (now - startedAt >= drawLimitMs) {
      throw new OperatorError(
        `waited ${Math.round(drawLimitMs / 1000)} s for the panels of ${name} to be drawn; last seen: ${reasonsOf(verdict)}`,
        { exitCode: EXIT.timeout },
      );
    }
    options.onState?.(reasonsOf(verdict) || "drawn");
    await pause(LOOK_INTERVAL_MS, options.signal);
  }
  await createAtomic(options.path, (path) =>
    page.screenshot({ path, fullPage: true, animations: "disabled", timeout: PAGE_LIMIT_MS }),
  );
}
