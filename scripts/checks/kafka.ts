import { ACL_TABLE, aclKey, EVENTS_TOPIC, PROCESSOR_GROUP, TOPIC_TABLE } from "../../services/domain/kafka-layout.ts";
import type { OffsetRange, ProbeSpec } from "../../services/protocol/probe.ts";
import { createAuthority, issueCertificate } from "../cli/pki.ts";
import { formatDuration } from "../cli/report.ts";
import { HOSTS, KAFKA, KAFKA_CLIENT_PORT, type ProbeSession } from "../clients/probe-session.ts";
import { PrometheusReader } from "../clients/prometheus.ts";
import { type ExternalKafka, endpointOf, kafkaAccess } from "../cluster/external-stores.ts";
import { type Check, type CheckOutcome, failed, outcomeOf, passed, skipped } from "./checklist.ts";

/** True for an outcome of a probe without the right. */
export const isDenied = (outcome: string): boolean => outcome.endsWith("AUTHORIZATION_FAILED");

type Topics = {
  topic: string;
  partitions: { partition: number; replicas: number[]; isr: number[] }[];
  config: Record<string, string>;
}[];

/** The least that an acknowledgement promises, whoever runs the topics: two copies of an event, one of them in use. */
export function promiseProblems(found: Topics): string[] {
  return TOPIC_TABLE.flatMap(({ name }) => {
    const topic = found.find((one) => one.topic === name);
    if (!topic) return [`${name} is missing`];
    const problems: string[] = [];
    const minIsr = Number(topic.config["min.insync.replicas"]);
    if (!(minIsr >= 2)) problems.push(`${name}: min.insync.replicas is ${minIsr}, not at least 2`);
    if (topic.config["unclean.leader.election.enable"] === "true")
      problems.push(`${name}: unclean.leader.election.enable is true`);
    if (topic.config["cleanup.policy"]?.includes("compact")) problems.push(`${name}: cleanup.policy is compact`);
    for (const { partition, replicas, isr } of topic.partitions) {
      if (isr.length < Math.max(2, replicas.length))
        problems.push(`${name}/${partition}: ${isr.length} of ${replicas.length} replicas in sync, at least 2 needed`);
    }
    return problems;
  });
}

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
    const { kafka } = await context.stores();
    if (kafka && !result.ok && isDenied(result.outcome))
      return skipped(`the user may not read the topics' configuration (${result.outcome})`);
    if (!result.ok) return failed(`${result.outcome} ${result.detail}`);
    const found = result.data;
    if (kafka) {
      const shapes = found.map(
        ({ topic, partitions }) => `${topic} ${partitions.length}×${partitions[0]?.replicas.length}`,
      );
      return outcomeOf(promiseProblems(found), `${shapes.join(", ")}, of an external Kafka`);
    }
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
    if ((await context.stores()).kafka) return skipped("the rights in an external Kafka are its owner's");
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

/** The server of a connection that must be refused, and the CA that the producer's pod trusts. */
interface RefusalTarget {
  host: string;
  port: number;
  ca: string | undefined;
  /** Clients prove their identity by SASL: this outcome of the checks of certificates. */
  sasl?: CheckOutcome;
  isExternal: boolean;
}

function refusalTarget(kafka: ExternalKafka | undefined): RefusalTarget {
  if (!kafka) return { host: HOSTS.kafka, port: KAFKA_CLIENT_PORT, ca: "/certs/ca.crt", isExternal: false };
  const { KAFKA_TLS_CA: ca } = kafkaAccess(kafka).environment;
  const target = { ...endpointOf(kafka.brokers[0]!), ca: ca === "system" ? undefined : ca, isExternal: true };
  if (kafka.auth === "tls") return target;
  return { ...target, sasl: skipped(`clients prove their identity by ${kafka.auth}, not by a certificate`) };
}

/** A connection that must be refused, next to one from the same pod that must be accepted. */
function refusal(
  id: string,
  title: string,
  makeProbe: (target: RefusalTarget) => Promise<ProbeSpec | CheckOutcome> | ProbeSpec | CheckOutcome,
  refusedBy: (outcome: string) => boolean,
): Check<ProbeSession> {
  return {
    id,
    title,
    needs: ["kafka-ready", "network-allowed"],
    limitMs: 60_000,
    async run(context) {
      const target = refusalTarget((await context.stores()).kafka);
      const probe = await makeProbe(target);
      if ("ok" in probe) return probe;
      const { control: good, probe: bad } = await context.probeIn("producer", {
        control: { kind: "kafka", ...KAFKA, op: "metadata" },
        probe,
      });
      if (!good.ok)
        return failed(`inconclusive: the valid certificate is refused too (${good.outcome} ${good.detail})`);
      if (bad.ok) return failed(`accepted: ${bad.outcome} ${bad.detail}`);
      if (!refusedBy(bad.outcome)) return failed(`not a refusal: ${bad.outcome} ${bad.detail}`);
      return passed(`${bad.outcome}; ${target.sasl ? "the valid user" : "the valid certificate"} is accepted`);
    },
  };
}

const refusedHandshake = (outcome: string) => outcome.startsWith("refused");
const tlsProbe = ({ host, port, ca }: RefusalTarget) => ({ kind: "tls" as const, host, port, servername: host, ca });

export const KAFKA_CHECKS: Check<ProbeSession>[] = [
  topicsCheck,
  readableCheck,
  unreadCheck,
  aclsCheck,
  refusal(
    "kafka-plaintext",
    "Kafka refuses plaintext",
    ({ host, port }) => ({ kind: "plaintext_kafka", host, port }),
    refusedHandshake,
  ),
  refusal(
    "kafka-no-certificate",
    "Kafka refuses a client without a certificate",
    (target) => target.sasl ?? tlsProbe(target),
    refusedHandshake,
  ),
  refusal(
    "kafka-foreign-ca",
    "Kafka refuses a foreign CA's certificate",
    async (target) => target.sasl ?? { ...tlsProbe(target), ...(await foreignCertificate()) },
    refusedHandshake,
  ),
  {
    ...refusal(
      "kafka-wrong-principal",
      "Kafka refuses a principal without the permission",
      // The producer may write events; only the processor may read them.
      ({ isExternal }) =>
        isExternal
          ? skipped("one user of the external Kafka reads and writes")
          : { kind: "kafka", ...KAFKA, op: "fetch", topic: TOPIC_TABLE[0]!.name },
      (outcome) => outcome.includes("AUTHORIZATION_FAILED"),
    ),
    needs: ["kafka-ready", "network-allowed", "acls"],
  },
];
