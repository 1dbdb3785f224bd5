/**
 * The page of a run while it goes on, on 127.0.0.1: the server draws it, Server-Sent Events bring what changed. When the
 * run has ended, the report takes its place.
 */
import { appendFile } from "node:fs/promises";
import { documentOf } from "../report/document.ts";
import { html } from "../report/html.ts";
import { applyPatch, emptyState, type LivePatch, type LiveState } from "./live-state.ts";
import { LIVE_SECTIONS, LIVE_STYLE, type LiveSection, liveSections } from "./live-view.ts";

/** A person sees no faster, and two cores have other work. */
const DRAW_INTERVAL_MS = 500;
/** Proxies and browsers give up on a silent stream; a comment now and then keeps it. */
const KEEPALIVE_MS = 10_000;
/** Browsers of one person; more means that something opens them in a loop. */
const MAX_VIEWERS = 20;
/** How long the report is kept ready for the pages that are open when the run ends. */
const REPORT_LIMIT_MS = 5000;
/** Patches are written to the file together: once per second would be lost in a crash, no more. */
const WRITE_INTERVAL_MS = 1000;

export interface LivePageOptions {
  /** The run's id, shown on the page. */
  runId: string;
  startedAtMs?: number;
  /** Patches are kept there (LIVE_FILE of the run's folder), for the video; nowhere when absent. */
  recordPath?: string;
  /** 0, the default: any that is free. */
  port?: number;
  /** Opens the person's browser. */
  open?: boolean;
  /** Told once when the patches cannot be written any more; the run goes on without. */
  onTrouble?: (message: string) => void;
}

export interface LivePage {
  readonly url: string;
  /** As it is now; changed by `update` alone. */
  readonly state: LiveState;
  /** Adds what is new. Never throws and never waits: a run must not fail for its page. */
  update(patch: LivePatch): void;
  /**
   * Ends it. With a report, pages that are open show that one from now on.
   * @param report the HTML document of renderReport.
   */
  close(report?: string): Promise<void>;
}

/** Runs in the page: shows the sections that the server sends. replaceContent is in report/browser/charts.ts. */
const SCRIPT = `
const line = document.getElementById("connection");
const source = new EventSource("/events");
source.addEventListener("sections", (event) => {
  for (const [id, text] of Object.entries(JSON.parse(event.data))) replaceContent(document.getElementById(id), text);
  line.textContent = "live"; line.className = "state-line";
});
source.addEventListener("ended", () => { source.close(); line.textContent = "The run has ended."; });
source.addEventListener("report", () => { source.close(); location.replace("/report"); });
source.onerror = () => { if (source.readyState !== EventSource.CLOSED) { line.textContent = "No connection: the run has ended, or was stopped. What is here is the last that was seen."; line.className = "state-line gone"; } };
`;

const panel = (id: LiveSection, more = "") => html`<section class="panel${more}" id="${id}"></section>`;

/** The page without its contents, which come as events. */
export function livePageHtml(runId: string): string {
  const body = html`<main class="live"><header class="verdict" id="headline" aria-live="polite"></header>
<div id="phases"></div><div id="numbers"></div>
<div class="live-grid"><div>${panel("charts")}${panel("terminal")}${panel("lines")}</div><div>${panel("pods")}${panel("ledger")}${panel("alerts")}${panel("timeline")}</div></div>
${panel("finished")}<p class="state-line" id="connection" role="status">connecting</p></main>`;
  return documentOf({ title: `Live: ${runId}`, body, style: LIVE_STYLE, script: SCRIPT, connect: "'self'" });
}

/** Opens a page in the person's browser; without one there is the address to click. */
function openBrowser(url: string): void {
  const command = ["xdg-open", "open"].map((name) => Bun.which(name)).find(Boolean);
  if (command) Bun.spawn([command, url], { stdin: "ignore", stdout: "ignore", stderr: "ignore" }).unref();
}

const encoder = new TextEncoder();
const eventOf = (name: string, data: unknown) => encoder.encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);

/** Serves the page, on this machine only. @throws Error when the port cannot be had. */
export async function startLivePage(options: LivePageOptions): Promise<LivePage> {
  const state = emptyState(options.runId, options.startedAtMs ?? Date.now());
  type Viewer = ReadableStreamDefaultController<Uint8Array>;
  const viewers = new Set<Viewer>();
  let shown: Partial<Record<LiveSection, string>> = {};
  let isChanged = false;
  let report: string | undefined;
  let awaitingReport = 0;
  let reportFetched: (() => void) | undefined;

  const send = (viewer: Viewer, bytes: Uint8Array) => {
    try {
      viewer.enqueue(bytes);
    } catch {
      viewers.delete(viewer);
    }
  };
  const draw = () => {
    if (!isChanged || viewers.size === 0) return;
    isChanged = false;
    const sections = liveSections(state);
    const changed = Object.fromEntries(
      LIVE_SECTIONS.filter((id) => sections[id] !== shown[id]).map((id) => [id, sections[id]]),
    );
    shown = sections;
    for (const viewer of viewers) send(viewer, eventOf("sections", changed));
  };

  const pageHtml = livePageHtml(options.runId);
  const headers = { "content-type": "text/html; charset=utf-8", "cache-control": "no-store" };
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: options.port ?? 0,
    idleTimeout: 0,
    fetch(request) {
      // A page elsewhere may have its name point to 127.0.0.1; what it asks for comes under that name.
      const host = request.headers.get("host");
      if (host !== `127.0.0.1:${server.port}` && host !== `localhost:${server.port}`)
        return new Response("not this host", { status: 421 });
      if (request.method !== "GET") return new Response("only GET", { status: 405 });
      const { pathname } = new URL(request.url);
      if (pathname === "/") return new Response(pageHtml, { headers });
      if (pathname === "/report" && report !== undefined) {
        awaitingReport -= 1;
        if (awaitingReport <= 0) reportFetched?.();
        return new Response(report, { headers });
      }
      if (pathname !== "/events") return new Response("no such page", { status: 404 });
      if (viewers.size >= MAX_VIEWERS) return new Response(`at most ${MAX_VIEWERS} viewers`, { status: 503 });
      let mine: Viewer;
      const stream = new ReadableStream<Uint8Array>({
        start(controller) {
          mine = controller;
          viewers.add(controller);
          send(controller, eventOf("sections", liveSections(state)));
        },
        cancel: () => void viewers.delete(mine),
      });
      return new Response(stream, { headers: { "content-type": "text/event-stream", "cache-control": "no-store" } });
    },
  });
  const url = `http://127.0.0.1:${server.port}/`;
  const drawing = setInterval(draw, DRAW_INTERVAL_MS);
  const keeping = setInterval(() => {
    for (const viewer of viewers) send(viewer, encoder.encode(": still here\n\n"));
  }, KEEPALIVE_MS);

  let unwritten = "";
  let writing: Promise<void> = Promise.resolve();
  let cannotWrite = false;
  const write = () => {
    if (!options.recordPath || unwritten === "" || cannotWrite) return;
    const text = unwritten;
    unwritten = "";
    writing = writing
      .then(() => appendFile(options.recordPath!, text))
      .catch((error: Error) => {
        if (!cannotWrite) options.onTrouble?.(`the live record cannot be written: ${error.message}`);
        cannotWrite = true;
      });
  };
  const saving = setInterval(write, WRITE_INTERVAL_MS);
  // The page alone must not keep a command from ending.
  for (const timer of [drawing, keeping, saving]) timer.unref();

  let closing: Promise<void> | undefined;
  const close = async (finalReport?: string): Promise<void> => {
    clearInterval(saving);
    write();
    await writing;
    draw();
    clearInterval(drawing);
    clearInterval(keeping);
    if (finalReport !== undefined && viewers.size > 0) {
      report = finalReport;
      awaitingReport = viewers.size;
      const { promise, resolve } = Promise.withResolvers<void>();
      reportFetched = resolve;
      for (const viewer of viewers) send(viewer, eventOf("report", {}));
      const limit = setTimeout(resolve, REPORT_LIMIT_MS);
      await promise;
      clearTimeout(limit);
    } else for (const viewer of viewers) send(viewer, eventOf("ended", {}));
    for (const viewer of viewers) {
      try {
        viewer.close();
      } catch {
        // It went away by itself.
      }
    }
    // Not at once: the report may still be under way to the page.
    await server.stop(false);
  };

  if (options.open) openBrowser(url);
  return {
    url,
    state,
    update(patch) {
      applyPatch(state, patch);
      isChanged = true;
      if (options.recordPath && !cannotWrite) unwritten += `${JSON.stringify(patch)}\n`;
    },
    close: (finalReport) => {
      closing ??= close(finalReport);
      return closing;
    },
  };
}
