/**
 * The pages in a real browser: nothing is loaded, nothing fails, nothing sticks out on a phone, text can be read in both
 * themes, charts have names, the live page follows its run and becomes the report.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { findBrowser, withBrowser } from "../../scripts/browser/browser.ts";
import { htmlToPng } from "../../scripts/browser/page-picture.ts";
import { startLivePage } from "../../scripts/live/live-page.ts";
import { patchesOfResult } from "../../scripts/live/replay.ts";
import { renderComparison } from "../../scripts/report/compare-page.ts";
import { renderReport } from "../../scripts/report/page.ts";
import { START_MS, syntheticDrill, syntheticDrills, syntheticLoadTest } from "../scripts/report/synthetic.ts";

/** A page is looked at within a second; a machine with ten programs in front of the browser takes minutes. */
const LIMIT_MS = 240_000;
/** Likewise for one thing on it. */
const SEEN_LIMIT_MS = 60_000;

const browser = findBrowser();
const EVIL = `"'><img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;

/** Ratio of two colours as WCAG has it, worst first, for all visible text of the page; runs in the page. */
function worstContrasts(): { ratio: number; text: string; color: string; ground: string }[] {
  const channels = (color: string) => (color.match(/[\d.]+/g) ?? []).map(Number);
  const luminance = ([r = 0, g = 0, b = 0]: number[]) => {
    const linear = [r, g, b].map((value) =>
      value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
  };
  const groundOf = (element: Element | null): string => {
    for (let at = element; at; at = at.parentElement) {
      const ground = getComputedStyle(at).backgroundColor;
      const [, , , alpha = 1] = channels(ground);
      if (alpha === 1 && ground !== "transparent") return ground;
    }
    return "rgb(255, 255, 255)";
  };
  const found: { ratio: number; text: string; color: string; ground: string }[] = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement!;
    const text = node.textContent!.trim();
    if (text === "" || parent.closest("script, style") || !parent.checkVisibility()) continue;
    const style = getComputedStyle(parent);
    const color = parent instanceof SVGElement ? style.fill : style.color;
    const ground = groundOf(parent);
    const [light, dark] = [luminance(channels(color)), luminance(channels(ground))].sort((a, b) => b - a) as [
      number,
      number,
    ];
    found.push({ ratio: (light + 0.05) / (dark + 0.05), text: text.slice(0, 40), color, ground });
  }
  return found.sort((a, b) => a.ratio - b.ratio).slice(0, 3);
}

/** Width that the page takes, and what sticks out of it; runs in the page. */
function widthOf(): { wide: number; sticking: string } {
  const sticking = [...document.querySelectorAll("main *")].find((element) => {
    const isScrolled = element.closest(".wide, .terminal, svg");
    return !isScrolled && element.getBoundingClientRect().right > innerWidth;
  });
  return { wide: document.documentElement.scrollWidth, sticking: sticking?.outerHTML.slice(0, 120) ?? "" };
}

describe.skipIf(!browser)(`with Chromium${browser ? "" : " (skipped: apt-get install chromium)"}`, () => {
  let context: BrowserContext;
  let finish: () => void = () => {};
  let running: Promise<void>;
  let folder = "";
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-look-test-"));
    const { promise, resolve } = Promise.withResolvers<void>();
    running = withBrowser({ path: browser! }, async (opened) => {
      context = opened;
      resolve();
      await new Promise<void>((end) => {
        finish = end;
      });
    });
    await Promise.race([promise, running]);
  }, LIMIT_MS);
  afterAll(async () => {
    finish();
    await running;
    await rm(folder, { recursive: true, force: true });
  });

  /** Opens a page from its text and gives what went wrong in it, and what it asked for. */
  async function open(
    html: string,
    width: number,
    colorScheme: "light" | "dark",
  ): Promise<{ page: Page; problems: string[] }> {
    const page = await context.newPage();
    const problems: string[] = [];
    page.on("console", (message) => void problems.push(`console: ${message.text()}`));
    page.on("pageerror", (error) => void problems.push(`error: ${error.message}`));
    page.on("request", (request) => void problems.push(`request: ${request.url()}`));
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 800 });
    await page.setContent(html, { waitUntil: "load" });
    await page.locator("script.packed-parts").waitFor({ state: "detached", timeout: SEEN_LIMIT_MS });
    return { page, problems };
  }

  const failed = syntheticDrill({
    name: "slow",
    verdict: "failed",
    reasons: ["too slow"],
    recovery: { measured_ms: 12_500, budget_ms: 10_000 },
  });
  const unseen = syntheticDrill({
    name: "unseen",
    verdict: "inconclusive",
    effect: undefined,
    ledger: undefined,
    recovery: undefined,
  });
  const missed = { text: "e2e_p99_ms<100", metric: "e2e_p99_ms", limit: 100, value: 340, ok: false, by: "by 240 ms" };
  const PAGES: Record<string, () => string> = {
    "load test": () => renderReport(syntheticLoadTest()),
    "failed load test": () => renderReport(syntheticLoadTest({ thresholds: [missed], passed: false })),
    drills: () => renderReport(syntheticDrills()),
    "failed drills": () => renderReport(syntheticDrills({ drills: [syntheticDrill(), failed, unseen], passed: false })),
    comparison: () =>
      renderComparison(
        syntheticLoadTest(),
        syntheticLoadTest({ profile: "synthetic b", thresholds: [missed], passed: false }),
      ),
  };

  for (const [name, make] of Object.entries(PAGES)) {
    test(
      `${name}: no request, no error, nothing sticks out on a phone, readable in the light and in the dark`,
      async () => {
        const { page, problems } = await open(make(), 1280, "light");
        // Everything that is folded away must be as good.
        await page.evaluate(() => {
          for (const details of document.querySelectorAll("details")) details.open = true;
        });
        for (const [width, colorScheme] of [
          [1280, "light"],
          [390, "dark"],
          [320, "light"],
        ] as const) {
          await page.emulateMedia({ colorScheme });
          await page.setViewportSize({ width, height: 800 });
          const [{ wide, sticking }, [worst]] = await page
            .evaluate(widthOf)
            .then(async (size) => [size, await page.evaluate(worstContrasts)] as const);
          expect(wide, `${width} ${colorScheme}: ${sticking}`).toBeLessThanOrEqual(width);
          expect(worst!.ratio, `${width} ${colorScheme}: ${JSON.stringify(worst)}`).toBeGreaterThanOrEqual(4.5);
        }
        expect(problems).toEqual([]);
        await page.close();
      },
      LIMIT_MS,
    );
  }

  test(
    "one heading of the first level, no level left out, captions on tables, names on charts",
    async () => {
      for (const make of Object.values(PAGES)) {
        const { page } = await open(make(), 1280, "light");
        const found = await page.evaluate(() => ({
          levels: [...document.querySelectorAll("h1, h2, h3, h4")].map(({ tagName }) => Number(tagName[1])),
          uncaptioned: [...document.querySelectorAll("table")].filter((table) => !table.caption?.textContent).length,
          charts: document.querySelectorAll("figure.chart").length,
          named: [...document.querySelectorAll('figure.chart [role="img"]')].filter(
            (chart) => (chart.getAttribute("aria-label") ?? "").length > 20,
          ).length,
        }));
        expect(found.levels.filter((level) => level === 1)).toHaveLength(1);
        found.levels
          .slice(1)
          .forEach((level, index) => void expect(level - found.levels[index]!).toBeLessThanOrEqual(1));
        expect(found.uncaptioned).toBe(0);
        expect(found.charts).toBeGreaterThan(2);
        expect(found.named).toBe(found.charts);
        await page.close();
      }
    },
    LIMIT_MS,
  );

  test(
    "marks are on the charts, at their place; the pointer and the arrow keys read values",
    async () => {
      const { page } = await open(renderReport(syntheticDrills({ drills: [syntheticDrill()] })), 1280, "light");
      // 20 s of 74 s, in the first chart, which draws them, and in the others, which show them again.
      const place = ([line]: Element[]) => {
        const plot = line!.closest("svg.x")!.getBoundingClientRect();
        return (line!.getBoundingClientRect().left - plot.left) / plot.width;
      };
      const faults = page.locator(".chart .plot[role=img] path.mark-fault");
      expect(await faults.count()).toBe(1);
      expect(await faults.evaluateAll(place)).toBeCloseTo(20 / 74, 3);
      expect(await page.locator(".chart .mark-word-fault").evaluateAll(place)).toBeCloseTo(20 / 74, 1);
      const plots = await page.locator(".chart .plot[role=img] svg.x").evaluateAll((all) =>
        all.map((one) => {
          const { width, height } = one.getBoundingClientRect();
          // Bands reach from edge to edge, in the plot and in what it shows of another.
          const behind = (one.querySelector("use, svg[id]") as SVGGraphicsElement).getBoundingClientRect();
          return [behind.width / width, behind.height / height].map((share) => Math.round(share * 100));
        }),
      );
      expect(plots.length).toBeGreaterThan(2);
      for (const shares of plots) expect(shares).toEqual([100, 100]);
      for (const word of ["fault", "effect", "healed", "recovered"])
        expect(await page.locator(`.mark-word-${word}`).count()).toBe(1);
      const plot = page.locator(".chart .plot[role=img]").nth(1);
      await plot.focus();
      await page.keyboard.press("ArrowRight");
      expect(await page.locator(".readout").textContent()).toContain("−20.0 s, 10:00:00 UTC");
      const box = (await plot.locator("svg.x").boundingBox())!;
      await page.mouse.move(box.x + (27 / 74) * box.width, box.y + 20);
      expect(await page.locator(".readout").textContent()).toContain("+7.0 s, 10:00:27 UTC");
      expect(await page.locator(".readout").textContent()).toContain("lag: 1,600 events");
      await page.close();
    },
    LIMIT_MS,
  );

  test(
    "repeats that are folded away are packed, and unpacked they are as the one that is shown",
    async () => {
      const drills = [syntheticDrill(), syntheticDrill({ repeat: 2 }), syntheticDrill({ repeat: 3, reasons: [EVIL] })];
      const { page, problems } = await open(renderReport(syntheticDrills({ drills })), 1280, "light");
      const bodies = page.locator("section.panel, section.panel > details:has(> .stack)");
      expect(await bodies.count()).toBe(3);
      const shapes = await bodies.evaluateAll((all) =>
        all.map((body) =>
          [...body.querySelectorAll(":scope > .stack path.curve")].map((path) => path.getAttribute("d")),
        ),
      );
      expect(shapes[0]!.length).toBeGreaterThan(2);
      for (const shape of shapes.slice(1)) expect(shape).toEqual(shapes[0]!);
      const folded = bodies.nth(2);
      await folded.locator("> summary").click();
      await folded.locator(".plot[role=img]").first().focus();
      await page.keyboard.press("ArrowRight");
      expect(await folded.locator(".readout").textContent()).toContain("−20.0 s, 10:00:00 UTC");
      expect(problems).toEqual([]);
      await page.close();
    },
    LIMIT_MS,
  );

  test(
    "what came from elsewhere does nothing",
    async () => {
      const drill = syntheticDrill({
        name: EVIL,
        title: EVIL,
        hypothesis: EVIL,
        fault: EVIL,
        reasons: [EVIL],
        runbook: EVIL,
        effect: { timeMs: START_MS + 20_000, proof: EVIL },
        commands: [{ timeMs: START_MS + 21_000, command: EVIL, output: EVIL }],
        logLines: [{ timeMs: START_MS + 21_000, pod: EVIL, line: EVIL }],
      });
      drill.recording.marks.push({ timeMs: START_MS + 21_000, kind: "alert", subject: EVIL, text: EVIL });
      const evilFacts = { ...syntheticDrills().facts, id: EVIL, versions: { [EVIL]: EVIL } };
      const load = syntheticLoadTest({ profile: EVIL, hpaTable: [EVIL], facts: { ...evilFacts, kind: "load-test" } });
      for (const html of [
        renderReport(syntheticDrills({ drills: [drill, { ...drill, repeat: 2 }], facts: evilFacts })),
        renderReport(load),
        renderComparison(load, load),
      ]) {
        const { page, problems } = await open(html, 1280, "light");
        expect(await page.title()).not.toBe("owned");
        expect(await page.locator("img").count()).toBe(0);
        expect(problems).toEqual([]);
        await page.close();
      }
    },
    LIMIT_MS,
  );

  test(
    "a picture of a page is a PNG of the page's own size",
    async () => {
      const path = join(folder, "picture.png");
      await htmlToPng("<!doctype html><body style='margin:0;height:1234px'>x", path, { width: 700 });
      const png = await readFile(path);
      expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([700, 1234]);
    },
    LIMIT_MS,
  );

  test(
    "the live page shows what it is told, as it is told it, and becomes the report",
    async () => {
      const result = syntheticDrills({ drills: [syntheticDrill()] });
      const live = await startLivePage({ runId: result.facts.id, startedAtMs: START_MS });
      const page = await context.newPage();
      const problems: string[] = [];
      page.on("console", (message) => void problems.push(message.text()));
      page.on("pageerror", (error) => void problems.push(error.message));
      page.on("request", (request) => void (request.url().startsWith(live.url) || problems.push(request.url())));
      await page.setViewportSize({ width: 390, height: 800 });
      await page.goto(live.url);
      const seen = (text: string) => page.getByText(text).first().waitFor({ timeout: SEEN_LIMIT_MS });
      await seen("Getting ready");
      const patches = patchesOfResult(result);
      for (const patch of patches.filter(({ timeMs }) => timeMs <= START_MS + 24_000)) live.update(patch);
      live.update({
        timeMs: START_MS + 24_000,
        pods: [{ name: "processor-synthetic-b", workload: "processor", state: "not ready", restarts: 2 }],
      });
      await seen("Synthetic: a processor's pod is deleted");
      await seen("synthetic-b");
      expect(await page.locator("#beats .beat-proven").count()).toBe(0);
      expect(await page.locator("#timeline").textContent()).not.toContain("recovered");
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
      for (const patch of patches.filter(({ timeMs }) => timeMs > START_MS + 24_000)) live.update(patch);
      await page.locator("#timeline .kind-recovered").waitFor({ timeout: SEEN_LIMIT_MS });
      await live.close(renderReport(result));
      await page.waitForURL("**/report", { timeout: SEEN_LIMIT_MS });
      expect(await page.locator("h1").textContent()).toStartWith("Passed");
      expect(problems).toEqual([]);
      await page.close();
    },
    LIMIT_MS,
  );
});
