/**
 * The live page of a run, on 127.0.0.1: a reader of the run's record. The server draws the page, Server-Sent Events bring
 * the changed sections. When the run has ended, the report replaces it.
 */

import { openBrowser } from "../cli/open-browser.ts";
import type { RunRecord } from "../recording/run-record.ts";
import { documentOf } from "../report/document.ts";
import { html } from "../report/html.ts";
import { applyEntry, emptyState, type LiveState } from "./live-state.ts";
import { LIVE_STYLE, type LiveSection, liveSections } from "./live-view.ts";

/** Faster is not visible and costs CPU. */
const DRAW_INTERVAL_MS = 500;
/** Proxies and browsers close silent streams; a comment keeps them open. */
const KEEPALIVE_MS = 10_000;
/** More viewers mean that a program opens the page in a loop. */
const MAX_VIEWERS = 20;
/** How long the report is served to the pages that are open when the run ends. */
const REPORT_LIMIT_MS = 5000;

export interface LivePageOptions {
  /** The run's id, shown on the page. */
  runId: string;
  startedAtMs?: number;
  /** The record that the page shows. */
  record: Pick<RunRecord, "onEntry">;
  /** Opens the user's browser. */
  open?: boolean;
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
source.onerror = () => { if (source.readyState !== EventSource.CLOSED) { line.textContent = "No connection: the run has ended or was stopped. The page shows the last state."; line.className = "state-line gone"; } };
`;

const panel = (id: LiveSection, more = "") => html`<section class="panel${more}" id="${id}"></section>`;

/** The page without its sections, which are sent as events. */
function livePageHtml(runId: string): string {
  const body = html`<main class="live"><header class="verdict" id="headline" aria-live="polite"></header>
<div id="phases"></div><div id="numbers"></div>
<div class="live-grid"><div>${panel("charts")}${panel("terminal")}${panel("lines")}</div><div>${panel("pods")}${panel("ledger")}${panel("alerts")}${panel("timeline")}</div></div>
${panel("finished")}<p class="state-line" id="connection" role="status">connecting</p></main>`;
  return documentOf({ title: `Live: ${runId}`, body, style: LIVE_STYLE, script: SCRIPT, connect: "'self'" });
}

const encoder = new TextEncoder();
const eventOf = (name: string, data: unknown) => encoder.encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);

/** The event streams of the open pages. */
class Viewers {
  readonly #streams = new Set<ReadableStreamDefaultController<Uint8Array>>();

  get count(): number {
    return this.#streams.size;
  }

  /** A stream that starts with some bytes. */
  open(first: Uint8Array): ReadableStream<Uint8Array> {
    let own: ReadableStreamDefaultController<Uint8Array>;
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        own = controller;
        this.#streams.add(controller);
        controller.enqueue(first);
      },
      cancel: () => void this.#streams.delete(own),
    });
  }

  send(bytes: Uint8Array): void {
    for (const stream of this.#streams) {
      try {
        stream.enqueue(bytes);
      } catch {
        this.#streams.delete(stream);
      }
    }
  }

  close(): void {
    for (const stream of this.#streams) {
      try {
        stream.close();
      } catch {
        // The viewer has closed it.
      }
    }
  }
}

/** The report at the end of a run, until every open page has fetched it. */
class FinalReport {
  #html: string | undefined;
  #awaited = 0;
  readonly #fetched = Promise.withResolvers<void>();

  fetch(): string | undefined {
    if (this.#html !== undefined && --this.#awaited <= 0) this.#fetched.resolve();
    return this.#html;
  }

  /** Resolves when so many pages have fetched it, or at the limit. */
  async offer(report: string, pages: number): Promise<void> {
    this.#html = report;
    this.#awaited = pages;
    const limit = setTimeout(this.#fetched.resolve, REPORT_LIMIT_MS);
    await this.#fetched.promise;
    clearTimeout(limit);
  }
}

class LivePage {
  readonly state: LiveState;
  readonly url: string;
  readonly #server: Bun.Server<undefined>;
  readonly #page: string;
  readonly #viewers = new Viewers();
  readonly #report = new FinalReport();
  readonly #timers: ReturnType<typeof setInterval>[];
  readonly #endReading: () => void;
  #shown: Partial<Record<LiveSection, string>> = {};
  #isChanged = false;
  #closing: Promise<void> | undefined;

  constructor({ runId, startedAtMs = Date.now(), record }: LivePageOptions) {
    this.state = emptyState(runId, startedAtMs);
    this.#page = livePageHtml(runId);
    this.#endReading = record.onEntry((entry) => {
      applyEntry(this.state, entry);
      this.#isChanged = true;
    });
    const fetch = (request: Request) => this.#respond(request);
    this.#server = Bun.serve({ hostname: "127.0.0.1", port: 0, idleTimeout: 0, fetch });
    this.url = `http://127.0.0.1:${this.#server.port}/`;
    this.#timers = [
      setInterval(() => this.#draw(), DRAW_INTERVAL_MS),
      setInterval(() => this.#viewers.send(encoder.encode(": keepalive\n\n")), KEEPALIVE_MS),
    ];
    // The page alone must not keep a command from ending.
    for (const timer of this.#timers) timer.unref();
  }

  /**
   * Ends the page. With a report, open pages show it from then on.
   * @param report the HTML document of renderReport.
   */
  close(report?: string): Promise<void> {
    this.#closing ??= this.#close(report);
    return this.#closing;
  }

  async #close(report: string | undefined): Promise<void> {
    this.#endReading();
    this.#draw();
    for (const timer of this.#timers) clearInterval(timer);
    if (report !== undefined && this.#viewers.count > 0) {
      const fetched = this.#report.offer(report, this.#viewers.count);
      this.#viewers.send(eventOf("report", {}));
      await fetched;
    } else this.#viewers.send(eventOf("ended", {}));
    this.#viewers.close();
    // Without force: the report may still be in transit.
    await this.#server.stop(false);
  }

  /** Sends the sections that have changed. */
  #draw(): void {
    if (!this.#isChanged || this.#viewers.count === 0) return;
    this.#isChanged = false;
    const sections = liveSections(this.state);
    const changed = Object.entries(sections).filter(([id, text]) => text !== this.#shown[id as LiveSection]);
    this.#shown = sections;
    this.#viewers.send(eventOf("sections", Object.fromEntries(changed)));
  }

  #respond(request: Request): Response {
    const headers = { "content-type": "text/html; charset=utf-8", "cache-control": "no-store" };
    // A foreign page may resolve its own name to 127.0.0.1; its requests have that name.
    const host = request.headers.get("host");
    const { port } = this.#server;
    if (host !== `127.0.0.1:${port}` && host !== `localhost:${port}`) {
      return new Response("not this host", { status: 421 });
    }
    if (request.method !== "GET") return new Response("only GET", { status: 405 });
    const { pathname } = new URL(request.url);
    if (pathname === "/") return new Response(this.#page, { headers });
    if (pathname === "/report") {
      const report = this.#report.fetch();
      if (report !== undefined) return new Response(report, { headers });
    }
    if (pathname !== "/events") return new Response("no such page", { status: 404 });
    if (this.#viewers.count >= MAX_VIEWERS) return new Response(`at most ${MAX_VIEWERS} viewers`, { status: 503 });
    const stream = this.#viewers.open(eventOf("sections", liveSections(this.state)));
    return new Response(stream, { headers: { ...headers, "content-type": "text/event-stream" } });
  }
}

/** Serves the page, on this machine only. */
export async function startLivePage(options: LivePageOptions): Promise<LivePage> {
  const page = new LivePage(options);
  if (options.open) openBrowser(page.url);
  return page;
}
