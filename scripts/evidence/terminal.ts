/** Commands and their output as a page with the appearance of a terminal. */

import { documentOf } from "../report/document.ts";
import { html } from "../report/html.ts";

/** Lines of output shown per command. */
const MAX_LINES = 40;
/** Longer lines are cut; shorter ones are wrapped. */
const MAX_CHARS = 320;

export interface Typed {
  command: string;
  output: string;
}

const STYLE = `
body { margin: 0; background: #101418; color: #d8dee6; }
main.shell { max-width: none; margin: 0; padding: 20px 24px; font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
main.shell h1 { font: 600 15px/1.4 system-ui, sans-serif; color: #aeb9c6; margin: 0 0 12px; }
main.shell pre { margin: 0 0 16px; white-space: normal; font: inherit; background: none; border: 0; padding: 0; color: inherit; }
main.shell .line { display: block; white-space: pre-wrap; overflow-wrap: anywhere; padding-left: 4ch; text-indent: -4ch; }
main.shell .typed { color: #7fd38d; font-weight: 600; }
main.shell .error { color: #ff8f8f; } main.shell .warn { color: #f2cc60; }
`;

const cut = (line: string) => (line.length > MAX_CHARS ? `${line.slice(0, MAX_CHARS - 1)}…` : line);

function colored(line: string) {
  const level = / (error|warn) /.exec(line.slice(0, 40))?.[1] ?? "";
  return html`<span class="line ${level}">${cut(line)}</span>`;
}

/** The page of some commands; of a long output the end is shown, with the number of omitted lines. */
export function terminalPage(title: string, typed: readonly Typed[]): string {
  const blocks = typed.map(({ command, output }) => {
    const lines = output.trimEnd().split("\n");
    const shown = lines.slice(-MAX_LINES);
    const left = lines.length - shown.length;
    return html`<pre><span class="line typed">$ ${command}</span>${
      left > 0 ? html`<span class="line">… ${left} earlier lines</span>` : ""
    }${shown.map(colored)}</pre>`;
  });
  const body = html`<main class="shell"><h1>${title}</h1>${blocks}</main>`;
  return documentOf({ title, body, theme: "dark", style: STYLE, isStatic: true });
}
