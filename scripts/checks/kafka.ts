import { ACL_TABLE, aclKey, EVENTS_TOPIC, PROCESSOR_GROUP, TOPIC_TABLE } from "../../services/domain/kafka-layout.ts";
import type { OffsetRange, ProbeSpec } from "../../services/protocol/probe.ts";
import { createAuthority, issueCertificate } from "../cli/pki.ts";
import { formatDuration } from "../cli/report.ts";
import { HOSTS, KAFKA, KAFKA_CLIENT_PORT, type ProbeSession } from "../clients/probe-session.ts";
import { PrometheusReader } from "../clients/prometheus.ts";
import { type Check, failed, outcomeOf, passed } from "./checklist.ts";

const topicsCheck: Check<ProbeSession> = {
  id: "topics",
  title: "topics: partitions, replicas, all in sync",
  needs: ["kafka-ready"],
  limitMs: 60_000,
  async run(context) {
    const topics = TOPIC_TABLE.map(({ name }) => name);
    const { result } = await context.probeFrom("admin", {
      result: { kind: "kafka", ...KAFKA, op: "describe_topics", topics },
    });
    if (!result.ok) return failed(`${result.outcome} ${result.detail}`);
    const found = result.data;
    const problems: string[] = [];
    for (const wanted of TOPIC_TABLE) {
      const topic = found.find(({ topic }) => topic === wanted.name);
      if (!topic) {
        problems.push(`${wanted.name} is missing`);
        continue;
      }
      if (topic.partitions.length !== wanted.partitions) {
        problems.push(`${wanted.name} has ${topic.partitions.length} partitions, not ${wanted.partitions}`);
      }
      for (const { partition, replicas, isr } of topic.partitions) {
        if (replicas.length !== wanted.replicationFactor) {
          problems.push(`${wanted.name}/${partition} has ${replicas.length} replicas, not ${wanted.replicationFactor}`);
        } else if (isr.length < replicas.length) {
          problems.push(`${wanted.name}/${partition}: ${isr.length} of ${replicas.length} replicas in sync`);
        }
      }
      for (const [key, value] of Object.entries(wanted.config)) {
        if (topic.config[key] !== value) problems.push(`${wanted.name}: ${key} is ${topic.config[key]}, not ${value}`);
      }
    }
    return outcomeOf(problems, TOPIC_TABLE.map((t) => `${t.name} ${t.partitions}×${t.replicationFactor}`).join(", "));
  },
};

const readableCheck: Check<ProbeSession> = {
  id: "records-readable",
  title: "no partition is stopped by records that cannot be read",
  needs: ["kafka-ready", "topics"],
  limitMs: 60_000,
  async run(context) {
    const { result } = await context.probeFrom("admin", {
      result: { kind: "unreadable_batches", ...KAFKA, topic: EVENTS_TOPIC, group: PROCESSOR_GROUP },
    });
    if (!result.ok) return failed(`${result.outcome} ${result.detail}`);
    const problems = result.data.map(
      ({ partition, first_offset, last_offset, reason }) =>
        `${EVENTS_TOPIC}/${partition}: offsets ${first_offset} to ${last_offset} cannot be read: ${reason} (docs/runbooks/PartitionStopped.md)`,
    );
    return outcomeOf(problems, "the records at the processor's offsets");
  },
};

const aclsCheck: Check<ProbeSession> = {
  id: "acls",
  title: "Kafka's ACLs are exactly the required ones",
  needs: ["kafka-ready"],
  limitMs: 60_000,
  async run(context) {
    const { result } = await context.probeFrom("admin", { result: { kind: "kafka", ...KAFKA, op: "describe_acls" } });
    if (!result.ok) return failed(`${result.outcome} ${result.detail}`);
    const live = new Set(result.data.map(aclKey));
    const wanted = new Set(ACL_TABLE.map(aclKey));
    const missing = [...wanted].filter((key) => !live.has(key));
    const surplus = [...live].filter((key) => !wanted.has(key));
    const problems: string[] = [];
    if (missing.length > 0) problems.push(`missing: ${missing.join(", ")}`);
    if (surplus.length > 0) problems.push(`not required: ${surplus.join(", ")}`);
    return outcomeOf(problems, `${wanted.size} ACLs`);
  },
};

/** A gap that was found longer ago is reported and fails no check: nothing can be done about it any more. */
const GAP_MS = 86_400_000;
/** The alert UnreadEventsExpiring has the same limit. */
const DELETION_WARNING_SECONDS = 7200;

/** What is wrong with the group's unread events, one sentence each. `secondsLeft`: by partition, where the backlog grows. */
export function unreadProblems(
  ranges: readonly OffsetRange[],
  secondsLeft: ReadonlyMap<number, number>,
  nowMs: number,
): string[] {
  return ranges.flatMap(
    ({ partition, end, committed = 0, deleted_unread = 0, truncations = 0, gap_found_at_ms = 0 }) => {
      const problems: string[] = [];
      const isRecent = nowMs - gap_found_at_ms < GAP_MS;
      const foundAt = new Date(gap_found_at_ms).toISOString();
      if (isRecent && deleted_unread > 0)
        problems.push(`partition ${partition}: Kafka deleted ${deleted_unread} unread events, last found ${foundAt}`);
      if (isRecent && truncations > 0)
        problems.push(
          `partition ${partition}: the log lost records that were read ${truncations} times, last found ${foundAt}`,
        );
      if (committed > end)
        problems.push(`partition ${partition}: offset ${committed} is committed, and the log ends at ${end}`);
      const left = secondsLeft.get(partition);
      if (left !== undefined && left < DELETION_WARNING_SECONDS)
        problems.push(`partition ${partition}: Kafka deletes unread events in ${formatDuration(left * 1000)}`);
      return problems;
    },
  );
}

const unreadCheck: Check<ProbeSession> = {
  id: "unread-events",
  title: "no unread event was deleted, or will be soon",
  needs: ["topics"],
  limitMs: 60_000,
  async run(context, signal) {
    const { result } = await context.probeFrom("admin", {
      result: { kind: "kafka_offsets", ...KAFKA, topic: EVENTS_TOPIC, group: PROCESSOR_GROUP },
    });
    if (!result.ok) return failed(`${result.outcome} ${result.detail}`);
    const secondsLeft = new Map<number, number>();
    if (await PrometheusReader.isDeployed(context.cluster)) {
      await using prometheus = await PrometheusReader.open(context.cluster);
      const query = `conveyor:unread_deletion_seconds{topic="${EVENTS_TOPIC}"}`;
      for (const { labels, value } of await prometheus.query(query, signal))
        secondsLeft.set(Number(labels.partition), value);
    }
    const lag = result.data.reduce((sum, { end, committed = 0 }) => sum + Math.max(0, end - committed), 0);
    return outcomeOf(unreadProblems(result.data, secondsLeft, Date.now()), `${lag} unread events, none deleted`);
  },
};

/** A certificate for CN=producer from a CA that this deployment does not trust. */
async function foreignCertificate(): Promise<{ cert: string; key: string }> {
  const authority = await createAuthority("foreign", { days: 1 });
  const { certificate, key } = await issueCertificate(authority, { commonName: "producer" }, { days: 1 });
  return { cert: certificate, key };
}

/** A connection that must be refused, next to one from the same pod that must be accepted. */
function refusal(
  id: string,
  title: string,
  makeProbe: () => Promise<ProbeSpec> | ProbeSpec,
  refusedBy: (outcome: string) => boolean,
): Check<ProbeSession> {
  return {
    id,
    title,
    needs: ["kafka-ready", "network-allowed"],
    limitMs: 60_000,
    async run(context) {
      const { control: good, probe: bad } = await context.probeIn("producer", {
        control: { kind: "kafka", ...KAFKA, op: "metadata" },
        probe: await makeProbe(),
      });
      if (!good.ok)
        return failed(`inconclusive: the valid certificate is refused too (${good.outcome} ${good.detail})`);
      if (bad.ok) return failed(`accepted: ${bad.outcome} ${bad.detail}`);
      if (!refusedBy(bad.outcome)) return failed(`not a refusal: ${bad.outcome} ${bad.detail}`);
      return passed(`${bad.outcome}; the valid certificate is accepted`);
    },
  };
}

const refusedHandshake = (outcome: string) => outcome.startsWith("refused");
const host = { host: HOSTS.kafka, port: KAFKA_CLIENT_PORT };
const tlsHost = { ...host, servername: HOSTS.kafka };

export const KAFKA_CHECKS: Check<ProbeSession>[] = [
  topicsCheck,
  readableCheck,
  unreadCheck,
  aclsCheck,
  refusal("kafka-plaintext", "Kafka refuses plaintext", () => ({ kind: "plaintext_kafka", ...host }), refusedHandshake),
  refusal(
    "kafka-no-certificate",
    "Kafka refuses a client without a certificate",
    () => ({ kind: "tls", ...tlsHost, ca: "/certs/ca.crt" }),
    refusedHandshake,
  ),
  refusal(
    "kafka-foreign-ca",
    "Kafka refuses a foreign CA's certificate",
    async () => ({ kind: "tls", ...tlsHost, ca: "/certs/ca.crt", ...(await foreignCertificate()) }),
    refusedHandshake,
  ),
  {
    ...refusal(
      "kafka-wrong-principal",
      "Kafka refuses a principal without the permission",
      // The producer may write events; only the processor may read them.
      () => ({ kind: "kafka", ...KAFKA, op: "fetch", topic: TOPIC_TABLE[0]!.name }),
      (outcome) => outcome.includes("AUTHORIZATION_FAILED"),
    ),
    needs: ["kafka-ready", "network-allowed", "acls"],
  },
];
