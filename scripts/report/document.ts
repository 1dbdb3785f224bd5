/** The frame of every page: one file that asks nothing of the network, now or in ten years. */
import { type Html, html, raw } from "./html.ts";
import { styleSheet } from "./style.ts";

/** Nothing may be loaded: not by this page, and not by anything that would slip into it. */
const CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/**
 * Values under the pointer, or under the arrow keys, in all charts of a stack at once; and the parts that are packed
 * (packed.ts) into their places. Written to run in a page: it uses nothing from here, and what is not folded away is
 * whole without it.
 */
const PAGE_SCRIPT = `
const readOut = (stack) => {
  const source = stack.querySelector("script.stack-values");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const columnOf = (text) => { let last; return text.split(",").map((word) => (word === "" ? last : (last = word === "-" ? null : Number(word)))); };
  const columns = data.charts.map((series) => series.map(columnOf));
  const charts = [...stack.querySelectorAll("figure.chart")];
  const plots = charts.map((chart) => chart.querySelector('.plot[role="img"]'));
  const labels = charts.map((chart) => [...chart.querySelectorAll(".key")].map((key) => key.textContent.trim()));
  const units = charts.map((chart) => chart.querySelector(".unit").textContent);
  const cursors = plots.map((plot) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    line.setAttribute("class", "cursor"); line.setAttribute("y2", "100%"); line.setAttribute("visibility", "hidden");
    plot.querySelector("svg.x").append(line);
    return line;
  });
  const box = document.createElement("div");
  box.className = "readout"; box.hidden = true; box.setAttribute("role", "status");
  stack.append(box);
  let index = -1;
  const hide = () => { box.hidden = true; for (const line of cursors) line.setAttribute("visibility", "hidden"); };
  const show = (chart) => {
    const at = data.times[index];
    const percent = (at / (data.to - data.from)) * 100 + "%";
    for (const line of cursors) { line.setAttribute("x1", percent); line.setAttribute("x2", percent); line.setAttribute("visibility", "visible"); }
    const since = (data.from + at - data.origin) / 1000;
    const lines = [(since < 0 ? "\\u2212" : "+") + Math.abs(since).toFixed(1) + " s, " + new Date(data.from + at).toISOString().slice(11, 19) + " UTC"];
    columns[chart].forEach((values, i) => { const value = values[index]; lines.push(labels[chart][i] + ": " + (value === null || value === undefined ? "not measured" : value.toLocaleString("en-US") + " " + units[chart])); });
    box.replaceChildren(...lines.map((line) => { const row = document.createElement("div"); row.textContent = line; return row; }));
    box.hidden = false;
    const plot = plots[chart].querySelector("svg.x").getBoundingClientRect();
    const x = plot.left + (at / (data.to - data.from)) * plot.width;
    box.style.left = Math.max(8, Math.min(x + 14, innerWidth - box.offsetWidth - 8)) + "px";
    box.style.top = Math.max(8, Math.min(plot.top + 8, innerHeight - box.offsetHeight - 8)) + "px";
  };
  plots.forEach((plot, chart) => {
    plot.tabIndex = 0;
    plot.addEventListener("pointermove", (event) => {
      const area = plot.querySelector("svg.x").getBoundingClientRect();
      const wanted = ((event.clientX - area.left) / area.width) * (data.to - data.from);
      index = data.times.reduce((best, time, i) => (Math.abs(time - wanted) < Math.abs(data.times[best] - wanted) ? i : best), 0);
      if (data.times.length > 0) show(chart);
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      if (step === 0 || data.times.length === 0) return;
      event.preventDefault();
      index = Math.max(0, Math.min(data.times.length - 1, index + step * (event.shiftKey ? 10 : 1)));
      show(chart);
    });
  });
};
const unpack = async (packed) => {
  const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
  const parts = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  [...document.querySelectorAll(".packed-part")].forEach((place, i) => {
    const folded = place.parentElement;
    place.outerHTML = parts[i];
    folded.querySelectorAll(".stack").forEach(readOut);
  });
  packed.remove();
};
document.querySelectorAll(".stack").forEach(readOut);
document.querySelectorAll("script.packed-parts").forEach(unpack);`;

export interface DocumentOptions {
  title: string;
  body: Html;
  theme?: "auto" | "light" | "dark";
  /** More style and script of a page of its own kind. */
  style?: string;
  script?: string;
  /** Where script may connect to; nowhere by default. */
  connect?: "'self'";
}

/** A whole document. */
export function documentOf(options: DocumentOptions): string {
  const { title, body, theme = "auto", style = "", script = PAGE_SCRIPT, connect } = options;
  const policy = connect ? `${CONTENT_POLICY}; connect-src ${connect}` : CONTENT_POLICY;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${raw(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="${theme === "auto" ? "light dark" : theme}">
<title>${title}</title>
<style>${raw(styleSheet(theme))}${raw(style)}</style>
</head>
<body>
${body}
<script>${raw(script)}</script>
</body>
</html>
`.text;
}
