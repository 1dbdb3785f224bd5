/**
 * No picture of an empty or failing panel: the judge with hand-written states, then a real Chromium on small pages with
 * Grafana's test ids (skipped without Chromium).
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findBrowser, pinOf, signIn, withBrowser } from "../../scripts/browser/browser.ts";
import { EXIT, OperatorError } from "../../scripts/cli/errors.ts";
import { ensureCertificates } from "../../scripts/deploy/certificates.ts";
import { dashboardUrl } from "../../scripts/evidence/grafana-capture.ts";
import { judgePanels, type PanelState } from "../../scripts/evidence/grafana-panels.ts";
import { type PictureOptions, takePicture } from "../../scripts/evidence/grafana-picture.ts";

const panelState = (more: Partial<PanelState> = {}): PanelState => ({
  title: "Lag",
  loading: false,
  problem: "",
  drawnCanvases: 1,
  text: "",
  ...more,
});

describe("judgePanels", () => {
  const judge = (...panels: PanelState[]) => judgePanels(["Lag"], panels);
  test("a panel with a drawn canvas, a number or a table row is ready", () => {
    expect(judge(panelState())).toEqual({ state: "ready" });
    expect(judge(panelState({ drawnCanvases: 0, text: "207 events/s" }))).toEqual({ state: "ready" });
    expect(judge(panelState({ drawnCanvases: 0, text: "0" }))).toEqual({ state: "ready" });
  });
  test("a loading, blank or missing panel is waiting, with the reason", () => {
    expect(judge(panelState({ loading: true }))).toEqual({ state: "waiting", reasons: ["Lag: loading"] });
    expect(judge(panelState({ drawnCanvases: 0 }))).toEqual({ state: "waiting", reasons: ["Lag: nothing drawn"] });
    expect(judge(panelState({ drawnCanvases: 0, text: "Loading" }))).toEqual({
      state: "waiting",
      reasons: ["Lag: nothing drawn"],
    });
    expect(judge()).toEqual({ state: "waiting", reasons: ["Lag: missing"] });
    expect(judgePanels([], [])).toEqual({ state: "waiting", reasons: ["no panel on the page"] });
  });
  test.each([
    [panelState({ problem: "bad gateway" }), "Lag: bad gateway"],
    [panelState({ drawnCanvases: 0, text: "No data" }), "Lag: No data"],
    // Axes have pixels too: the text decides.
    [panelState({ drawnCanvases: 1, text: "No data" }), "Lag: No data"],
    [panelState({ drawnCanvases: 0, text: "No logs found." }), "Lag: No logs found."],
  ])("a panel that fails or is empty is bad: %j", (seen, reason) => {
    expect(judge(seen)).toEqual({ state: "bad", reasons: [reason] });
  });
  test("one failed panel fails the page", () => {
    const verdict = judgePanels(["Lag", "Rate"], [panelState(), panelState({ title: "Rate", problem: "x" })]);
    expect(verdict).toEqual({ state: "bad", reasons: ["Rate: x"] });
  });
});

test("dashboardUrl: has the period, kiosk mode and every value of a variable", () => {
  expect(dashboardUrl("https://localhost:1", "logs", 900_000, { "var-service": ["a", "b"] })).toBe(
    "https://localhost:1/d/logs?from=now-900s&to=now&kiosk=true&var-service=a&var-service=b",
  );
});

/** Ten seconds; on a busy machine minutes. */
setDefaultTimeout(300_000);

const browser = findBrowser();

describe.skipIf(!browser)("with Chromium", () => {
  let folder = "";
  let server: ReturnType<typeof Bun.serve>;
  let certificate = "";
  let other = "";
  const panel = (title: string, body: string, marks = "") =>
    `<section data-testid="data-testid Panel header ${title}"><h2>${title}</h2>${marks}<div data-testid="data-testid panel content">${body}</div></section>`;
  const graph = (id: string, afterMs: number) =>
    `<canvas id="${id}" width="200" height="80"></canvas><script>setTimeout(() => {
      const c = document.getElementById("${id}").getContext("2d"); c.strokeStyle = "red"; c.moveTo(0, 70); c.lineTo(200, 5); c.stroke();
    }, ${afterMs})</script>`;
  const BAR = '<div aria-label="Panel loading bar"></div>';
  const PAGES: Record<string, string> = {
    "/good": panel("Rate", graph("a", 500)) + panel("Lag", "<span>1,204</span>"),
    "/blank-canvas": panel("Rate", graph("a", 0)) + panel("Lag", '<canvas width="200" height="80"></canvas>'),
    "/no-data": panel("Rate", graph("a", 0)) + panel("Lag", "<div>No data</div>"),
    "/failing":
      panel("Rate", graph("a", 0)) +
      panel(
        "Lag",
        graph("b", 0),
        '<button data-testid="data-testid Panel status error" aria-label="bad gateway">!</button>',
      ),
    "/loading": panel("Rate", graph("a", 0)) + panel("Lag", graph("b", 0), BAR),
    "/missing": panel("Rate", graph("a", 0)),
    // An error that disappears, like that of a first query.
    "/recovers":
      panel("Rate", graph("a", 0)) +
      panel("Lag", '<div id="x">No data</div><script>setTimeout(() => { x.innerText = "17"; }, 700)</script>'),
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-capture-test-"));
    const certs = join(folder, "certs");
    const identity = (name: string) => ({ name, subjectAltNames: ["DNS:localhost"] });
    await ensureCertificates(certs, { identities: [identity("page"), identity("other")] });
    certificate = await readFile(join(certs, "page.crt"), "utf8");
    other = await readFile(join(certs, "other.crt"), "utf8");
    server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      tls: { cert: certificate, key: await readFile(join(certs, "page.key"), "utf8") },
      async fetch(request) {
        const { pathname } = new URL(request.url);
        if (pathname === "/login") {
          if (request.method === "GET") return new Response("sign in");
          const { user, password } = (await request.json()) as { user: string; password: string };
          if (user !== "admin" || password !== "secret") return new Response("no", { status: 401 });
          return new Response("{}", { headers: { "set-cookie": "session=1; Secure; HttpOnly; SameSite=Strict" } });
        }
        if (!request.headers.get("cookie")?.includes("session=1")) return new Response("who?", { status: 401 });
        const body = PAGES[pathname];
        return new Response(body ?? "no such page", {
          status: body ? 200 : 404,
          headers: { "content-type": "text/html; charset=utf-8" },
        });
      },
    });
  });
  afterAll(async () => {
    await server?.stop(true);
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  type More = Partial<PictureOptions>;
  /** Signs in, then `work` takes pictures: in one browser, since each start takes a second. */
  async function inBrowser<T>(
    work: (capture: (page: string, more?: More) => Promise<string>) => Promise<T>,
    more: { pin?: string; password?: string } = {},
  ): Promise<T> {
    const origin = `https://localhost:${server.port}`;
    return await withBrowser({ path: browser!, certificate: more.pin ?? certificate }, async (context) => {
      await signIn(await context.newPage(), origin, "admin", more.password ?? "secret");
      return await work(async (page, options = {}) => {
        const path = join(folder, `pictures${page}.png`);
        const signal = new AbortController().signal;
        const url = `${origin}${page}`;
        await takePicture(await context.newPage(), { url, expected: ["Rate", "Lag"], path, signal, ...options });
        return path;
      });
    });
  }
  /** For pages that must fail. */
  const SHORT: More = { drawLimitMs: 8000, faultPatienceMs: 4000 };

  test("waits for a slow panel and ignores a temporary error", async () => {
    const paths = await inBrowser((capture) => Promise.all(["/good", "/recovers"].map((page) => capture(page))));
    for (const path of paths) {
      const png = await readFile(path);
      expect(png.subarray(1, 4).toString()).toBe("PNG");
      expect(png.length).toBeGreaterThan(2000);
    }
    expect((await readdir(join(folder, "pictures"))).sort()).toEqual(["good.png", "recovers.png"]);
  });

  test("no picture of a failed, empty, blank, loading or missing panel, and the reason is reported", async () => {
    const cases = [
      ["/no-data", EXIT.violations, "Lag: No data"],
      ["/failing", EXIT.violations, "Lag: bad gateway"],
      ["/blank-canvas", EXIT.timeout, "Lag: nothing drawn"],
      ["/loading", EXIT.timeout, "Lag: loading"],
      ["/missing", EXIT.timeout, "Lag: missing"],
      ["/nowhere", EXIT.failed, "answered 404"],
    ] as const;
    const errors = await inBrowser((capture) =>
      Promise.all(cases.map(([page]) => capture(page, SHORT).catch((error: unknown) => error))),
    );
    cases.forEach(([page, exitCode, message], index) => {
      const error = errors[index];
      expect(error, page).toBeInstanceOf(OperatorError);
      expect((error as OperatorError).message, page).toContain(message);
      expect((error as OperatorError).exitCode, page).toBe(exitCode);
      expect(existsSync(join(folder, `pictures${page}.png`)), page).toBe(false);
    });
  });

  test("a server with another key and a wrong password are rejected", async () => {
    expect(pinOf(other)).not.toBe(pinOf(certificate));
    // Not expect(…).rejects: it turns the event loop by itself, in which a browser's pipe is not read.
    const messageOf = (more: { pin?: string; password?: string }) =>
      inBrowser((capture) => capture("/good"), more).then(String, (error: Error) => error.message);
    expect(await messageOf({ pin: other })).toContain("ERR_CERT");
    expect(await messageOf({ password: "wrong" })).toContain("rejected the sign-in of admin: 401");
  });
});
