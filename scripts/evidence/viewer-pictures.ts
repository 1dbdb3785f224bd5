/** Pictures of the dashboards in a browser, and of the log store's own page, as an operator sees them. */
import { join } from "node:path";
import type { Page } from "playwright-core";
import { withBrowser } from "../browser/browser.ts";
import { requireBrowser } from "../browser/page-picture.ts";
import { createAtomic } from "../cli/files.ts";
import { deployedLogBackend } from "../clients/log-store.ts";
import type { DrillsResult } from "../recording/result.ts";
import type { RunFolder } from "../recording/run-folder.ts";
import { FRAME_HEIGHT, FRAME_WIDTH } from "../video/video-frame.ts";
import { drillToPicture, PICTURED_DASHBOARDS, pictureFile } from "../video/video-pictures.ts";
import { drillsToShow, lastMs } from "../video/video-plan.ts";
import { PanelData } from "../viewer/panel-data.ts";
import { Session } from "../viewer/session.ts";
import { DashboardViewer } from "../viewer/viewer.ts";
import { WEB_PAGES, WebProxy } from "../viewer/web-proxy.ts";
import type { Artifact, EvidenceContext } from "./artifact.ts";

/** Those that show the whole pipeline; the others have the same form. */
const PICTURED = ["pipeline-overview", "kubernetes", "logs"] as const;
const WIDTH_PX = 1400;
const HEIGHT_PX = 900;
/** All panels of a page on a busy machine. */
const PAGE_LIMIT_MS = 90_000;
/** Curves are drawn a frame after their data. */
const DRAWN_MS = 500;

/** Titles of tiles that show an error or no data. */
const unfinished = async (page: Page): Promise<string[]> =>
  await page.$$eval(".tile", (tiles) =>
    tiles
      .filter((tile) => tile.querySelector(".state")!.textContent || tile.querySelector(".empty"))
      .map((tile) => tile.querySelector("h3")!.textContent ?? ""),
  );

const picture = async (page: Page, path: string, fullPage: boolean): Promise<void> =>
  await createAtomic(path, async (temporary) => {
    await page.waitForTimeout(DRAWN_MS);
    await page.screenshot({ path: temporary, fullPage, animations: "disabled", timeout: PAGE_LIMIT_MS });
  });

/** Opens a dashboard and waits for its data. @returns titles of tiles that show an error or no data */
async function openDashboard(page: Page, address: string, parameters: Record<string, string>): Promise<string[]> {
  const url = new URL(address);
  for (const [key, value] of Object.entries({ refresh: "off", ...parameters })) url.searchParams.set(key, value);
  await page.goto(url.href);
  await page.waitForFunction(() => document.getElementById("clock")!.textContent !== "", undefined, {
    timeout: PAGE_LIMIT_MS,
  });
  return await unfinished(page);
}

/** Shown before the fault of a drill. */
const BEFORE_FAULT_MS = 120_000;

/**
 * Takes the video's pictures of the dashboards over the time of a drill, into the folder of the run.
 * @throws OperatorError (exit 3) without Chromium or Prometheus
 */
export async function pictureRun(
  { cluster, browser }: Pick<EvidenceContext, "cluster" | "browser">,
  result: DrillsResult,
  folder: RunFolder,
): Promise<void> {
  const drill = drillToPicture(drillsToShow(result));
  if (!drill) return;
  await using source = new PanelData(cluster);
  const viewer = new DashboardViewer({ source, target: cluster.describe() });
  const [from, to] = [drill.recording.startedAtMs - BEFORE_FAULT_MS, lastMs(drill)].map(String) as [string, string];
  try {
    await withBrowser({ path: requireBrowser(browser) }, async (context) => {
      const page = await context.newPage();
      await page.setViewportSize({ width: FRAME_WIDTH, height: FRAME_HEIGHT });
      for (const name of Object.keys(PICTURED_DASHBOARDS) as (keyof typeof PICTURED_DASHBOARDS)[]) {
        await openDashboard(page, viewer.urlOf(name), { theme: "dark", from, to });
        await picture(page, folder.path(pictureFile(drill.name, name)), false);
      }
    });
  } finally {
    await viewer.close();
  }
}

export const dashboards: Artifact = {
  name: "dashboards",
  title: "dashboards with the data of the last 15 minutes, as bun scripts/dashboards.ts open shows them",
  files: PICTURED.map((name) => `dashboard-${name}.png`),
  async make({ cluster, out, browser }) {
    await using source = new PanelData(cluster);
    const viewer = new DashboardViewer({ source, target: cluster.describe() });
    const files: string[] = [];
    const missing: Record<string, string> = {};
    try {
      await withBrowser({ path: requireBrowser(browser) }, async (context) => {
        const page = await context.newPage();
        await page.setViewportSize({ width: WIDTH_PX, height: HEIGHT_PX });
        for (const name of PICTURED) {
          const file = `dashboard-${name}.png`;
          const without = await openDashboard(page, viewer.urlOf(name), { theme: "light", period: "15m" });
          if (without.length > 0) {
            missing[file] = `no data: ${without.join(", ")}`;
            continue;
          }
          await picture(page, join(out, file), true);
          files.push(file);
        }
      });
    } finally {
      await viewer.close();
    }
    if (files.length === 0) {
      return { made: false, reason: Object.values(missing).join("; "), hint: "bun scripts/dashboards.ts open" };
    }
    return { made: true, detail: `${files.length} dashboards, every panel with data`, files, missing };
  },
};

/** A search across components on the store's own page. @returns false where the deployed store has none */
export async function pictureLogSearch(
  { cluster, browser }: Pick<EvidenceContext, "cluster" | "browser">,
  query: string,
  path: string,
): Promise<boolean> {
  if ((await deployedLogBackend(cluster))?.name !== "victorialogs") return false;
  const proxy = new WebProxy(WEB_PAGES.victorialogs, cluster, new Session());
  try {
    await withBrowser({ path: requireBrowser(browser) }, async (context) => {
      const page = await context.newPage();
      await page.setViewportSize({ width: WIDTH_PX, height: HEIGHT_PX });
      await page.goto(proxy.url);
      const search = new URLSearchParams({ query, "g0.range_input": "15m", "g0.relative_time": "last_15_minutes" });
      await page.goto(`${proxy.address}#/?${search}`);
      await page.reload();
      await page.waitForSelector("text=Total logs returned", { timeout: PAGE_LIMIT_MS });
      await page.waitForLoadState("networkidle", { timeout: PAGE_LIMIT_MS });
      await picture(page, path, false);
    });
  } finally {
    await proxy.close();
  }
  return true;
}
