/** Checks of InfluxDB: TLS only, tokens with one permission each. */
import type { Finding, ProbeData, ProbeOf } from "../../services/protocol/probe.ts";
import { BUCKET, ORGANIZATION, READ_CHECK } from "../clients/influxdb.ts";
import { HOSTS, INFLUXDB_PORT, type ProbeSession } from "../clients/probe-session.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { type Check, failed, outcomeOf, passed } from "./checklist.ts";

const base = `${HOSTS.influxdb}:${INFLUXDB_PORT}`;
const needs = ["influxdb-ready", "network-allowed"];

type HttpProbe = Omit<ProbeOf<"http">, "id">;
const http = (fields: Omit<HttpProbe, "kind" | "ca">): HttpProbe => ({ kind: "http", ca: "/certs/ca.crt", ...fields });

/** Status of a response; NaN without one. */
const statusOf = ({ data }: Finding<ProbeData<HttpProbe>>): number => data?.status ?? Number.NaN;

const plainHttp: Check<ProbeSession> = {
  id: "influxdb-plain-http",
  title: "InfluxDB refuses plain HTTP",
  needs,
  limitMs: 60_000,
  async run(context) {
    const { plain, tls } = await context.probeIn("processor", {
      plain: http({ url: `http://${base}/health` }),
      tls: http({ url: `https://${base}/health` }),
    });
    if (statusOf(tls) !== 200) return failed(`inconclusive: HTTPS does not work either (${tls.outcome} ${tls.detail})`);
    const status = statusOf(plain);
    // Go's server answers plain HTTP on a TLS port with 400; any other response is a violation.
    if (plain.ok && status !== 400) return failed(`plain HTTP was answered: ${plain.outcome}`);
    return passed(`plain HTTP: ${plain.outcome}; HTTPS: 200`);
  },
};

const tokens: Check<ProbeSession> = {
  id: "influxdb-tokens",
  title: "InfluxDB refuses wrong tokens; each token has one permission",
  needs,
  limitMs: 60_000,
  async run(context) {
    const writer = (await readSecret(context.cluster, "influxdb-token-processor")).token;
    const reader = (await readSecret(context.cluster, "influxdb-token-reader")).token;
    if (!writer || !reader) return failed("a scoped token is missing; bun scripts/deploy.ts creates it");
    const query = (token: string) => ({
      url: `https://${base}/api/v2/query?org=${ORGANIZATION}`,
      method: "POST",
      headers: { authorization: `Token ${token}`, "content-type": "application/vnd.flux", accept: "application/csv" },
      body: READ_CHECK,
    });
    // Empty body: the permission is checked before the lines are parsed, and nothing is stored.
    const write = (token: string) => ({
      url: `https://${base}/api/v2/write?org=${ORGANIZATION}&bucket=${BUCKET}`,
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
    expect("reader-reads", "the reader cannot read", isDone);
    expect("writer-writes", "the processor cannot write", (code) => isDone(code) || code === 400);
    expect("wrong", "a wrong token is not refused", (code) => code === 401);
    expect("writer-reads", "the processor's token can read", isRefused);
    expect("reader-writes", "the reader's token can write", isRefused);
    return outcomeOf(
      problems,
      `wrong token ${status("wrong")}, writer reading ${status("writer-reads")}, reader writing ${status("reader-writes")}`,
    );
  },
};

export const INFLUXDB_CHECKS = [plainHttp, tokens];
