/**
 * Whether the panels of a Grafana page are drawn with data: read from the test ids that Grafana's own end-to-end tests
 * use, then judged by a pure function. A picture is taken only of a page that is ready.
 */
import type { Page } from "playwright-core";

export interface PanelState {
  title: string;
  loading: boolean;
  /** Error message of the panel; empty without an error. */
  problem: string;
  /** Number of canvases whose pixels are not all equal. */
  drawnCanvases: number;
  /** Text in the panel's body: numbers of a stat, cells of a table, lines of a log. */
  text: string;
}

export type Verdict = { state: "ready" } | { state: "waiting" | "bad"; reasons: string[] };

/** Grafana's messages for missing data. */
const EMPTY = /^(no data|data is missing|no logs found|no points|loading|-|n\/a|0 lines)\.?$/i;

function problemOf(panel: PanelState): string | undefined {
  if (panel.problem !== "") return `${panel.title}: ${panel.problem}`;
  const lines = panel.text.split("\n").map((line) => line.trim());
  const empty = lines.find((line) => EMPTY.test(line) && line !== "-");
  return empty === undefined || /^loading/i.test(empty) ? undefined : `${panel.title}: ${empty}`;
}

function isDrawn(panel: PanelState): boolean {
  // A graph has pixels; any other panel has text that is not a placeholder.
  return panel.drawnCanvases > 0 || panel.text.split("\n").some((line) => line.trim() && !EMPTY.test(line.trim()));
}

/**
 * Judges the panels of a page.
 * @param expected titles of panels that must exist; other panels are judged too.
 */
export function judgePanels(expected: readonly string[], panels: readonly PanelState[]): Verdict {
  const bad = panels.map(problemOf).filter((reason) => reason !== undefined);
  const seen = new Set(panels.map(({ title }) => title));
  const waiting = [
    ...expected.filter((title) => !seen.has(title)).map((title) => `${title}: missing`),
    ...panels.filter(({ loading }) => loading).map(({ title }) => `${title}: loading`),
    ...panels
      .filter((panel) => !panel.loading && problemOf(panel) === undefined && !isDrawn(panel))
      .map(({ title }) => `${title}: nothing drawn`),
  ];
  if (expected.length === 0 && panels.length === 0) waiting.push("no panel on the page");
  // A loading panel may still show an old error; takePicture waits until an error persists.
  if (bad.length > 0) return { state: "bad", reasons: [...bad, ...waiting] };
  return waiting.length > 0 ? { state: "waiting", reasons: waiting } : { state: "ready" };
}

export async function readPanels(page: Page): Promise<PanelState[]> {
  return await page.evaluate(() => {
    const prefix = "data-testid Panel header ";
    // biome-ignore lint/performance/useDomNodeTextContent: hidden text is not drawn
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
