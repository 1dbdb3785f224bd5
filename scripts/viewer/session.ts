/**
 * Who may use a server on loopback: the token of the session is in the first address, then in a cookie. Other programs and
 * pages of the machine do not have it. All servers of a command share one session: cookies do not differ by port.
 */
import { timingSafeEqual } from "node:crypto";

const COOKIE = "conveyor_session";

export const HEADERS = {
  "cache-control": "no-store",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cross-origin-resource-policy": "same-origin",
} as const;

export const plain = (text: string, status: number): Response =>
  new Response(text, { status, headers: { ...HEADERS, "content-type": "text/plain; charset=utf-8" } });

export const redirect = (location: string, more: Record<string, string> = {}): Response =>
  new Response(null, { status: 303, headers: { ...HEADERS, location, ...more } });

export class Session {
  readonly #token = Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url");

  /** The address to open for a path of a server on this port. */
  urlOf(port: number, path: string): string {
    const url = new URL(path, `http://127.0.0.1:${port}`);
    url.searchParams.set("token", this.#token);
    return url.href;
  }

  #isToken(text: string | null | undefined): boolean {
    const given = Buffer.from(text ?? "");
    const token = Buffer.from(this.#token);
    return given.length === token.length && timingSafeEqual(given, token);
  }

  /** The answer to a request that may not pass, or that brings the token; undefined for one that may pass. */
  check(request: Request, port: number): Response | undefined {
    const url = new URL(request.url);
    // A foreign page may resolve its own name to 127.0.0.1; its requests have that name.
    const hosts = [`127.0.0.1:${port}`, `localhost:${port}`];
    if (!hosts.includes(request.headers.get("host") ?? "")) return plain("not this host", 421);
    // A form of a foreign page may send a request, and its browser adds the cookie.
    const origin = request.headers.get("origin");
    if (request.method !== "GET" && (origin === null || !hosts.includes(origin.replace("http://", "")))) {
      return plain("only from the page itself", 403);
    }
    const token = url.searchParams.get("token");
    if (token !== null) {
      if (!this.#isToken(token)) return plain("the token is not that of this session", 403);
      url.searchParams.delete("token");
      return redirect(url.pathname + url.search, {
        "set-cookie": `${COOKIE}=${this.#token}; Path=/; HttpOnly; SameSite=Strict`,
      });
    }
    const cookies = new Bun.CookieMap(request.headers.get("cookie") ?? "");
    return this.#isToken(cookies.get(COOKIE))
      ? undefined
      : plain("Open the address that the command has printed: it contains the token of this session.", 403);
  }
}
