/**
 * HTML that is escaped by construction: what is put into the template is text unless it is HTML already. Much of what
 * a report shows (log lines, pod names, messages of errors) came from elsewhere.
 */

/** A piece of finished HTML. */
export class Html {
  constructor(readonly text: string) {}
  toString(): string {
    return this.text;
  }
}

export type Piece = Html | string | number | false | null | undefined | readonly Piece[];

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const ESCAPE = String.fromCharCode(27);
/** Colours and cursor movements of terminals. */
const TERMINAL_CODES = new RegExp(`${ESCAPE}(?:\\[[0-?]*[ -/]*[@-~]|\\][^${ESCAPE}\\n]*|[@-_])`, "g");
/** What HTML forbids: control characters but tab and newline. */
const CONTROL_CHARACTERS = /[^\P{Cc}\t\n]/gu;

/** Text without colour codes and control characters. */
export const plainText = (text: string): string =>
  text.replaceAll("\r\n", "\n").replaceAll(TERMINAL_CODES, "").replaceAll(CONTROL_CHARACTERS, "");

/** Text as it may stand in an element or in a quoted attribute. */
export const escapeHtml = (text: string): string =>
  plainText(text).replaceAll(/[&<>"']/g, (character) => ENTITIES[character]!);

function textOf(piece: Piece): string {
  if (piece instanceof Html) return piece.text;
  if (piece === false || piece === null || piece === undefined) return "";
  if (typeof piece === "object") return piece.map(textOf).join("");
  return escapeHtml(String(piece));
}

/** Template of HTML; false, null and undefined leave nothing, lists are joined. */
export const html = (strings: TemplateStringsArray, ...pieces: readonly Piece[]): Html =>
  new Html(strings.map((string, index) => string + textOf(pieces[index])).join(""));

/** HTML that this project wrote itself. Never for what came from elsewhere. */
export const raw = (text: string): Html => new Html(text);

/** JSON for a script element of a type that is not run; "</script>" inside of it cannot end the element. */
export const jsonScript = (className: string, value: unknown): Html =>
  new Html(
    `<script type="application/json" class="${className}">${JSON.stringify(value).replaceAll("<", "\\u003c")}</script>`,
  );
