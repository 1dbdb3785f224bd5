/**
 * The pages in a real browser: no request, no error, no overflow on a phone, readable contrast in both themes, charts that
 * show their data, a live page that follows its run and becomes the report.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { findBrowser, withBrowser } from "../../scripts/browser/browser.ts";
import { htmlToPng } from "../../scripts/browser/page-picture.ts";
import { startLivePage } from "../../scripts/live/live-page.ts";
import { entriesOfResult } from "../../scripts/live/replay.ts";
import { RunRecord } from "../../scripts/recording/run-record.ts";
import { chartStack } from "../../scripts/report/charts.ts";
import { renderComparison } from "../../scripts/report/compare-page.ts";
import { documentOf } from "../../scripts/report/document.ts";
import { html } from "../../scripts/report/html.ts";
import { renderReport } from "../../scripts/report/page.ts";
import { START_MS, syntheticDrill, syntheticDrills, syntheticLoadTest } from "../scripts/report/synthetic.ts";

/** A test takes seconds; on a busy machine minutes. */
setDefaultTimeout(240_000);
/** Likewise for one element. */
const ELEMENT_LIMIT_MS = 60_000;

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

/** Width of the page, and the first element that overflows; runs in the page. */
function widthOf(): { wide: number; overflowing: string } {
  const overflowing = [...document.querySelectorAll("main *")].find((element) => {
    const isScrolled = element.closest(".wide, .terminal, svg");
    return !isScrolled && element.getBoundingClientRect().right > innerWidth;
  });
  return { wide: document.documentElement.scrollWidth, overflowing: overflowing?.outerHTML.slice(0, 120) ?? "" };
}

describe.skipIf(!browser)(`with Chromium${browser ? "" : " (skipped: apt-get install chromium)"}`, () => {
  let context: BrowserContext;
  let finish: () => void = () => {};
  let running: Promise<void>;
  let folder = "";
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-pages-test-"));
    const { promise, resolve } = Promise.withResolvers<void>();
    running = withBrowser({ path: browser! }, async (opened) => {
      context = opened;
      resolve();
      await new Promise<void>((end) => {
        finish = end;
      });
    });
    await Promise.race([promise, running]);
  });
  afterAll(async () => {
    finish();
    await running;
    await rm(folder, { recursive: true, force: true });
  });

  /** Opens a page. @returns it with its errors and requests. */
  async function open(
    text: string,
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
    await page.setContent(text, { waitUntil: "load" });
    return { page, problems };
  }

  /** Opens all folded sections, those inside of lazy sections too. */
  async function unfold(page: Page): Promise<void> {
    for (let closed = 1; closed > 0; ) {
      closed = await page.evaluate(() => {
        const details = [...document.querySelectorAll("details")].filter(({ open }) => !open);
        for (const one of details) one.open = true;
        return details.length;
      });
      await page.locator(".lazy-section:visible").first().waitFor({ state: "detached", timeout: ELEMENT_LIMIT_MS });
    }
    // Charts are drawn by the event that opening fires.
    await page.waitForFunction(() =>
      [...document.querySelectorAll(".stack .plot")].every((plot) => plot.querySelector("canvas")),
    );
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
    test(`${name}: no request, no error, no overflow on a phone, readable contrast in both themes`, async () => {
      const { page, problems } = await open(make(), 1280, "light");
      await unfold(page);
      for (const [width, colorScheme] of [
        [1280, "light"],
        [390, "dark"],
        [320, "light"],
      ] as const) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 800 });
        const [{ wide, overflowing }, [worst]] = await page
          .evaluate(widthOf)
          .then(async (size) => [size, await page.evaluate(worstContrasts)] as const);
        expect(wide, `${width} ${colorScheme}: ${overflowing}`).toBeLessThanOrEqual(width);
        expect(worst!.ratio, `${width} ${colorScheme}: ${JSON.stringify(worst)}`).toBeGreaterThanOrEqual(4.5);
      }
      expect(problems).toEqual([]);
      await page.close();
    });
  }

  test("one h1, no heading level skipped, captions on tables, names on charts", async () => {
    for (const make of Object.values(PAGES)) {
      const { page } = await open(make(), 1280, "light");
      await unfold(page);
      const found = await page.evaluate(() => ({
        levels: [...document.querySelectorAll("h1, h2, h3, h4")].map(({ tagName }) => Number(tagName[1])),
        uncaptioned: [...document.querySelectorAll("table")].filter((table) => !table.caption?.textContent).length,
        charts: document.querySelectorAll("figure.chart").length,
        named: [...document.querySelectorAll('figure.chart [role="img"]')].filter(
          (chart) => (chart.getAttribute("aria-label") ?? "").length > 20,
        ).length,
      }));
      expect(found.levels.filter((level) => level === 1)).toHaveLength(1);
      found.levels.slice(1).forEach((level, index) => void expect(level - found.levels[index]!).toBeLessThanOrEqual(1));
      expect(found.uncaptioned).toBe(0);
      expect(found.charts).toBeGreaterThan(2);
      expect(found.named).toBe(found.charts);
      await page.close();
    }
  });

  const TIMES = [0, 1, 2, 3, 4, 5].map((second) => START_MS + second * 1000);

  /** Draws one green curve over six seconds. @returns for each of eleven half seconds, at which heights (0 to 1) it is. */
  async function heightsOf(values: (number | null)[], step = false): Promise<(number[] | undefined)[]> {
    const charts = [
      { title: "T", unit: "s", series: [{ name: "a", label: "A", values, step, tone: "green" as const }] },
    ];
    const stack = chartStack({ label: "Stack", timesMs: TIMES, charts });
    const { page } = await open(documentOf({ title: "t", body: html`<main>${stack}</main>` }), 800, "light");
    const heights = await page.evaluate(() => {
      const canvas = document.querySelector("canvas")!;
      const over = document.querySelector<HTMLElement>(".u-over")!;
      const { data, width } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
      const [left, top] = [over.offsetLeft, over.offsetTop];
      // Green of the light theme: #13804f.
      const isGreen = (at: number) => data[at]! < 60 && data[at + 1]! > 100 && data[at + 2]! < 110;
      return Array.from({ length: 11 }, (_, half) => {
        const x = Math.min(over.offsetWidth - 3, Math.max(2, Math.round((half / 10) * over.offsetWidth)));
        const rows = Array.from({ length: over.offsetHeight }, (_row, y) => y).filter((y) =>
          [-1, 0, 1].some((dx) => isGreen(((top + y) * width + left + x + dx) * 4)),
        );
        return rows.length === 0
          ? undefined
          : [rows.at(-1)!, rows[0]!].map((y) => Math.round((1 - y / over.offsetHeight) * 10) / 10);
      });
    });
    await page.close();
    return heights.map((height) => height ?? undefined);
  }

  test("curve: gaps are not joined, a point between two gaps is a dot, a step holds its value until the next", async () => {
    // The axis ends above the highest value.
    const [top, middle] = [0.9, 0.5];
    const isDrawn = (heights: (number[] | undefined)[]) => heights.map((height) => height !== undefined);
    const gap = await heightsOf([10, 10, null, null, 10, 10]);
    expect(isDrawn(gap)).toEqual([true, true, true, false, false, false, false, false, true, true, true]);
    for (const height of gap) if (height) expect(height[0]).toBeCloseTo(top, 0);
    expect(isDrawn(await heightsOf([null, 10, null, null, 10, 10]))).toEqual(
      [0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1].map(Boolean),
    );
    const step = await heightsOf([10, 10, 0, 0, 0, 10], true);
    expect(step[3]![0]).toBeCloseTo(top, 0);
    expect(step[5]![1]).toBeCloseTo(0, 0);
    expect(step[9]![1]).toBeCloseTo(0, 0);
    const line = await heightsOf([0, 10, 0, 10, 0, 10]);
    expect(line[1]![0]).toBeCloseTo(middle, 0);
  });

  test("labels of marks and bands are at their times; pointer and arrow keys read values", async () => {
    const { page } = await open(renderReport(syntheticDrills({ drills: [syntheticDrill()] })), 1280, "light");
    const place = ([label]: Element[]) => {
      const strip = label!.closest(".strip")!.getBoundingClientRect();
      return (label!.getBoundingClientRect().left - strip.left) / strip.width;
    };
    // 20 s of 74 s.
    expect(await page.locator(".strip .mark-fault").evaluateAll(place)).toBeCloseTo(20 / 74, 2);
    expect(await page.locator(".strip .band-proven").evaluateAll(place)).toBeCloseTo(30 / 74, 2);
    for (const kind of ["fault", "effect", "healed", "recovered"])
      expect(await page.locator(`.strip .mark-${kind}`).textContent()).toContain(kind);
    const plot = page.locator(".chart .plot").nth(1);
    // The strip is aligned with the plots.
    const [strip, over] = [await page.locator(".strip").boundingBox(), await plot.locator(".u-over").boundingBox()];
    expect(over!.x).toBeCloseTo(strip!.x, 0);
    expect(over!.width).toBeCloseTo(strip!.width, -1);
    await plot.focus();
    await page.keyboard.press("ArrowRight");
    expect(await page.locator(".readout").textContent()).toContain("−20.0 s, 10:00:00 UTC");
    // The focus scrolled to the chart.
    const box = (await plot.locator(".u-over").boundingBox())!;
    await page.mouse.move(box.x + (27 / 74) * box.width, box.y + 20);
    expect(await page.locator(".readout").textContent()).toContain("+7.0 s, 10:00:27 UTC");
    expect(await page.locator(".readout").textContent()).toContain("lag: 1,600 events");
    await page.mouse.move(5, 5);
    await page.locator(".readout").waitFor({ state: "hidden", timeout: ELEMENT_LIMIT_MS });
    await page.close();
  });

  test("23 drills start collapsed without charts; expanding a drill draws its charts, expanding a repeat loads its content", async () => {
    const drills = Array.from({ length: 69 }, (_, index) =>
      syntheticDrill({
        name: `drill-${index % 23}`,
        title: `Synthetic drill ${index % 23}`,
        repeat: Math.floor(index / 23) + 1,
        reasons: index === 47 ? [EVIL] : [],
      }),
    );
    const { page, problems } = await open(renderReport(syntheticDrills({ drills })), 1280, "light");
    expect(await page.evaluate(() => document.documentElement.scrollHeight)).toBeLessThan(1600);
    expect(await page.locator("canvas").count()).toBe(0);
    const drill = page.locator("details.drill").nth(1);
    await drill.locator("> summary").click();
    await drill.locator("canvas").first().waitFor({ timeout: ELEMENT_LIMIT_MS });
    const shown = await page.locator("canvas").count();
    expect(shown).toBe(await drill.locator(".drill-body > .stack .plot").count());
    const repeat = drill.locator(".drill-body > details:has(> summary .badge)").nth(1);
    await repeat.locator("> summary").click();
    await repeat.locator("canvas").first().waitFor({ timeout: ELEMENT_LIMIT_MS });
    expect(await repeat.locator("canvas").count()).toBe(shown);
    expect(await repeat.textContent()).toContain("onerror");
    // A link to a folded drill opens it.
    await page.evaluate(() => {
      location.hash = "#drill-drill-9";
    });
    await page.locator("#drill-drill-9 canvas").first().waitFor({ timeout: ELEMENT_LIMIT_MS });
    expect(problems).toEqual([]);
    await page.close();
  });

  test("changing the theme redraws charts in its colours", async () => {
    const { page } = await open(renderReport(syntheticLoadTest()), 1280, "light");
    /** Awaits that the most frequent colour of the first chart, its background, is light or dark. */
    const hasBackground = (isLight: boolean) =>
      page.waitForFunction(
        (wanted) => {
          const canvas = document.querySelector("canvas")!;
          const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
          const counts = new Map<number, number>();
          for (let at = 0; at < data.length; at += 4) {
            if (data[at + 3] === 255) counts.set(data[at]!, (counts.get(data[at]!) ?? 0) + 1);
          }
          const red = [...counts].sort(([, a], [, b]) => b - a)[0]![0];
          return wanted ? red > 200 : red < 60;
        },
        isLight,
        { timeout: ELEMENT_LIMIT_MS },
      );
    await hasBackground(true);
    await page.emulateMedia({ colorScheme: "dark" });
    await hasBackground(false);
    await page.close();
  });

  test("without JavaScript a table has the values of the charts", async () => {
    const plain = await context.browser()!.newContext({ javaScriptEnabled: false });
    const page = await plain.newPage();
    const path = join(folder, "plain.html");
    await Bun.write(path, renderReport(syntheticLoadTest()));
    await page.goto(`file://${path}`);
    expect(await page.locator("noscript caption").isVisible()).toBe(true);
    expect(await page.locator("noscript th", { hasText: "Waiting in Kafka: lag, events" }).isVisible()).toBe(true);
    expect(await page.locator("figure.chart").first().isVisible()).toBe(false);
    await plain.close();
  });

  test("untrusted text is not interpreted as HTML", async () => {
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
    for (const text of [
      renderReport(syntheticDrills({ drills: [drill, { ...drill, repeat: 2 }], facts: evilFacts })),
      renderReport(load),
      renderComparison(load, load),
    ]) {
      const { page, problems } = await open(text, 1280, "light");
      await unfold(page);
      expect(await page.title()).not.toBe("owned");
      expect(await page.locator("img").count()).toBe(0);
      expect(problems).toEqual([]);
      await page.close();
    }
  });

  test("htmlToPng: the PNG has the size of the page", async () => {
    const path = join(folder, "picture.png");
    await htmlToPng("<!doctype html><body style='margin:0;height:1234px'>x", path, { width: 700 });
    const png = await readFile(path);
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([700, 1234]);
  });

  test("the live page follows its run, keeps its charts, and becomes the report", async () => {
    const result = syntheticDrills({ drills: [syntheticDrill()] });
    const record = new RunRecord();
    const live = await startLivePage({ runId: result.facts.id, startedAtMs: START_MS, record });
    const page = await context.newPage();
    const problems: string[] = [];
    page.on("console", (message) => void problems.push(message.text()));
    page.on("pageerror", (error) => void problems.push(error.message));
    page.on("request", (request) => void (request.url().startsWith(live.url) || problems.push(request.url())));
    await page.setViewportSize({ width: 390, height: 800 });
    await page.goto(live.url);
    const seen = (text: string) => page.getByText(text).first().waitFor({ timeout: ELEMENT_LIMIT_MS });
    await seen("Preparing");
    const entries = entriesOfResult(result);
    for (const entry of entries.filter(({ timeMs }) => timeMs <= START_MS + 24_000)) record.append(entry);
    record.append({
      timeMs: START_MS + 24_000,
      pods: [{ name: "processor-synthetic-b", workload: "processor", state: "not ready", restarts: 2 }],
    });
    await seen("Synthetic: a processor's pod is deleted");
    await seen("synthetic-b");
    expect(await page.locator("#phases .phase-proven").count()).toBe(0);
    expect(await page.locator("#timeline").textContent()).not.toContain("recovered");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    await page.locator("#charts canvas").first().waitFor({ timeout: ELEMENT_LIMIT_MS });
    await page.evaluate(() => {
      for (const canvas of document.querySelectorAll("#charts canvas")) canvas.setAttribute("data-kept", "");
    });
    const later = entries.filter(({ timeMs }) => timeMs > START_MS + 24_000);
    for (const entry of later.filter(({ timeMs }) => timeMs < START_MS + 70_000)) record.append(entry);
    await page.locator("#charts .mark-recovered").waitFor({ timeout: ELEMENT_LIMIT_MS });
    expect(await page.locator("#charts canvas:not([data-kept])").count()).toBe(0);
    for (const entry of later.filter(({ timeMs }) => timeMs >= START_MS + 70_000)) record.append(entry);
    await page.locator("#timeline .kind-recovered").waitFor({ timeout: ELEMENT_LIMIT_MS });
    await live.close(renderReport(result));
    await page.waitForURL("**/report", { timeout: ELEMENT_LIMIT_MS });
    expect(await page.locator("h1").textContent()).toStartWith("Passed");
    expect(problems).toEqual([]);
    await page.close();
  });
});
