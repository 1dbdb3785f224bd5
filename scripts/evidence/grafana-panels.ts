/**
 * Are the panels of a page drawn, with data? Grafana marks its panels with test ids that its own end-to-end tests
 * stand on; this reads them, and pure judging says ready, still waiting, or bad. A picture is taken of "ready" only.
 */
import type { Page } from "playwright-core";

/** What one look at one panel saw. */
export interface PanelState {
  title: string;
  loading: boolean;
  /** Text of the error mark or of the message in place of the graph; empty when there is none. */
  problem: string;
  /** Graphs on canvases whose pixels are not all alike. */
  drawnCanvases: number;
  /** Text in the panel's body: numbers of a stat, cells of a table, lines of a log. */
  text: string;
}

export type Verdict = { state: "ready" } | { state: "waiting" | "bad"; reasons: string[] };

/** Messages that stand in place of data, in Grafana's words. */
const EMPTY = /^(no data|data is missing|no logs found|no points|loading|-|n\/a|0 lines)\.?$/i;

function fault(sight: PanelState): string | undefined {
  if (sight.problem !== "") return `${sight.title}: ${sight.problem}`;
  const lines = sight.text.split("\n").map((line) => line.trim());
  const empty = lines.find((line) => EMPTY.test(line) && line !== "-");
  return empty === undefined || /^loading/i.test(empty) ? undefined : `${sight.title}: ${empty}`;
}

function isDrawn(sight: PanelState): boolean {
  // A graph is pixels; everything else says something with a digit or a word in it that is no placeholder.
  return sight.drawnCanvases > 0 || sight.text.split("\n").some((line) => line.trim() && !EMPTY.test(line.trim()));
}

/**
 * The verdict on what was seen.
 * @param expected titles that must be there; the panels that are there beyond them are judged too.
 */
export function judgePanels(expected: readonly string[], sights: readonly PanelState[]): Verdict {
  const bad = sights.map(fault).filter((reason) => reason !== undefined);
  const seen = new Set(sights.map(({ title }) => title));
  const waiting = [
    ...expected.filter((title) => !seen.has(title)).map((title) => `${title}: not there`),
    ...sights.filter(({ loading }) => loading).map(({ title }) => `${title}: loading`),
    ...sights
      .filter((sight) => !sight.loading && fault(sight) === undefined && !isDrawn(sight))
      .map(({ title }) => `${title}: nothing drawn`),
  ];
  if (expected.length === 0 && sights.length === 0) waiting.push("no panel on the page");
  // A panel that is still loading may have an old fault on it: bad is what stays bad once all have loaded.
  if (bad.length > 0) return { state: "bad", reasons: [...bad, ...waiting] };
  return waiting.length > 0 ? { state: "waiting", reasons: waiting } : { state: "ready" };
}

/** Looks at every panel of the page. Runs in the page, so it uses nothing from here. */
export async function readPanels(page: Page): Promise<PanelState[]> {
  return await page.evaluate(() => {
    const prefix = "data-testid Panel header ";
    // biome-ignore lint/performance/useDomNodeTextContent: text that nobody sees is not drawn
    const visibleText = (element: Element | null) => (element as HTMLElement | null)?.innerText?.trim() ?? "";
    const isDrawnCanvas = (canvas: HTMLCanvasElement) => {
      const context = canvas.width > 0 && canvas.height > 0 ? canvas.getContext("2d") : null;
      if (!context) return false;
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      for (let at = 4; at < data.length; at += 4) {
        for (let channel = 0; channel < 4; channel++) if (data[at + channel] !== data[channel]) return true;
      }
      return false;
    };
    return [...document.querySelectorAll(`[data-testid^="${prefix}"]`)]
      .filter((panel) => panel.querySelector('[data-testid="data-testid panel content"]'))
      .map((panel) => {
        const content = panel.querySelector('[data-testid="data-testid panel content"]');
        const mark = panel.querySelector('[data-testid="data-testid Panel status error"]');
        const message = panel.querySelector('[data-testid="data-testid Panel data error message"]');
        return {
          title: panel.getAttribute("data-testid")?.slice(prefix.length) ?? "",
          loading: panel.querySelector('[aria-label="Panel loading bar"]') !== null,
          problem: message
            ? visibleText(message) || "no data"
            : mark
              ? mark.getAttribute("aria-label") || visibleText(mark) || "its query failed"
              : "",
          drawnCanvases: [...(content?.querySelectorAll("canvas") ?? [])].filter(isDrawnCanvas).length,
          text: visibleText(content),
        };
      });
  });
}
