/** The server of the dashboards: what needs the session's token, what is refused, and that text stays text. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { schemaDashboard } from "../../../scripts/dashboards/schema-dashboard.ts";
import type { Frame } from "../../../scripts/viewer/frame.ts";
import { DashboardViewer, type PanelSource } from "../../../scripts/viewer/viewer.ts";
import { PUMP } from "../../schemas/pump.ts";

const reads: { panel: number; choices: unknown; period: unknown }[] = [];
const frame: Frame = { kind: "table", columns: ["x"], rows: [["<script>alert(1)</script>"]] };
const source: PanelSource = {
  async read(_dashboard, { id }, period, choices) {
    if (choices.search?.[0] === "down") throw new Error("Prometheus does not answer");
    reads.push({ panel: id, choices, period });
    return frame;
  },
  choicesOf: async () => ["a", "b"],
  status: async () => ({
    ...{ inPerSecond: 500, outPerSecond: 498, lagEvents: 12, freshShare: 0.999, podsReady: 11, podsDesired: 11 },
    alerts: [
      {
        name: "LogLinesDropped",
        severity: "warning",
        summary: "<b>Lines</b> are lost.",
        labels: "",
        runbook: "LogLinesDropped",
        sinceMs: NOW,
      },
    ],
  }),
};

const NOW = Date.UTC(2026, 0, 1);
let viewer: DashboardViewer;
let origin: string;
let cookie: string;
const query = (more: Record<string, string> = {}) =>
  new URLSearchParams({ dashboard: "logs", panel: "2", from: String(NOW - 3_600_000), to: String(NOW), ...more });
const get = (path: string, headers: Record<string, string> = { cookie }) =>
  fetch(`${origin}${path}`, { headers, redirect: "manual" });

beforeAll(async () => {
  const dashboards = [schemaDashboard(PUMP, "telemetry")];
  viewer = new DashboardViewer({ source, target: "cluster <test>", dashboards });
  const url = new URL(viewer.urlOf("logs"));
  origin = url.origin;
  const first = await fetch(url, { redirect: "manual" });
  expect([first.status, first.headers.get("location")]).toEqual([303, "/d/logs"]);
  cookie = first.headers.get("set-cookie")!.split(";")[0]!;
  expect(first.headers.get("set-cookie")).toContain("HttpOnly; SameSite=Strict");
});
afterAll(() => viewer.close());

describe("the session's token", () => {
  test("is in no page and no address after the first one", async () => {
    const page = await (await get("/d/logs")).text();
    expect(page).not.toContain(cookie.split("=")[1]!);
    expect(page).toContain("cluster &lt;test&gt;");
  });

  test.each(["/", "/d/logs", "/api/panel", "/api/choices", "/nothing"])("is needed for %s", async (path) => {
    expect((await get(path, {})).status).toBe(403);
    expect((await get(path, { cookie: `${cookie}x` })).status).toBe(403);
    expect((await get(`${path}?token=wrong`)).status).toBe(403);
  });

  test("is not enough under another host name or with another method", async () => {
    expect((await get("/d/logs", { cookie, host: "evil.example" })).status).toBe(421);
    const post = async (headers: Record<string, string>) =>
      (await fetch(`${origin}/d/logs`, { method: "POST", headers: { cookie, ...headers } })).status;
    // A form of a foreign page has its own origin or none.
    expect([await post({}), await post({ origin: "http://evil.example" })]).toEqual([403, 403]);
    expect(await post({ origin })).toBe(405);
  });
});

test("listens on loopback only", () => expect(new URL(viewer.urlOf()).hostname).toBe("127.0.0.1"));

describe("/api/panel", () => {
  test("reads a panel of a period, with the dashboard's own variables only", async () => {
    const answer = await get(`/api/panel?${query({ "var-service": "kafka", "var-unknown": "x" })}`);
    expect(answer.headers.get("content-type")).toContain("application/json");
    expect((await answer.json()) as Frame).toEqual(frame);
    expect(reads.at(-1)).toEqual({
      panel: 2,
      period: { fromMs: NOW - 3_600_000, toMs: NOW },
      choices: { service: ["kafka"], level: [], search: [], run: [], conveyor: [], seq: [] },
    });
  });

  test.each([
    [{ from: "x" }, 400, "from and to must be"],
    [{ from: String(NOW) }, 400, "the period must be"],
    [{ from: "0" }, 400, "the period must be"],
    [{ "var-search": "x".repeat(501) }, 400, "var-search must be"],
    [{ panel: "999" }, 404, "no such panel"],
    [{ dashboard: "../secrets" }, 404, "no such dashboard"],
    [{ "var-search": "down" }, 502, "Prometheus does not answer"],
  ])("%j: %d %s", async (more, status, text) => {
    const answer = await get(`/api/panel?${query(more as Record<string, string>)}`);
    expect([answer.status, (await answer.text()).slice(0, text.length)]).toEqual([status, text]);
    expect(answer.headers.get("content-type")).toContain("text/plain");
  });
});

test("the dashboards of schemas are shown like the others", async () => {
  expect(await (await get("/")).text()).toContain('href="/d/schema-pump"');
  const text = await (await get("/d/schema-pump")).text();
  expect(text).toContain("<h2>By source</h2>");
  expect(text).toContain("flow_l_min");
  const choices = { dashboard: "schema-pump", panel: "2", "var-source": "pump-7" };
  expect((await get(`/api/panel?${query(choices)}`)).status).toBe(200);
  expect(reads.at(-1)).toMatchObject({ panel: 2, choices: { source: ["pump-7"] } });
});

describe("the first page", () => {
  test("says whether the pipeline works, with its alerts and their runbooks", async () => {
    const text = await (await get("/")).text();
    expect(text).toContain("Working, with warnings");
    expect(text).toContain("&lt;b&gt;Lines&lt;/b&gt; are lost.");
    expect(text).toContain('href="/runbooks/LogLinesDropped"');
    expect(text).toContain('href="/d/kafka"');
    expect(await (await get("/status")).text()).not.toContain("<html");
  });

  test("serves runbooks and files of runs, and nothing else of the disk", async () => {
    expect(await (await get("/runbooks/LogLinesDropped")).text()).toContain("## Mitigation");
    for (const path of [
      "/runbooks/..%2FREADME",
      "/runbooks/Nothing",
      "/runs/x/report.html",
      "/runs/20260101T000000Z-drills/..%2F..%2Fpackage.json",
    ]) {
      expect([path, (await get(path)).status]).toEqual([path, 404]);
    }
  });
});

test("/api/choices: the values of a variable", async () => {
  expect(await (await get("/api/choices?dashboard=logs&variable=service")).json()).toEqual(["a", "b"]);
});

test.each(["pipeline-overview", "kafka", "processor-influxdb", "kubernetes", "conveyors", "logs"])(
  "/d/%s has a tile per panel and loads nothing from elsewhere",
  async (name) => {
    const page = await (await get(`/d/${name}`)).text();
    const { panels } = JSON.parse(/class="viewer-data">(.*?)<\/script>/s.exec(page)![1]!) as {
      panels: { id: number }[];
    };
    expect(panels.length).toBeGreaterThan(4);
    for (const { id } of panels) expect(page).toContain(`id="panel-${id}"`);
    expect(page).toContain("default-src 'none'");
    expect(page).not.toMatch(/(src|href)="https?:/);
  },
);
