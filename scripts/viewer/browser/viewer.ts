/** Runs in the page of a dashboard: fetches the data of its panels, draws them, and keeps the state in the address. */
import type { Frame } from "../frame.ts";
import type { PanelView } from "../viewer-page.ts";
import { drawPanel, redrawAll } from "./panels.ts";

interface ViewerData {
  name: string;
  period: string;
  refresh: string;
  panels: PanelView[];
  variables: { name: string; type: "query" | "custom" | "textbox" }[];
}

const data = JSON.parse(document.querySelector(".viewer-data")!.textContent!) as ViewerData;
const controls = document.getElementById("controls") as HTMLFormElement;
const clock = document.getElementById("clock")!;
const state = new URLSearchParams(location.search);
const UNITS_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
/** Text is being typed. */
const TYPING_MS = 400;

const millisecondsOf = (text: string): number => {
  const match = /^(\d+)([smhd])$/.exec(text);
  return match ? Number(match[1]) * UNITS_MS[match[2]!]! : 0;
};
const select = (name: string) => controls.elements.namedItem(name) as HTMLSelectElement;

/** A fixed period of the address, or the last milliseconds until now. */
function period(): { fromMs: number; toMs: number } {
  const [from, to] = [Number(state.get("from")), Number(state.get("to"))];
  if (from > 0 && to > from) return { fromMs: from, toMs: to };
  const toMs = Date.now();
  return { fromMs: toMs - millisecondsOf(state.get("period") ?? data.period), toMs };
}

function remember(): void {
  const query = state.toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  for (const link of document.querySelectorAll<HTMLAnchorElement>(".top nav a")) {
    // The period is that of all dashboards; variables are not.
    const shared = new URLSearchParams([...state].filter(([name]) => !name.startsWith("var-")));
    link.search = shared.toString();
  }
}

// ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────

let round = new AbortController();

async function load(panel: PanelView, parameters: URLSearchParams, signal: AbortSignal): Promise<void> {
  const tile = document.getElementById(`panel-${panel.id}`)!;
  const line = tile.querySelector<HTMLElement>(".state")!;
  const query = new URLSearchParams(parameters);
  query.set("panel", String(panel.id));
  try {
    const response = await fetch(`/api/panel?${query}`, { signal });
    if (!response.ok) throw new Error(await response.text());
    const frame = (await response.json()) as Frame;
    drawPanel(tile.querySelector<HTMLElement>(".body")!, panel, frame, period(), choosePeriod);
    line.textContent = "";
  } catch (error) {
    if (signal.aborted) return;
    const message = error instanceof Error ? error.message : String(error);
    line.textContent = message.startsWith("Failed to fetch") ? "the command has ended" : message;
    line.title = line.textContent;
  }
}

/** Loads all panels; a round that still runs is ended. */
async function loadAll(): Promise<void> {
  round.abort();
  round = new AbortController();
  const { signal } = round;
  const { fromMs, toMs } = period();
  const parameters = new URLSearchParams({ dashboard: data.name, from: String(fromMs), to: String(toMs) });
  for (const [name, value] of state) if (name.startsWith("var-")) parameters.append(name, value);
  await Promise.all(data.panels.map((panel) => load(panel, parameters, signal)));
  if (!signal.aborted) clock.textContent = `Updated ${new Date().toLocaleTimeString()}.`;
}

let timer: ReturnType<typeof setTimeout> | undefined;

/** Loads now, and then at the interval of the refresh, after the last round has ended and while the page is visible. */
async function refresh(): Promise<void> {
  clearTimeout(timer);
  await loadAll();
  const intervalMs = millisecondsOf(state.get("refresh") ?? data.refresh);
  clearTimeout(timer);
  if (intervalMs > 0 && !state.has("from")) {
    timer = setTimeout(() => (document.hidden ? undefined : void refresh()), intervalMs);
  }
}
document.addEventListener("visibilitychange", () => document.hidden || void refresh());

function apply(): void {
  remember();
  showControls();
  void refresh();
}

/** A fixed period, chosen by dragging in a chart. */
function choosePeriod(fromMs: number, toMs: number): void {
  state.set("from", String(Math.round(fromMs)));
  state.set("to", String(Math.round(toMs)));
  state.delete("period");
  apply();
}

// ── controls ─────────────────────────────────────────────────────────────────────────────────────────────────────

function showControls(): void {
  select("period").value = state.has("from") ? "" : (state.get("period") ?? data.period);
  select("refresh").value = state.get("refresh") ?? data.refresh;
  for (const { name, type } of data.variables) {
    const values = state.getAll(`var-${name}`);
    if (type === "textbox") {
      const input = controls.elements.namedItem(`var-${name}`) as HTMLInputElement;
      if (document.activeElement !== input) input.value = values[0] ?? "";
    } else {
      const list = controls.querySelector(`[data-variable="${name}"]`)!;
      list.querySelector(".chosen")!.textContent = values.length === 0 ? "all" : values.join(", ");
      for (const box of list.querySelectorAll<HTMLInputElement>("input")) box.checked = values.includes(box.value);
    }
  }
}

async function loadChoices(name: string): Promise<void> {
  const list = controls.querySelector(`[data-variable="${name}"] .list`)!;
  try {
    const response = await fetch(`/api/choices?${new URLSearchParams({ dashboard: data.name, variable: name })}`);
    if (!response.ok) throw new Error(await response.text());
    const values = (await response.json()) as string[];
    list.replaceChildren(
      ...values.map((value) => {
        const label = document.createElement("label");
        const box = document.createElement("input");
        box.type = "checkbox";
        box.value = value;
        box.addEventListener("change", () => {
          const checked = [...list.querySelectorAll<HTMLInputElement>("input:checked")].map((one) => one.value);
          state.delete(`var-${name}`);
          for (const one of checked) state.append(`var-${name}`, one);
          apply();
        });
        label.append(box, ` ${value}`);
        return label;
      }),
    );
    showControls();
  } catch (error) {
    list.textContent = error instanceof Error ? error.message : String(error);
  }
}

select("period").addEventListener("change", () => {
  state.set("period", select("period").value);
  state.delete("from");
  state.delete("to");
  apply();
});
select("refresh").addEventListener("change", () => {
  state.set("refresh", select("refresh").value);
  apply();
});
let typing: ReturnType<typeof setTimeout> | undefined;
controls.addEventListener("input", ({ target }) => {
  const input = target as HTMLInputElement;
  if (input.type !== "search") return;
  clearTimeout(typing);
  typing = setTimeout(() => {
    if (input.value) state.set(input.name, input.value);
    else state.delete(input.name);
    apply();
  }, TYPING_MS);
});
controls.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("copy")!.addEventListener("click", async ({ currentTarget }) => {
  // A fixed period: who opens the link sees the same.
  const { fromMs, toMs } = period();
  const link = new URL(location.href);
  link.searchParams.delete("period");
  link.searchParams.set("from", String(fromMs));
  link.searchParams.set("to", String(toMs));
  await navigator.clipboard.writeText(link.href);
  (currentTarget as HTMLElement).textContent = "Copied";
});
document.getElementById("theme")!.addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  state.set("theme", root.dataset.theme);
  remember();
  redrawAll();
});
for (const opened of document.querySelectorAll<HTMLDetailsElement>(".choices")) {
  document.addEventListener("click", ({ target }) => opened.contains(target as Node) || opened.removeAttribute("open"));
}

const theme = state.get("theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
remember();
showControls();
for (const { name, type } of data.variables) if (type !== "textbox") void loadChoices(name);
void refresh();
