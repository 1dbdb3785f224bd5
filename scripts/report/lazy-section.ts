/**
 * Parts of a page that are folded away, packed: of many repeats of a drill one is read, and the others made two thirds of
 * a page of megabytes. The page's script (document.ts) puts them in their places as soon as the page is there; without
 * it, each place says where its record is.
 */
import { gzipSync } from "node:zlib";
import { type Html, html, raw } from "./html.ts";

export class LazySections {
  readonly #parts: string[] = [];

  /** Takes a part and gives what stands in its place until it is unpacked. */
  place(part: Html): Html {
    this.#parts.push(part.text);
    return html`<p class="packed-part soft">The page's script unpacks this repeat; its record stands in result.json.</p>`;
  }

  /** All parts, to stand once behind their places; nothing where there is none. */
  element(): Html | null {
    if (this.#parts.length === 0) return null;
    const packed = gzipSync(JSON.stringify(this.#parts), { level: 9 }).toString("base64");
    return html`<script type="application/gzip" class="packed-parts">${raw(packed)}</script>`;
  }
}
