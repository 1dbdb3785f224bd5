/** The page of `bun scripts/open.ts` on the deployed pipeline: figures of the running pipeline, and the log store's own page. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { deployedLogBackend } from "../../scripts/clients/log-store.ts";
import { textLines } from "../../services/domain/ndjson.ts";
import { cluster, describeOnCluster } from "./harness.ts";

const ROOT = join(import.meta.dir, "../..");
const START_LIMIT_MS = 60_000;

/** A browser's cookie jar of one cookie: the address with the token, then the page. */
async function opened(url: string): Promise<{ get(path: string): Promise<Response> }> {
  const first = await fetch(url, { redirect: "manual" });
  const cookie = first.headers.get("set-cookie")!.split(";")[0]!;
  return { get: (path) => fetch(new URL(path, url), { headers: { cookie } }) };
}

describeOnCluster("open", () => {
  test("shows the pipeline's figures, and the log store's page behind the session; ends with Ctrl-C", async () => {
    const child = Bun.spawn(["bun", "scripts/open.ts", "--local", "--no-browser"], {
      cwd: ROOT,
      stdout: "pipe",
      stderr: "pipe",
    });
    const limit = setTimeout(() => child.kill("SIGKILL"), START_LIMIT_MS);
    try {
      const addresses = new Map<string, string>();
      const hasLogPage = (await deployedLogBackend(await cluster()))?.name === "victorialogs";
      for await (const line of textLines(child.stdout)) {
        const [, title, url] = /^(.+): (http:\S+)$/.exec(line) ?? [];
        if (title && url) addresses.set(title, url);
        if (addresses.has("pipeline") && (!hasLogPage || addresses.has("Log search"))) break;
      }
      const page = await opened(addresses.get("pipeline")!);
      const text = await (await page.get("/")).text();
      expect(text).toMatch(/<h1>(Working|Working, with warnings|Degraded|Critical alert)<\/h1>/);
      expect(text).toContain("Ready");
      if (hasLogPage) {
        const logs = await opened(addresses.get("Log search")!);
        expect((await logs.get("/select/vmui/")).status).toBe(200);
        const found = await logs.get(
          `/select/logsql/query?${new URLSearchParams({ query: "service:processor", limit: "1" })}`,
        );
        expect(await found.text()).toContain('"service":"processor"');
        expect((await logs.get("/insert/jsonline")).status).toBe(403);
        expect((await fetch(new URL("/select/vmui/", addresses.get("Log search")!))).status).toBe(403);
      }
    } finally {
      child.kill("SIGINT");
      await child.exited;
      clearTimeout(limit);
    }
  }, 120_000);
});
