/** Pictures of HTML pages. */

import { EXIT, OperatorError } from "../cli/errors.ts";
import { createAtomic } from "../cli/files.ts";
import { findBrowser, withBrowser } from "./browser.ts";

/** For layout and screenshot of a long page on a busy machine. */
const LAYOUT_LIMIT_MS = 60_000;
/** Largest height that Chromium draws; a longer page is cut. */
const MAX_HEIGHT_PX = 16_000;

export interface PictureSize {
  /** CSS pixels; 1280 when absent. */
  width?: number;
  theme?: "light" | "dark";
  /** Browser's command; the system's Chromium when absent. */
  browser?: string;
}

/** Path of the browser. @throws OperatorError (exit 3) when there is none. */
export function requireBrowser(named?: string): string {
  const path = findBrowser(named);
  if (path) return path;
  throw new OperatorError(named ? `--browser: no command "${named}"` : "Chromium is not installed", {
    exitCode: EXIT.precondition,
    hint: "apt-get install chromium, or --browser COMMAND",
  });
}

/**
 * Renders the page and saves the picture, complete or not at all.
 * @throws OperatorError (exit 3) without a browser.
 */
export async function htmlToPng(html: string, path: string, size: PictureSize = {}): Promise<void> {
  const { width = 1280, theme = "light" } = size;
  await createAtomic(path, async (temporary) => {
    await withBrowser({ path: requireBrowser(size.browser) }, async (context) => {
      const page = await context.newPage();
      await page.emulateMedia({ colorScheme: theme });
      await page.setViewportSize({ width, height: 900 });
      await page.setContent(html, { waitUntil: "load", timeout: LAYOUT_LIMIT_MS });
      const height = await page.evaluate(() => document.documentElement.scrollHeight);
      await page.screenshot({
        path: temporary,
        fullPage: true,
        clip: height > MAX_HEIGHT_PX ? { x: 0, y: 0, width, height: MAX_HEIGHT_PX } : undefined,
        animations: "disabled",
        timeout: LAYOUT_LIMIT_MS,
      });
    });
  });
}
