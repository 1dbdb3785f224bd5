/** Script of every page: draws charts when they become visible, and unpacks sections when they are opened. */
import { drawCharts, followTheme, replaceContent } from "./charts.ts";

/** Sections of the page that are compressed; see lazy-section.ts. */
let sections: Promise<string[]> | undefined;

function unpack(): Promise<string[]> {
  const packed = document.querySelector("script.lazy-sections")!.textContent!;
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

async function fillAndDraw(details: HTMLDetailsElement): Promise<void> {
  if (!details.open) return;
  for (const place of details.querySelectorAll<HTMLElement>(".lazy-section")) {
    if (!place.checkVisibility()) continue;
    sections ??= unpack();
    place.outerHTML = (await sections)[Number(place.dataset.section)]!;
  }
  drawCharts(details);
}

/** A link to a folded section opens it, and everything around it. */
function openTarget(): void {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let at = target?.closest("details"); at; at = at.parentElement?.closest("details")) at.open = true;
  target?.scrollIntoView();
}

// "toggle" does not bubble.
document.addEventListener("toggle", (event) => void fillAndDraw(event.target as HTMLDetailsElement), true);
addEventListener("hashchange", openTarget);
// Paper cannot be unfolded: every drill is printed, with its charts.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll<HTMLDetailsElement>("details.drill")) details.open = true;
  drawCharts(document);
});
drawCharts(document);
followTheme();
if (location.hash) openTarget();

/** For the live page and the frames of the video, which replace parts of the page. */
Object.assign(globalThis, { replaceContent });
