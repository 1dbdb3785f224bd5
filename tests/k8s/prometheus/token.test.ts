/**
 * Goal: scrapes of the kubelet never carry an expired token.
 * Method: the real Prometheus scrapes a server while its token file is replaced as the kubelet does it, by a symbolic link. A
 * Prometheus that goes on with the first token needs one that outlives its pod.
 */
import { afterAll, expect, test } from "bun:test";
import { mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { start } from "../../../scripts/cli/process.ts";
import { loadManifests, podTemplateOf } from "../../../scripts/deploy/manifests.ts";
import { eventually } from "../../eventually.ts";
import { freePort } from "../../servers/free-ports.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { promtoolObstacle, tool } from "./rules.ts";

const folder = temporaryFolder();
const LIMIT_MS = 120_000;
const YEAR_SECONDS = 365 * 86_400;
/** Scrapes after the renewal: more than one, since one may be under way. */
const SCRAPES_AFTER = 3;

/** Seconds for which the token in the pod of Prometheus is valid. */
async function lifetimeSeconds(): Promise<number> {
  const deployment = (await loadManifests()).find(
    ({ kind, metadata }) => kind === "Deployment" && metadata.name === "prometheus",
  )!;
  const spec = podTemplateOf(deployment)!.spec as {
    volumes: { projected?: { sources: { serviceAccountToken?: { expirationSeconds: number } }[] } }[];
  };
  const sources = spec.volumes.flatMap(({ projected }) => projected?.sources ?? []);
  return sources.find(({ serviceAccountToken }) => serviceAccountToken)!.serviceAccountToken!.expirationSeconds;
}

function setToken(token: string): void {
  mkdirSync(join(folder, token));
  writeFileSync(join(folder, token, "token"), token);
  symlinkSync(token, join(folder, "..new"));
  renameSync(join(folder, "..new"), join(folder, "..data"));
}

const tokens: string[] = [];
const target = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request) {
    tokens.push(request.headers.get("authorization") ?? "");
    return new Response("x 1\n", { headers: { "content-type": "text/plain; version=0.0.4" } });
  },
});
afterAll(() => target.stop(true));

test.skipIf((await promtoolObstacle()) !== undefined)(
  "Prometheus follows a renewed token, or its token is valid for a year",
  async () => {
    setToken("first");
    symlinkSync("..data/token", join(folder, "token"));
    const job = {
      job_name: "kubelet",
      authorization: { credentials_file: join(folder, "token") },
      static_configs: [{ targets: [`127.0.0.1:${target.port}`] }],
    };
    writeFileSync(
      join(folder, "prometheus.yml"),
      stringify({ global: { scrape_interval: "200ms", scrape_timeout: "200ms" }, scrape_configs: [job] }),
    );
    const port = await freePort();
    const command = [await tool("prometheus"), `--config.file=${join(folder, "prometheus.yml")}`];
    await using server = start(
      [...command, `--storage.tsdb.path=${join(folder, "tsdb")}`, `--web.listen-address=127.0.0.1:${port}`],
      { stdout: "ignore" },
    );
    await eventually(`a scrape; ${server.stderr}`, () => tokens.length > 0);
    expect(tokens.at(-1)).toBe("Bearer first");
    setToken("second");
    const before = tokens.length;
    await eventually("scrapes after the renewal", () => tokens.length >= before + SCRAPES_AFTER);
    if (tokens.at(-1) !== "Bearer second") expect(await lifetimeSeconds()).toBeGreaterThanOrEqual(YEAR_SECONDS);
  },
  LIMIT_MS,
);
