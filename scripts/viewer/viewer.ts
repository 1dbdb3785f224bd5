/**
 * Serves the dashboards on 127.0.0.1, with live data, to requests of the session. The server writes the queries itself; a
 * page only names a panel, a period and values of variables.
 */
import { type Dashboard, panelsOf, readDashboards } from "../dashboards/definitions.ts";
import type { Period } from "./frame.ts";
import { dashboardLinks, runbookText, runFile, runLinks } from "./home.ts";
import { type HomeLink, homePage, type PipelineStatus, runbookPage, statusHtml } from "./home-page.ts";
import type { PanelData } from "./panel-data.ts";
import type { Choices } from "./query-text.ts";
import { HEADERS, plain, Session } from "./session.ts";
import { viewerPage } from "./viewer-page.ts";

/** A server that does not answer within this time is down. */
const QUERY_LIMIT_MS = 30_000;
/** Several open pages; more queries at once come from a loop. */
const MAX_QUERIES = 32;
/** The first page shows a problem sooner than a chart would. */
const STATUS_LIMIT_MS = 8000;
/** Prometheus keeps 15 days. */
const MAX_PERIOD_MS = 31 * 86_400_000;
const MIN_PERIOD_MS = 60_000;
/** Longest value of a variable. */
const MAX_VALUE_CHARS = 500;
const MAX_VALUES = 100;

/** A mistake of the request, as text for the page. */
class BadRequest extends Error {}

/** The source of a viewer's data. */
export type PanelSource = Pick<PanelData, "read" | "choicesOf"> & {
  status(signal: AbortSignal): Promise<PipelineStatus>;
};

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

export interface ViewerOptions {
  source: PanelSource;
  /** Shown on every page: the cluster. */
  target: string;
  port?: number;
  /** Shared with the other servers of the command. */
  session?: Session;
  /** Besides those of the pipeline: those of its schemas. */
  dashboards?: readonly Dashboard[];
  /** Further pages, shown on the first one. */
  links?: readonly HomeLink[];
}

export class DashboardViewer {
  readonly #source: PanelSource;
  readonly #target: string;
  readonly #links: readonly HomeLink[];
  readonly #dashboards: readonly Dashboard[];
  readonly #session: Session;
  readonly #server: Bun.Server<undefined>;
  #queries = 0;

  constructor({ source, target, port = 0, session = new Session(), links = [], dashboards = [] }: ViewerOptions) {
    this.#links = links;
    this.#dashboards = [...readDashboards(), ...dashboards];
    this.#session = session;
    this.#source = source;
    this.#target = target;
    const fetch = (request: Request) => this.#respond(request);
    this.#server = Bun.serve({ hostname: "127.0.0.1", port, idleTimeout: 60, fetch });
  }

  /** The address of a dashboard, or of the first page; it contains the session's token. */
  urlOf(name?: string): string {
    return this.#session.urlOf(this.#server.port!, name ? `/d/${name}` : "/");
  }

  #find(name: string | null): Dashboard | undefined {
    return this.#dashboards.find(({ uid }) => uid === name);
  }

  async close(): Promise<void> {
    await this.#server.stop(true);
  }

  async #respond(request: Request): Promise<Response> {
    const refused = this.#session.check(request, this.#server.port!);
    if (refused) return refused;
    if (request.method !== "GET") return plain("only GET", 405);
    const url = new URL(request.url);
    if (url.pathname === "/" || url.pathname === "/status") return await this.#home(request, url.pathname === "/");
    if (url.pathname.startsWith("/runbooks/")) {
      const name = url.pathname.slice("/runbooks/".length);
      const text = await runbookText(name);
      return text === undefined ? plain("no such runbook", 404) : page(runbookPage(name, text));
    }
    if (url.pathname.startsWith("/runs/")) {
      const file = await runFile(url.pathname.slice("/runs/".length));
      return file ? new Response(file, { headers: HEADERS }) : plain("no such run", 404);
    }
    if (url.pathname.startsWith("/d/")) {
      const dashboard = this.#find(url.pathname.slice("/d/".length));
      if (!dashboard) return plain("no such dashboard", 404);
      return page(viewerPage(dashboard, this.#dashboards, this.#target));
    }
    if (url.pathname === "/api/panel" || url.pathname === "/api/choices") return await this.#answer(request, url);
    return plain("no such page", 404);
  }

  async #home(request: Request, isPage: boolean): Promise<Response> {
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(STATUS_LIMIT_MS)]);
    const status = statusHtml(await this.#source.status(signal), Date.now());
    if (!isPage) return page(status.text);
    return page(
      homePage(status, this.#target, [
        { title: "Dashboards", links: dashboardLinks(this.#dashboards) },
        { title: "Servers of the pipeline", links: this.#links },
        { title: "Runs", links: await runLinks() },
      ]),
    );
  }

  async #answer(request: Request, { pathname, searchParams }: URL): Promise<Response> {
    const dashboard = this.#find(searchParams.get("dashboard"));
    if (!dashboard) return plain("no such dashboard", 404);
    if (this.#queries >= MAX_QUERIES) return plain("too many queries at once", 503);
    this.#queries++;
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(QUERY_LIMIT_MS)]);
    try {
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

const page = (text: string): Response =>
  new Response(text, { headers: { ...HEADERS, "content-type": "text/html; charset=utf-8" } });
