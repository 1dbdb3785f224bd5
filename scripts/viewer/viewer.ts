/**
 * Serves the dashboards on 127.0.0.1, with live data. Every request needs the token of the session, which is in the first
 * address and then in a cookie: another program or page of this machine cannot read the pipeline's data through it. The
 * server writes the queries itself; a page only names a panel, a period and values of variables.
 */
import { timingSafeEqual } from "node:crypto";
import { DASHBOARD_NAMES, type Dashboard, panelsOf, readDashboard } from "../dashboards/definitions.ts";
import type { Period } from "./frame.ts";
import type { PanelData } from "./panel-data.ts";
import type { Choices } from "./query-text.ts";
import { viewerPage } from "./viewer-page.ts";

/** A server that does not answer within this time is down. */
const QUERY_LIMIT_MS = 30_000;
/** Several open pages; more queries at once come from a loop. */
const MAX_QUERIES = 32;
/** Prometheus keeps 15 days. */
const MAX_PERIOD_MS = 31 * 86_400_000;
const MIN_PERIOD_MS = 60_000;
/** Longest value of a variable. */
const MAX_VALUE_CHARS = 500;
const MAX_VALUES = 100;
const COOKIE = "conveyor_dashboards";

type Name = (typeof DASHBOARD_NAMES)[number];

/** A mistake of the request, as text for the page. */
class BadRequest extends Error {}

/** The source of a viewer's data. */
export type PanelSource = Pick<PanelData, "read" | "choicesOf">;

function periodOf(parameters: URLSearchParams): Period {
  const [fromMs, toMs] = ["from", "to"].map((name) => Number(parameters.get(name))) as [number, number];
  if (!Number.isSafeInteger(fromMs) || !Number.isSafeInteger(toMs)) {
    throw new BadRequest("from and to must be milliseconds since the epoch");
  }
  const length = toMs - fromMs;
  if (length < MIN_PERIOD_MS || length > MAX_PERIOD_MS) throw new BadRequest("the period must be 1 minute to 31 days");
  return { fromMs, toMs };
}

function choicesOf(parameters: URLSearchParams, dashboard: Dashboard): Choices {
  const choices: Record<string, string[]> = {};
  for (const { name } of dashboard.templating.list ?? []) {
    const values = parameters.getAll(`var-${name}`).filter(Boolean);
    if (values.length > MAX_VALUES || values.some(({ length }) => length > MAX_VALUE_CHARS)) {
      throw new BadRequest(`var-${name} must be at most ${MAX_VALUES} values of ${MAX_VALUE_CHARS} characters`);
    }
    choices[name] = values;
  }
  return choices;
}

const isName = (name: string | null | undefined): name is Name => DASHBOARD_NAMES.some((one) => one === name);

export interface ViewerOptions {
  source: PanelSource;
  /** Shown on every page: the cluster. */
  target: string;
  port?: number;
}

export class DashboardViewer {
  readonly #source: PanelSource;
  readonly #target: string;
  readonly #token = Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url");
  readonly #server: Bun.Server<undefined>;
  #queries = 0;

  constructor({ source, target, port = 0 }: ViewerOptions) {
    this.#source = source;
    this.#target = target;
    const fetch = (request: Request) => this.#respond(request);
    this.#server = Bun.serve({ hostname: "127.0.0.1", port, idleTimeout: 60, fetch });
  }

  /** The address to open; it contains the session's token. */
  urlOf(name: Name = "pipeline-overview"): string {
    return `http://127.0.0.1:${this.#server.port}/d/${name}?token=${this.#token}`;
  }

  async close(): Promise<void> {
    await this.#server.stop(true);
  }

  #isToken(text: string | null | undefined): boolean {
    const given = Buffer.from(text ?? "");
    const token = Buffer.from(this.#token);
    return given.length === token.length && timingSafeEqual(given, token);
  }

  async #respond(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const { port } = this.#server;
    // A foreign page may resolve its own name to 127.0.0.1; its requests have that name.
    const host = request.headers.get("host");
    if (host !== `127.0.0.1:${port}` && host !== `localhost:${port}`) return plain("not this host", 421);
    if (request.method !== "GET") return plain("only GET", 405);
    const token = url.searchParams.get("token");
    if (token !== null) {
      if (!this.#isToken(token)) return plain("the token is not that of this session", 403);
      url.searchParams.delete("token");
      const cookie = `${COOKIE}=${this.#token}; Path=/; HttpOnly; SameSite=Strict`;
      return new Response(null, {
        status: 303,
        headers: { ...HEADERS, location: url.pathname + url.search, "set-cookie": cookie },
      });
    }
    const cookies = new Bun.CookieMap(request.headers.get("cookie") ?? "");
    if (!this.#isToken(cookies.get(COOKIE))) {
      return plain("Open the address that the command has printed: it contains the token of this session.", 403);
    }
    if (url.pathname === "/")
      return new Response(null, { status: 303, headers: { ...HEADERS, location: "/d/pipeline-overview" } });
    if (url.pathname.startsWith("/d/")) {
      const name = url.pathname.slice("/d/".length);
      if (!isName(name)) return plain("no such dashboard", 404);
      return new Response(viewerPage(name, this.#target), {
        headers: { ...HEADERS, "content-type": "text/html; charset=utf-8" },
      });
    }
    if (url.pathname === "/api/panel" || url.pathname === "/api/choices") return await this.#answer(request, url);
    return plain("no such page", 404);
  }

  async #answer(request: Request, { pathname, searchParams }: URL): Promise<Response> {
    const name = searchParams.get("dashboard");
    if (!isName(name)) return plain("no such dashboard", 404);
    if (this.#queries >= MAX_QUERIES) return plain("too many queries at once", 503);
    this.#queries++;
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(QUERY_LIMIT_MS)]);
    try {
      const dashboard = readDashboard(name);
      if (pathname === "/api/choices") {
        const variable = searchParams.get("variable") ?? "";
        return Response.json(await this.#source.choicesOf(dashboard, variable, signal), { headers: HEADERS });
      }
      const panel = panelsOf(dashboard).find(({ id }) => String(id) === searchParams.get("panel"));
      if (!panel) return plain("no such panel", 404);
      const choices = choicesOf(searchParams, dashboard);
      return Response.json(await this.#source.read(dashboard, panel, periodOf(searchParams), choices, signal), {
        headers: HEADERS,
      });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return plain(message.slice(0, 500), error instanceof BadRequest ? 400 : 502);
    } finally {
      this.#queries--;
    }
  }
}

const HEADERS = {
  "cache-control": "no-store",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cross-origin-resource-policy": "same-origin",
} as const;

const plain = (text: string, status: number) =>
  new Response(text, { status, headers: { ...HEADERS, "content-type": "text/plain; charset=utf-8" } });
