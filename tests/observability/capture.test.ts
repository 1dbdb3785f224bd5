/**
 * Never a picture of an empty or failing panel. The judge with hand-written sights; the whole way with a real Chromium
 * on small pages that carry Grafana's marks (skipped where there is no Chromium).
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findBrowser, pinOf, signIn, withBrowser } from "../../scripts/capture/browser.ts";
import { judgePanels, type PanelSight } from "../../scripts/capture/panels.ts";
import { type PictureOptions, takePicture } from "../../scripts/capture/picture.ts";
import { dashboardUrl } from "../../scripts/capture.ts";
import { ensureCertificates } from "../../scripts/toolkit/certificates.ts";

const sight = (more: Partial<PanelSight> = {}): PanelSight => ({
  title: "Lag",
  loading: false,
  problem: "",
  drawnCanvases: 1,
  text: "",
  ...more,
});

describe("judgePanels", () => {
  const judge = (...sights: PanelSight[]) => judgePanels(["Lag"], sights);
  test("a graph on a canvas, a number, a row of text: ready", () => {
    expect(judge(sight())).toEqual({ state: "ready" });
    expect(judge(sight({ drawnCanvases: 0, text: "207 events/s" }))).toEqual({ state: "ready" });
    expect(judge(sight({ drawnCanvases: 0, text: "0" }))).toEqual({ state: "ready" });
  });
  test("still loading, nothing drawn, not there: waiting, with the reason", () => {
    expect(judge(sight({ loading: true }))).toEqual({ state: "waiting", reasons: ["Lag: loading"] });
    expect(judge(sight({ drawnCanvases: 0 }))).toEqual({ state: "waiting", reasons: ["Lag: nothing drawn"] });
    expect(judge(sight({ drawnCanvases: 0, text: "Loading" }))).toEqual({
      state: "waiting",
      reasons: ["Lag: nothing drawn"],
    });
    expect(judge()).toEqual({ state: "waiting", reasons: ["Lag: not there"] });
    expect(judgePanels([], [])).toEqual({ state: "waiting", reasons: ["no panel on the page"] });
  });
  test.each([
    [sight({ problem: "bad gateway" }), "Lag: bad gateway"],
    [sight({ drawnCanvases: 0, text: "No data" }), "Lag: No data"],
    // Axes alone are pixels too: the words count more.
    [sight({ drawnCanvases: 1, text: "No data" }), "Lag: No data"],
    [sight({ drawnCanvases: 0, text: "No logs found." }), "Lag: No logs found."],
  ])("a panel that fails or is empty is bad: %j", (seen, reason) => {
    expect(judge(seen)).toEqual({ state: "bad", reasons: [reason] });
  });
  test("one bad panel among good ones makes the page bad", () => {
    const verdict = judgePanels(["Lag", "Rate"], [sight(), sight({ title: "Rate", problem: "x" })]);
    expect(verdict).toEqual({ state: "bad", reasons: ["Rate: x"] });
  });
});

test("a dashboard's address: time, frame, and every value of a variable", () => {
  expect(dashboardUrl("https://localhost:1", "logs", 900_000, { "var-service": ["a", "b"] })).toBe(
    "https://localhost:1/d/logs?from=now-900s&to=now&kiosk=true&var-service=a&var-service=b",
  );
});

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
    // A fault that goes away by itself, as that of a first query: not a reason to give up.
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

  async function capture(page: string, more: Partial<PictureOptions> & { pin?: string; password?: string } = {}) {
    const origin = `https://localhost:${server.port}`;
    const path = join(folder, `pictures${page}.png`);
    await withBrowser({ path: browser!, certificate: more.pin ?? certificate }, async (context) => {
      await signIn(await context.newPage(), origin, "admin", more.password ?? "secret");
      await takePicture(await context.newPage(), {
        url: `${origin}${page}`,
        expected: ["Rate", "Lag"],
        path,
        signal: new AbortController().signal,
        drawLimitMs: 2500,
        faultPatienceMs: 1500,
        ...more,
      });
    });
    return path;
  }

  test("panels that draw late are waited for, and the picture shows them", async () => {
    const path = await capture("/good");
    const png = await readFile(path);
    expect(png.subarray(1, 4).toString()).toBe("PNG");
    expect(png.length).toBeGreaterThan(2000);
    expect(await readdir(join(folder, "pictures"))).toEqual(["good.png"]);
  }, 30_000);

  test("a fault that goes away is no fault", async () => {
    expect(existsSync(await capture("/recovers"))).toBe(true);
  }, 30_000);

  test.each([
    ["/no-data", 5, "Lag: No data"],
    ["/failing", 5, "Lag: bad gateway"],
    ["/blank-canvas", 4, "Lag: nothing drawn"],
    ["/loading", 4, "Lag: loading"],
    ["/missing", 4, "Lag: not there"],
    ["/nowhere", 1, "answered 404"],
  ])(
    "%s gives no picture: exit %i, %s",
    async (page, exitCode, message) => {
      const error = await capture(page).catch((caught: unknown) => caught);
      expect(error).toMatchObject({ exitCode });
      expect((error as Error).message).toContain(message);
      expect(existsSync(join(folder, `pictures${page}.png`))).toBe(false);
    },
    30_000,
  );

  test("a server with another key than the pinned one is refused", async () => {
    expect(pinOf(other)).not.toBe(pinOf(certificate));
    await expect(capture("/good", { pin: other, path: join(folder, "foreign.png") })).rejects.toThrow(/ERR_CERT/);
    expect(existsSync(join(folder, "foreign.png"))).toBe(false);
  }, 30_000);

  test("a wrong password gives no picture", async () => {
    await expect(capture("/good", { password: "wrong", path: join(folder, "wrong.png") })).rejects.toThrow(
      "refused the sign-in of admin: 401",
    );
    expect(existsSync(join(folder, "wrong.png"))).toBe(false);
  }, 30_000);
});
