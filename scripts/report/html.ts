/**
 * HTML that is escaped by construction: a value in the template is text unless it is Html already. Much of a report (log
 * lines, names of pods, error messages) is untrusted text.
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
/** Control characters except tab and newline, which HTML forbids, and format characters, which may reverse text. */
const CONTROL_CHARACTERS = /[^\P{Cc}\t\n]|\p{Cf}/gu;

/** Text without colour codes and control characters. */
export const plainText = (text: string): string =>
  text.replaceAll("\r\n", "\n").replaceAll(TERMINAL_CODES, "").replaceAll(CONTROL_CHARACTERS, "");

/** Text for an element or a quoted attribute. */
const escapeHtml = (text: string): string =>
  plainText(text).replaceAll(/[&<>"']/g, (character) => ENTITIES[character]!);

function textOf(piece: Piece): string {
  if (piece instanceof Html) return piece.text;
  if (piece === false || piece === null || piece === undefined) return "";
  if (typeof piece === "object") return piece.map(textOf).join("");
  return escapeHtml(String(piece));
}

/** HTML template: false, null and undefined are empty, lists are joined. */
export const html = (strings: TemplateStringsArray, ...pieces: readonly Piece[]): Html =>
  new Html(strings.map((string, index) => string + textOf(pieces[index])).join(""));

/** Trusted HTML, written by this project. Never for text from elsewhere. */
export const raw = (text: string): Html => new Html(text);

/** JSON in a script element that is not executed; "</script>" inside it cannot end the element. */
export const jsonScript = (className: string, value: unknown): Html =>
  new Html(
    `<script type="application/json" class="${className}">${JSON.stringify(value).replaceAll("<", "\\u003c")}</script>`,
  );
