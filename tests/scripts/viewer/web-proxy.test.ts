/** The web pages of the pipeline's servers behind the session: which requests pass, and what of them does not. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Cluster } from "../../../scripts/cluster/cluster.ts";
import { Session } from "../../../scripts/viewer/session.ts";
import { WEB_PAGES, WebProxy } from "../../../scripts/viewer/web-proxy.ts";
import { testCertificate } from "../../services/certificate.ts";

const seen: { method: string; path: string; cookie: string | null; body: string }[] = [];
let server: Bun.Server<undefined>;
let proxy: WebProxy;
let origin: string;
let cookie: string;
let ca: string;
/** Port-forwards that were opened. */
let forwards = 0;
let isBroken = false;

const cluster = {
  get: async () => ({ data: { "ca.crt": Buffer.from(ca).toString("base64") } }),
  portForward: async () => {
    forwards++;
    // A port-forward whose pod has ended refuses connections.
    const port = isBroken ? 1 : server.port;
    isBroken = false;
    return { port, close: async () => {} };
  },
} as unknown as Cluster;

beforeAll(async () => {
  const tls = await testCertificate();
  ca = tls.ca;
  server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    tls: { cert: tls.cert, key: tls.key },
    async fetch(request) {
      const url = new URL(request.url);
      const path = url.pathname + url.search;
      seen.push({ method: request.method, path, cookie: request.headers.get("cookie"), body: await request.text() });
      return new Response("answer", { headers: { "content-type": "text/x-test", "set-cookie": "own=1", server: "x" } });
    },
  });
  proxy = new WebProxy(WEB_PAGES.victorialogs, cluster, new Session());
  const first = await fetch(proxy.url, { redirect: "manual" });
  cookie = first.headers.get("set-cookie")!.split(";")[0]!;
  origin = new URL(proxy.url).origin;
});
afterAll(async () => {
  await proxy.close();
  await server.stop(true);
});

const send = (path: string, init: RequestInit = {}) =>
  fetch(`${origin}${path}`, { redirect: "manual", ...init, headers: { cookie, ...(init.headers as object) } });

test("a request of the page is sent on, without the session's cookie; headers of the server stay there", async () => {
  const answer = await send("/select/logsql/query?query=error");
  expect([answer.status, await answer.text(), answer.headers.get("content-type")]).toEqual([
    200,
    "answer",
    "text/x-test",
  ]);
  expect([answer.headers.get("set-cookie"), answer.headers.get("server")]).toEqual([null, null]);
  expect(seen.at(-1)).toEqual({ method: "GET", path: "/select/logsql/query?query=error", cookie: null, body: "" });
  const posted = await send("/select/logsql/query", { method: "POST", body: "query=x", headers: { origin } });
  expect([posted.status, seen.at(-1)!.body]).toEqual([200, "query=x"]);
});

test.each([
  ["GET", "/insert/jsonline"],
  ["GET", "/internal/force_flush"],
  ["GET", "/select/../insert/jsonline"],
  ["GET", "/select/buildinfo/../../insert/jsonline"],
  ["GET", "/select/tenant_ids/x"],
  ["POST", "/select/buildinfo"],
  ["GET", "/select/vmui/..%2F..%2Finternal/force_flush"],
  ["GET", "/metrics"],
  ["POST", "/insert/jsonline"],
  ["POST", "/select/vmui/"],
  ["DELETE", "/select/logsql/query"],
])("%s %s is refused and not sent on", async (method, path) => {
  const before = seen.length;
  const answer = await send(path, { method, headers: { origin }, ...(method === "POST" ? { body: "x" } : {}) });
  expect([answer.status, seen.length]).toEqual([403, before]);
});

test.each(["/select/buildinfo", "/select/tenant_ids"])(
  "%s, which the page reads at its start, is sent on",
  async (path) => {
    expect((await send(path)).status).toBe(200);
    expect(seen.at(-1)).toMatchObject({ method: "GET", path });
  },
);

test("without the token nothing is sent on", async () => {
  const before = seen.length;
  expect((await fetch(`${origin}/select/logsql/query`)).status).toBe(403);
  const foreign = await send("/select/logsql/query", {
    method: "POST",
    body: "x",
    headers: { origin: "http://evil.example" },
  });
  expect([foreign.status, seen.length]).toEqual([403, before]);
});

test("a port-forward that has ended is opened again; an unverified certificate is an error", async () => {
  await proxy.close();
  isBroken = true;
  const before = forwards;
  const again = new WebProxy(WEB_PAGES.victorialogs, cluster, new Session());
  expect(await again.hasPage()).toBe(true);
  const first = await fetch(again.url, { redirect: "manual" });
  const own = first.headers.get("set-cookie")!.split(";")[0]!;
  expect((await fetch(again.address, { headers: { cookie: own } })).status).toBe(200);
  expect(forwards - before).toBe(2);
  await again.close();

  const untrusted = { ...cluster, get: async () => ({ data: {} }) } as unknown as Cluster;
  const other = new WebProxy(WEB_PAGES.victorialogs, untrusted, new Session());
  const entry = await fetch(other.url, { redirect: "manual" });
  const answer = await fetch(other.address, { headers: { cookie: entry.headers.get("set-cookie")!.split(";")[0]! } });
  expect([answer.status, await answer.text()]).toEqual([
    502,
    expect.stringContaining("victorialogs cannot be reached"),
  ]);
  await other.close();
});
