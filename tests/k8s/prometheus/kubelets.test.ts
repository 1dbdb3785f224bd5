/**
 * Goal: a cluster whose kubelets sign their own certificates is identified by what Prometheus says, and nothing else is taken
 * for it.
 * Method: the real Prometheus scrapes servers with the deployed scrape jobs, of which only discovery and paths are replaced.
 */
import { beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { createAuthority, issueCertificate, type KeyPair } from "../../../scripts/cli/pki.ts";
import { start } from "../../../scripts/cli/process.ts";
import { type KubeletState, readKubelets } from "../../../scripts/clients/kubelets.ts";
import type { PrometheusReader, Target } from "../../../scripts/clients/prometheus.ts";
import { loadManifests } from "../../../scripts/deploy/manifests.ts";
import { eventually } from "../../eventually.ts";
import { freePort } from "../../servers/free-ports.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { promtoolObstacle, tool } from "./rules.ts";

const folder = temporaryFolder();
const LIMIT_MS = 120_000;
const DAY_MS = 86_400_000;
const ADDRESS = { commonName: "system:node:node-1", names: ["IP:127.0.0.1"] };

let authority: KeyPair;
beforeAll(async () => {
  authority = await createAuthority("cluster", { days: 30 });
  writeFileSync(join(folder, "ca.crt"), authority.certificate);
  writeFileSync(join(folder, "token"), "token");
});

/** The deployed scrape jobs, for these servers. */
async function jobsFor(targets: readonly string[]): Promise<object[]> {
  const map = (await loadManifests()).find(
    ({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "prometheus-nodes",
  )!;
  const { scrape_configs } = parse((map.data as Record<string, string>)["nodes.yml"]!, { merge: true }) as {
    scrape_configs: object[];
  };
  return scrape_configs.map((job) => ({
    ...job,
    kubernetes_sd_configs: undefined,
    static_configs: [{ targets }],
    tls_config: { ca_file: join(folder, "ca.crt") },
    authorization: { credentials_file: join(folder, "token") },
  }));
}

/** A server with this certificate that answers every request with this status. */
const kubelet = ({ certificate, key }: KeyPair, status = 200) =>
  Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    tls: { cert: certificate, key },
    fetch: () => new Response("x 1\n", { status, headers: { "content-type": "text/plain; version=0.0.4" } }),
  });

test.skipIf((await promtoolObstacle()) !== undefined)(
  "only certificates that the cluster's CA has not signed for the node are a property of the cluster",
  async () => {
    const days = { days: 1 };
    const selfSigned = await createAuthority("node-1-ca@1700000000", days);
    const signed = await issueCertificate(authority, ADDRESS, days);
    const before = { ...days, now: new Date(Date.now() - 3 * DAY_MS) };
    using foreign = kubelet(await issueCertificate(selfSigned, ADDRESS, days));
    using nameless = kubelet(await issueCertificate(authority, { ...ADDRESS, names: ["DNS:node-1"] }, days));
    using expired = kubelet(await issueCertificate(authority, ADDRESS, before));
    using forbidden = kubelet(signed, 403);
    using healthy = kubelet(signed);
    const instanceOf = ({ port }: { port?: number }) => `127.0.0.1:${port}`;

    const global = { scrape_interval: "200ms", scrape_timeout: "200ms" };
    const scrape_configs = await jobsFor([foreign, nameless, expired, forbidden, healthy].map(instanceOf));
    writeFileSync(join(folder, "prometheus.yml"), stringify({ global, scrape_configs }));
    const port = await freePort();
    const command = [await tool("prometheus"), `--config.file=${join(folder, "prometheus.yml")}`];
    await using server = start(
      [...command, `--storage.tsdb.path=${join(folder, "tsdb")}`, `--web.listen-address=127.0.0.1:${port}`],
      { stdout: "ignore" },
    );
    const get = async <T>(path: string): Promise<T> =>
      ((await (await fetch(`http://127.0.0.1:${port}/api/v1/${path}`)).json()) as { data: T }).data;

    /** What is concluded where this server is the only kubelet. */
    const stateOf = async (one: { port?: number }): Promise<KubeletState> => {
      const instance = instanceOf(one);
      const prometheus = {
        targets: async () =>
          (await get<{ activeTargets: Target[] }>("targets")).activeTargets.filter(
            ({ labels }) => labels.instance === instance,
          ),
        query: async (promql: string) => {
          const query = promql.replace('job="kubelet"', `job="kubelet", instance="${instance}"`);
          const { result } = await get<{ result: { value: [number, string] }[] }>(
            `query?${new URLSearchParams({ query })}`,
          );
          return result.map(({ value }) => ({ labels: {}, value: Number(value[1]) }));
        },
      } as Pick<PrometheusReader, "targets" | "query">;
      let state: KubeletState | undefined;
      await eventually(`a scrape of ${instance}; ${server.stderr}`, async () => {
        state = await readKubelets(prometheus).catch(() => undefined);
        return state !== undefined;
      });
      return state!;
    };

    expect((await stateOf(foreign)).problem).toContain('"x509: certificate signed by unknown authority"');
    expect((await stateOf(nameless)).problem).toContain("because it doesn't contain any IP SANs");
    expect(await stateOf(expired)).toEqual({});
    expect(await stateOf(forbidden)).toEqual({});
    expect(await stateOf(healthy)).toEqual({});
  },
  LIMIT_MS,
);
