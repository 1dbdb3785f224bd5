/** The HTML document around every page: one file without any request to the network. */
import { type Html, html, raw } from "./html.ts";
import { CHART_STYLE, PAGE_SCRIPT } from "./page-script.ts";
import { styleSheet } from "./style.ts";

/** Nothing may be loaded, not even by text from a log that the page shows. */
const CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

export interface DocumentOptions {
  title: string;
  body: Html;
  theme?: "auto" | "light" | "dark";
  style?: string;
  /** Additional script, after that of every page. */
  script?: string;
  /** A page without charts and folded sections needs no script. */
  isStatic?: boolean;
  /** Where the script may connect to; nowhere by default. */
  connect?: "'self'";
}

export function documentOf(options: DocumentOptions): string {
  const { title, body, theme = "auto", style = "", script = "", isStatic = false, connect } = options;
  const policy = connect ? `${CONTENT_POLICY}; connect-src ${connect}` : CONTENT_POLICY;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${raw(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="${theme === "auto" ? "light dark" : theme}">
<title>${title}</title>
<style>${raw(CHART_STYLE)}${raw(styleSheet(theme))}${raw(style)}</style>
</head>
<body>
${body}
${!isStatic && html`<script>${raw(PAGE_SCRIPT)}${raw(script)}</script>`}
</body>
</html>
`.text;
}
