/**
 * Sections that are folded away, compressed: of three repeats of a drill one is read, and the others would be two thirds
 * of a page of megabytes. The page's script (browser/page.ts) unpacks a section when it is opened.
 */
import { gzipSync } from "node:zlib";
import { type Html, html, raw } from "./html.ts";

export class LazySections {
  readonly #sections: string[] = [];

  /** Adds a section. @returns the placeholder that the script replaces with it. */
  add(section: Html): Html {
    const index = this.#sections.push(section.text) - 1;
    return html`<p class="lazy-section soft" data-section="${index}">This repeat needs JavaScript to be shown here. Its record is in result.json.</p>`;
  }

  /** All sections, for the end of the page; null when there is none. */
  element(): Html | null {
    if (this.#sections.length === 0) return null;
    const packed = gzipSync(JSON.stringify(this.#sections), { level: 9 }).toString("base64");
    return html`<script type="application/gzip" class="lazy-sections">${raw(packed)}</script>`;
  }
}
