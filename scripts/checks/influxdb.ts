/** Checks of InfluxDB: TLS only, tokens with one permission each. */
import type { Finding, ProbeData, ProbeOf } from "../../services/protocol/probe.ts";
import { bucketOf, readCheck } from "../clients/influxdb.ts";
import { HOSTS, INFLUXDB_PORT, type ProbeSession } from "../clients/probe-session.ts";
import { influxdbAccess } from "../cluster/external-stores.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { type Check, failed, outcomeOf, passed } from "./checklist.ts";

/** Why an external database cannot be read; undefined where it can, and for the own one. */
export async function readRefusal(context: ProbeSession): Promise<string | undefined> {
  const { base, http, influxdb, org, bucket } = await database(context);
  if (!influxdb) return undefined;
  const token = (await readSecret(context.cluster, "influxdb-token-reader")).token ?? "";
  const { query } = await context.probeIn("processor", { query: http(queryOf({ base, org, bucket }, token)) });
  const status = statusOf(query);
  if (query.ok || !REFUSED.includes(status)) return undefined;
  return `the token may not query bucket ${bucket} in Flux (answered ${status})`;
}

/** Answers of a server that refuses a query, or has no such query. */
const REFUSED = [401, 403, 404, 405];

const queryOf = ({ base, org, bucket }: { base: string; org: string; bucket: string }, token: string) => ({
  url: `https://${base}/api/v2/query?org=${encodeURIComponent(org)}`,
  method: "POST",
  headers: { authorization: `Token ${token}`, "content-type": "application/vnd.flux", accept: "application/csv" },
  body: readCheck(bucket),
});

const needs = ["influxdb-ready", "network-allowed"];

type HttpProbe = Omit<ProbeOf<"http">, "id">;

/** Address, organization and bucket of the database, and the CA that the processor's pod trusts. */
async function database(context: ProbeSession) {
  const stores = await context.stores();
  const { influxdb } = stores;
  const { host: base } = new URL(influxdb?.url ?? `https://${HOSTS.influxdb}:${INFLUXDB_PORT}`);
  const ca = influxdb ? influxdbAccess(influxdb).environment.INFLUX_CA : "/certs/ca.crt";
  const http = (fields: Omit<HttpProbe, "kind" | "ca">): HttpProbe => ({
    kind: "http",
    ...(ca === "system" ? {} : { ca }),
    ...fields,
  });
  return { base, http, influxdb, ...bucketOf(stores) };
}

/** Status of a response; NaN without one. */
const statusOf = ({ data }: Finding<ProbeData<HttpProbe>>): number => data?.status ?? Number.NaN;

const plainHttp: Check<ProbeSession> = {
  id: "influxdb-plain-http",
  title: "InfluxDB refuses plain HTTP",
  needs,
  limitMs: 60_000,
  async run(context) {
    const { base, http, influxdb } = await database(context);
    // Every server of this API answers /ping, not every one has /health.
    const [path, expected] = influxdb ? ["ping", 204] : ["health", 200];
    const { plain, tls } = await context.probeIn("processor", {
      plain: http({ url: `http://${base}/${path}` }),
      tls: http({ url: `https://${base}/${path}` }),
    });
    if (statusOf(tls) !== expected)
      return failed(`inconclusive: HTTPS does not work either (${tls.outcome} ${tls.detail})`);
    const status = statusOf(plain);
    // Go's server answers plain HTTP on a TLS port with 400; any other response is a violation.
    if (plain.ok && status !== 400) return failed(`plain HTTP was answered: ${plain.outcome}`);
    return passed(`plain HTTP: ${plain.outcome}; HTTPS: ${expected}`);
  },
};

const tokens: Check<ProbeSession> = {
  id: "influxdb-tokens",
  title: "InfluxDB refuses wrong tokens; each token has one permission",
  needs,
  limitMs: 60_000,
  async run(context) {
    const { base, http, influxdb, org, bucket } = await database(context);
    const writer = (await readSecret(context.cluster, "influxdb-token-processor")).token;
    const reader = (await readSecret(context.cluster, "influxdb-token-reader")).token;
    if (!writer || !reader) return failed("a scoped token is missing; bun scripts/deploy.ts creates it");
    const query = (token: string) => queryOf({ base, org, bucket }, token);
    const refusal = await readRefusal(context);
    // Empty body: the permission is checked before the lines are parsed, and nothing is stored.
    const write = (token: string) => ({
      url: `https://${base}/api/v2/write?org=${encodeURIComponent(org)}&bucket=${encodeURIComponent(bucket)}`,
      method: "POST",
      headers: { authorization: `Token ${token}` },
      body: "\n",
    });
    const results = await context.probeIn("processor", {
      wrong: http(query("not-a-token-of-this-database")),
      "reader-reads": http(query(reader)),
      "writer-writes": http(write(writer)),
      "writer-reads": http(query(writer)),
      "reader-writes": http(write(reader)),
    });
    type Id = keyof typeof results;
    const status = (id: Id) => statusOf(results[id]);
    const problems: string[] = [];
    const expect = (id: Id, problem: string, isExpected: (code: number) => boolean) => {
      const code = status(id);
      if (!isExpected(code)) problems.push(`${problem}: answered ${code || results[id].outcome}`);
    };
    const isDone = (code: number) => code >= 200 && code < 300;
    // InfluxDB hides a bucket that a token may not read: 404 counts as refused, like 401 and 403.
    const isRefused = (code: number) => [401, 403, 404].includes(code);
    if (!refusal) expect("reader-reads", "the reader cannot read", isDone);
    expect("writer-writes", "the processor cannot write", (code) => isDone(code) || code === 400);
    expect("wrong", "a wrong token is not refused", (code) => code === 401);
    // The owner of an external database may have given one token for both, and may let the writer read.
    if (influxdb) {
      const separate = influxdb.hasReadToken;
      if (separate) expect("reader-writes", "the reader's token can write", isRefused);
      const rights = separate ? "its tokens' other rights are its owner's" : "one token reads and writes";
      const reading = refusal ?? "reader reads";
      return outcomeOf(problems, `wrong token ${status("wrong")}, writer writes, ${reading}; ${rights}`);
    }
    expect("writer-reads", "the processor's token can read", isRefused);
    expect("reader-writes", "the reader's token can write", isRefused);
    return outcomeOf(
      problems,
      `wrong token ${status("wrong")}, writer reading ${status("writer-reads")}, reader writing ${status("reader-writes")}`,
    );
  },
};

export const INFLUXDB_CHECKS = [plainHttp, tokens];
