/**
 * The web page of a server of the pipeline, on 127.0.0.1: requests with the session's token are sent on through a port-forward,
 * with verified TLS. Only the paths that the page needs pass: no deletion, no writing of logs or metrics, no administration.
 */
import { type Cluster, NAMESPACE, type PortForward } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { HEADERS, plain, redirect, type Session } from "./session.ts";

/** A query of the web pages ends within a minute. */
const ANSWER_LIMIT_MS = 70_000;
/** A query that a page sends; not an upload. */
const MAX_BODY_BYTES = 1024 * 1024;

export interface WebPage {
  /** Name of the Service and, with "-tls", of its Secret. */
  service: "prometheus" | "alertmanager" | "victorialogs";
  port: number;
  /** Path of the page. */
  path: string;
  /** Paths that may be requested. */
  allowed: RegExp;
  /** Paths that may be requested with POST too. */
  post?: RegExp;
}

export const WEB_PAGES = {
  prometheus: {
    service: "prometheus",
    port: 9090,
    path: "/query",
    allowed: /^\/(?!-\/|api\/v1\/admin\/|api\/v1\/write|api\/v1\/otlp|debug\/)/,
    post: /^\/api\/v1\/(query|query_range|query_exemplars|series|labels|format_query|parse_query)$/,
  },
  alertmanager: {
    service: "alertmanager",
    port: 9093,
    path: "/",
    allowed: /^\/(?!-\/reload|debug\/)/,
    // Silences are what an operator needs the page for.
    post: /^\/api\/v2\/silences$/,
  },
  victorialogs: {
    service: "victorialogs",
    port: 9428,
    path: "/select/vmui/",
    allowed: /^\/(select\/(vmui|logsql)(\/|$)|select\/(buildinfo|tenant_ids)$|flags$)/,
    post: /^\/select\/logsql\//,
  },
} as const satisfies Record<string, WebPage>;

/** Encoded separators and dots: a server may decode them into another path than the one that was checked. */
const ENCODED_PATH = /%(2f|5c|2e)/i;

/** Headers of a request that the server needs; cookies and the address of the page stay here. */
const SENT_HEADERS = ["accept", "accept-language", "content-type", "accountid", "projectid"];
const RETURNED_HEADERS = ["content-type", "content-disposition", "location"];

export class WebProxy {
  readonly #page: WebPage;
  readonly #cluster: Cluster;
  readonly #session: Session;
  readonly #server: Bun.Server<undefined>;
  #opened: Promise<{ forward: PortForward; ca: string }> | undefined;

  constructor(page: WebPage, cluster: Cluster, session: Session) {
    this.#page = page;
    this.#cluster = cluster;
    this.#session = session;
    const fetch = (request: Request) => this.#respond(request);
    this.#server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      idleTimeout: 120,
      maxRequestBodySize: MAX_BODY_BYTES,
      fetch,
    });
  }

  /** Address of the page for a browser that has the session's cookie: cookies do not differ by port. */
  get address(): string {
    return `http://127.0.0.1:${this.#server.port}${this.#page.path}`;
  }

  /** Address of the page, with the session's token. */
  get url(): string {
    return this.#session.urlOf(this.#server.port!, this.#page.path);
  }

  /** Whether the server has its page: Debian's packages of Prometheus and Alertmanager have none. */
  async hasPage(): Promise<boolean> {
    try {
      const { status } = await this.#send(
        new Request(`http://127.0.0.1${this.#page.path}`),
        this.#page.path,
        undefined,
      );
      return status === 200;
    } catch {
      // It may be back when the page is opened.
      return true;
    }
  }

  async close(): Promise<void> {
    await this.#server.stop(true);
    await this.#disconnect();
  }

  #connect(): Promise<{ forward: PortForward; ca: string }> {
    const { service, port } = this.#page;
    this.#opened ??= (async () => {
      const ca = (await readSecret(this.#cluster, `${service}-tls`))["ca.crt"] ?? "";
      return { ca, forward: await this.#cluster.portForward(`svc/${service}`, port, NAMESPACE) };
    })().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    });
    return this.#opened;
  }

  async #disconnect(): Promise<void> {
    const opened = this.#opened;
    this.#opened = undefined;
    await opened?.then(({ forward }) => forward.close()).catch(() => {});
  }

  async #respond(request: Request): Promise<Response> {
    const refused = this.#session.check(request, this.#server.port!);
    if (refused) return refused;
    const { pathname, search } = new URL(request.url);
    const { allowed, post, path, service } = this.#page;
    if (pathname === "/" && path !== "/") return redirect(path);
    const isAllowed =
      request.method === "GET" ? allowed.test(pathname) : request.method === "POST" && post?.test(pathname);
    if (!isAllowed || ENCODED_PATH.test(pathname)) {
      return plain(`${request.method} ${pathname} is not a request of this page`, 403);
    }
    const body = request.method === "POST" ? await request.bytes() : undefined;
    // A port-forward ends with its pod: once more with a new one.
    for (const attempt of [1, 2]) {
      try {
        return await this.#send(request, pathname + search, body);
      } catch (error) {
        await this.#disconnect();
        if (request.signal.aborted || attempt === 2) {
          return plain(`${service} cannot be reached: ${error instanceof Error ? error.message : String(error)}`, 502);
        }
      }
    }
    throw new Error("not reached");
  }

  async #send(request: Request, path: string, body: Uint8Array<ArrayBuffer> | undefined): Promise<Response> {
    const { forward, ca } = await this.#connect();
    const headers = new Headers();
    for (const name of SENT_HEADERS) {
      const value = request.headers.get(name);
      if (value !== null) headers.set(name, value);
    }
    const answer = await fetch(`https://localhost:${forward.port}${path}`, {
      method: request.method,
      headers,
      ...(body ? { body } : {}),
      redirect: "manual",
      signal: AbortSignal.any([request.signal, AbortSignal.timeout(ANSWER_LIMIT_MS)]),
      tls: { ca },
    });
    const returned = new Headers(HEADERS);
    for (const name of RETURNED_HEADERS) {
      const value = answer.headers.get(name);
      // A redirect to the server itself would leave the proxy.
      if (value !== null && !(name === "location" && !value.startsWith("/"))) returned.set(name, value);
    }
    return new Response(answer.body, { status: answer.status, headers: returned });
  }
}
