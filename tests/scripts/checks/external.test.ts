import { describe, expect, test } from "bun:test";
import { runChecklist } from "../../../scripts/checks/checklist.ts";
import { FLOW_CHECKS } from "../../../scripts/checks/flow.ts";
import { KAFKA_CHECKS, promiseProblems } from "../../../scripts/checks/kafka.ts";
import { POD_CHECKS } from "../../../scripts/checks/pods.ts";
import type { ProbeSession } from "../../../scripts/clients/probe-session.ts";
import type { ExternalStores } from "../../../scripts/cluster/external-stores.ts";
import { TOPIC_TABLE } from "../../../services/domain/kafka-layout.ts";
import type { ProbeSpec } from "../../../services/protocol/probe.ts";

const STORES: Required<Pick<ExternalStores, "kafka" | "influxdb">> = {
  kafka: { brokers: ["b.example.org:9094"], auth: "scram-sha-512", user: "u", files: ["password"], egress: [] },
  influxdb: { url: "https://i.example.org", org: "o", bucket: "b", hasCa: false, hasReadToken: false, egress: [] },
};

type Answer = { ok: boolean; outcome: string; detail?: string; data?: unknown };

/** A session whose probes have the answers that `answer` gives. */
function session(stores: ExternalStores, answer: (probe: ProbeSpec) => Answer) {
  const asked: ProbeSpec[] = [];
  const run = async (_: string, probes: Record<string, ProbeSpec>) =>
    Object.fromEntries(
      Object.entries(probes).map(([id, probe]) => {
        asked.push(probe);
        return [id, { detail: "", ...answer(probe), id }];
      }),
    );
  const cluster = { get: async () => ({ data: { token: btoa("t") } }) };
  return {
    asked,
    context: { cluster, probeIn: run, probeFrom: run, stores: async () => stores } as unknown as ProbeSession,
  };
}

async function statusOf(id: string, context: ProbeSession) {
  const check = [...KAFKA_CHECKS, ...FLOW_CHECKS, ...POD_CHECKS.ready].find((one) => one.id === id)!;
  const { checks } = await runChecklist([{ ...check, needs: [] }], context, new AbortController().signal);
  return { status: checks[0]!.status, detail: checks[0]!.detail };
}

const topic = (name: string, config: Record<string, string> = {}, isr = [0, 1, 2]) => ({
  topic: name,
  partitions: [{ partition: 0, leader: 0, replicas: [0, 1, 2], isr }],
  config: { "min.insync.replicas": "2", "cleanup.policy": "delete", ...config },
});
const [EVENTS, DEAD] = TOPIC_TABLE.map(({ name }) => name) as [string, string];

describe("promiseProblems", () => {
  test("topics of another form that keep the promise have none", () => {
    expect(promiseProblems([topic(EVENTS, { "retention.ms": "1" }), topic(DEAD)])).toEqual([]);
  });

  test.each([
    ["a missing topic", [topic(EVENTS)], `${DEAD} is missing`],
    ["one copy", [topic(EVENTS, { "min.insync.replicas": "1" }), topic(DEAD)], `${EVENTS}: min.insync.replicas is 1`],
    ["a replica out of sync", [topic(EVENTS, {}, [0, 1]), topic(DEAD)], `${EVENTS}/0: 2 of 3 replicas in sync`],
    ["compaction", [topic(EVENTS), topic(DEAD, { "cleanup.policy": "compact" })], `${DEAD}: cleanup.policy is compact`],
    [
      "an unclean election",
      [topic(EVENTS, { "unclean.leader.election.enable": "true" }), topic(DEAD)],
      `${EVENTS}: unclean.leader.election.enable is true`,
    ],
  ])("%s is a problem", (_what, found, problem) => {
    expect(promiseProblems(found)).toEqual([expect.stringContaining(problem)]);
  });
});

describe("checks of an external Kafka", () => {
  const good = { ok: true, outcome: "ok", data: { brokers: [], controller: 0 } };

  test("what is its owner's, or does not exist with SASL, is skipped with the reason", async () => {
    const { context, asked } = session(STORES, () => good);
    for (const id of ["acls", "kafka-no-certificate", "kafka-foreign-ca", "kafka-wrong-principal"]) {
      expect(await statusOf(id, context)).toEqual({ status: "skipped", detail: expect.stringMatching(/\w{4}/) });
    }
    expect(asked).toEqual([]);
  });

  test("plain text is still tried, at its address", async () => {
    const refused = session(STORES, ({ kind }) =>
      kind === "plaintext_kafka" ? { ok: false, outcome: "refused:closed" } : good,
    );
    expect((await statusOf("kafka-plaintext", refused.context)).status).toBe("passed");
    expect(refused.asked).toContainEqual({ kind: "plaintext_kafka", host: "b.example.org", port: 9094 });
    const { context } = session(STORES, () => good);
    expect((await statusOf("kafka-plaintext", context)).status).toBe("failed");
  });

  test("with mutual TLS a client without a certificate is tried too", async () => {
    const kafka = { ...STORES.kafka, auth: "tls" as const, files: ["tls.crt" as const, "tls.key" as const] };
    const { context, asked } = session({ kafka }, ({ kind }) =>
      kind === "tls" ? { ok: false, outcome: "refused:ECONNRESET" } : good,
    );
    expect((await statusOf("kafka-no-certificate", context)).status).toBe("passed");
    expect(asked).toContainEqual(expect.objectContaining({ kind: "tls", host: "b.example.org", port: 9094 }));
  });

  test("topics that may not be described are skipped; a broken promise fails", async () => {
    const denied = session(STORES, () => ({ ok: false, outcome: "TOPIC_AUTHORIZATION_FAILED" }));
    expect((await statusOf("topics", denied.context)).status).toBe("skipped");
    const broken = session(STORES, () => ({ ok: true, outcome: "ok", data: [topic(EVENTS)] }));
    expect((await statusOf("topics", broken.context)).status).toBe("failed");
    // The own Kafka's setup makes the topics: there a denial is a fault.
    const own = session({}, () => ({ ok: false, outcome: "TOPIC_AUTHORIZATION_FAILED" }));
    expect((await statusOf("topics", own.context)).status).toBe("failed");
  });

  test("readiness is that it answers", async () => {
    expect((await statusOf("kafka-ready", session(STORES, () => good).context)).status).toBe("passed");
    const silent = session(STORES, () => ({ ok: false, outcome: "timeout" }));
    expect(await statusOf("kafka-ready", silent.context)).toEqual({
      status: "failed",
      detail: "b.example.org:9094: timeout ",
    });
    expect((await statusOf("influxdb-ready", silent.context)).status).toBe("failed");
  });
});

describe("checks of an external InfluxDB", () => {
  test("what is stored is not compared where the token may not read, and says so", async () => {
    const { context } = session(STORES, () => ({ ok: false, outcome: "404", data: { status: 404, body: "" } }));
    expect(await statusOf("end-to-end", context)).toEqual({
      status: "skipped",
      detail: "what is stored cannot be compared: the token may not query bucket b in Flux (answered 404)",
    });
    expect((await statusOf("latency", context)).status).toBe("skipped");
    expect((await statusOf("dead-letters", context)).status).toBe("skipped");
  });

  test("a checklist of skipped checks alone has not passed", async () => {
    const { context } = session(STORES, () => ({ ok: false, outcome: "404" }));
    const acls = KAFKA_CHECKS.filter(({ id }) => id === "acls").map((check) => ({ ...check, needs: [] }));
    expect((await runChecklist(acls, context, new AbortController().signal)).ok).toBe(false);
  });
});
