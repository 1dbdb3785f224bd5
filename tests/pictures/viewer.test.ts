/** Goals: text of log lines stays text, a cut panel says so. Method: hostile and cut frames, in a real browser. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { findBrowser, withBrowser } from "../../scripts/browser/browser.ts";
import { panelsOf, readDashboard } from "../../scripts/dashboards/definitions.ts";
import type { Frame } from "../../scripts/viewer/frame.ts";
import { DashboardViewer, type PanelSource } from "../../scripts/viewer/viewer.ts";

/** A test takes seconds; on a busy machine minutes. */
setDefaultTimeout(240_000);

const browser = findBrowser();
const MARKUP = `"'><img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
const TERMINAL = "\u001b]0;owned\u0007\u001b[2J\u001b[31mred\u001b[0m";
const HOSTILE: Frame = {
  kind: "logs",
  lines: [MARKUP, TERMINAL].map((text) => ({
    ...{ timeMs: Date.UTC(2026, 0, 1), level: MARKUP, service: MARKUP, pod: MARKUP, text },
    fields: [[MARKUP, text]],
  })),
  isCut: true,
};
const source: PanelSource = {
  read: async (_dashboard, { type }) =>
    type === "logs" ? HOSTILE : { kind: "table", columns: [MARKUP], rows: [[MARKUP]], notShown: 7 },
  choicesOf: async () => [MARKUP],
  status: async () => {
    throw new Error(MARKUP);
  },
};

describe.skipIf(!browser)(`with Chromium${browser ? "" : " (skipped: apt-get install chromium)"}`, () => {
  let viewer: DashboardViewer;
  beforeAll(() => {
    viewer = new DashboardViewer({ source, target: MARKUP });
  });
  afterAll(() => viewer.close());

  test("markup and terminal escapes of a log line are shown as text, and run nothing", async () => {
    const logs = panelsOf(readDashboard("logs")).find(({ type }) => type === "logs")!;
    await withBrowser({ path: browser! }, async (context) => {
      const page = await context.newPage();
      await page.goto(viewer.urlOf("logs"));
      const lines = page.locator(`#panel-${logs.id} .log`);
      await lines.first().waitFor();
      for (const line of await lines.all()) await line.locator("summary").click();
      const shown = await lines.allTextContents();
      expect(shown).toHaveLength(2);
      expect(shown[0]).toContain(MARKUP);
      expect(shown[1]).toContain("[31mred");
      expect(await page.locator("main img, main script").count()).toBe(0);
      expect(await page.title()).not.toBe("owned");
    });
  });

  test("a panel says that it has more than it shows", async () => {
    await withBrowser({ path: browser! }, async (context) => {
      const page = await context.newPage();
      await page.goto(viewer.urlOf("kafka"));
      await page.getByText("Only 1 of 8 rows.").first().waitFor();
    });
  });
});
