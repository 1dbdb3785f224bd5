/**
 * The dashboards of the viewer in a real browser, on the deployed pipeline: every panel draws data, its values are those
 * that Prometheus answers, and the page fits a desktop and a phone in both themes.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { findBrowser, withBrowser } from "../../scripts/browser/browser.ts";
import { PrometheusReader } from "../../scripts/clients/prometheus.ts";
import { DASHBOARD_NAMES, languageOf, panelsOf, readDashboard, textOf } from "../../scripts/dashboards/definitions.ts";
import type { SeriesFrame } from "../../scripts/viewer/frame.ts";
import { MAX_SERIES, PanelData } from "../../scripts/viewer/panel-data.ts";
import { queryText } from "../../scripts/viewer/query-text.ts";
import { formatValue } from "../../scripts/viewer/units.ts";
import { DashboardViewer } from "../../scripts/viewer/viewer.ts";
import { cluster, describeOnCluster } from "./harness.ts";

const browser = findBrowser();
/** All panels of a dashboard on a busy machine. */
const PAGE_LIMIT_MS = 90_000;
/** After a deploy, rates need some scrapes, and the log store some lines. */
const DATA_LIMIT_MS = 180_000;
const VIEWS = [
  { width: 1400, theme: "dark" },
  { width: 390, theme: "light" },
] as const;

let source: PanelData;
let prometheus: PrometheusReader;
let viewer: DashboardViewer;

describeOnCluster("dashboards in a browser", () => {
  beforeAll(async () => {
    const target = await cluster();
    source = new PanelData(target);
    prometheus = await PrometheusReader.open(target);
    viewer = new DashboardViewer({ source, target: target.describe() });
  });
  afterAll(async () => {
    await viewer?.close();
    await Promise.all([source?.close(), prometheus?.close()]);
  });

  test.skipIf(!browser).each([...DASHBOARD_NAMES])(
    "%s: every panel draws data, and the page is not wider than its window",
    async (name) => {
      await withBrowser({ path: browser! }, async (context) => {
        const page = await context.newPage();
        const problems: string[] = [];
        page.on("pageerror", (error) => problems.push(error.message));
        for (const { width, theme } of VIEWS) {
          await page.setViewportSize({ width, height: 900 });
          const url = new URL(viewer.urlOf(name));
          url.searchParams.set("theme", theme);
          url.searchParams.set("refresh", "off");
          url.searchParams.set("period", "15m");
          const limit = performance.now() + DATA_LIMIT_MS;
          for (;;) {
            await page.goto(url.href);
            await page.waitForFunction(() => document.getElementById("clock")!.textContent !== "", undefined, {
              timeout: PAGE_LIMIT_MS,
            });
            const without = await page.$$eval(".tile", (tiles) =>
              tiles
                .filter((tile) => tile.querySelector(".state")!.textContent || tile.querySelector(".empty"))
                .map(
                  (tile) =>
                    `${tile.querySelector("h3")!.textContent}: ${tile.querySelector(".body, .state")!.textContent}`,
                ),
            );
            if (without.length === 0) break;
            if (performance.now() > limit) expect(without).toEqual([]);
          }
          const tiles = await page.$$eval(".tile", (all) => all.length);
          const drawn = await page.$$eval(
            ".tile canvas, .tile .big, .tile table.data, .tile-logs .log",
            (all) => new Set(all.map((one) => one.closest(".tile"))).size,
          );
          expect([name, width, drawn]).toEqual([name, width, tiles]);
          expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
        }
        expect(problems).toEqual([]);
      });
    },
    2 * DATA_LIMIT_MS + PAGE_LIMIT_MS,
  );

  test(
    "values are those of Prometheus, to the last digit",
    async () => {
      const toMs = Date.now() - 60_000;
      const period = { fromMs: toMs - 300_000, toMs };
      const signal = AbortSignal.timeout(PAGE_LIMIT_MS);
      let compared = 0;
      for (const dashboard of DASHBOARD_NAMES.map(readDashboard)) {
        for (const panel of panelsOf(dashboard)) {
          if (languageOf(panel) !== "promql" || panel.type === "table") continue;
          const frame = (await source.read(dashboard, panel, period, {}, signal)) as SeriesFrame;
          const expected = [];
          for (const target of panel.targets ?? []) {
            const text = queryText(textOf(target), "promql", dashboard, period, {});
            expected.push(...(await prometheus.range(text, frame.timesMs, signal)));
          }
          const finite = (value: number | null) => (value !== null && Number.isFinite(value) ? value : null);
          // After many restarts a panel per pod has more curves than it draws; it says how many.
          expect([panel.title, frame.notShown ?? 0]).toEqual([panel.title, Math.max(0, expected.length - MAX_SERIES)]);
          expect(frame.series.map(({ values }) => values)).toEqual(
            expected.slice(0, MAX_SERIES).map(({ values }) => values.map(finite)),
          );
          compared += frame.series.length;
        }
      }
      expect(compared).toBeGreaterThan(60);
    },
    PAGE_LIMIT_MS,
  );

  test.skipIf(!browser)(
    "a stat shows the last value of its period",
    async () => {
      const name = "pipeline-overview";
      const dashboard = readDashboard(name);
      const stat = panelsOf(dashboard).find(({ type, title }) => type === "stat" && title === "Acknowledged")!;
      const toMs = Math.floor(Date.now() / 60_000) * 60_000 - 60_000;
      const period = { fromMs: toMs - 300_000, toMs };
      const frame = (await source.read(dashboard, stat, period, {}, AbortSignal.timeout(PAGE_LIMIT_MS))) as SeriesFrame;
      const last = frame.series[0]!.values.findLast((value) => value !== null)!;
      await withBrowser({ path: browser! }, async (context) => {
        const page = await context.newPage();
        const url = new URL(viewer.urlOf(name));
        url.searchParams.set("from", String(period.fromMs));
        url.searchParams.set("to", String(period.toMs));
        await page.goto(url.href);
        const shown = await page.waitForSelector(`#panel-${stat.id} .big`, { timeout: PAGE_LIMIT_MS });
        expect(await shown.textContent()).toBe(formatValue(last, "eps", 0));
      });
    },
    2 * PAGE_LIMIT_MS,
  );
});
