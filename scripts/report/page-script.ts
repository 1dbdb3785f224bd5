/** The script of every page and its style: uPlot and scripts/report/browser/, bundled to be inlined. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** The MIT License requires the notice in each copy. */
const NOTICE = "/* uPlot: Copyright (c) Leon Sorokin, MIT License, https://github.com/leeoniya/uPlot */";

async function bundle(): Promise<string> {
  const { outputs } = await Bun.build({
    entrypoints: [join(import.meta.dir, "browser", "page.ts")],
    target: "browser",
    format: "iife",
    minify: true,
  });
  // In a script element this would end it.
  return `${NOTICE}\n${(await outputs[0]!.text()).replaceAll("</script", "<\\/script")}`;
}

/** Bundled when the module is loaded, which takes some 40 ms: pages are rendered synchronously. */
export const PAGE_SCRIPT = await bundle();
export const CHART_STYLE = readFileSync(Bun.resolveSync("uplot/dist/uPlot.min.css", import.meta.dir), "utf8");
