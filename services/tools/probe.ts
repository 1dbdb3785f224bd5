/**
 * Probes of what this pod can reach and which requests are refused. Run in a pod by validate and by the drills:
 *
 *   bun probe.js '[{"id":"a","kind":"tcp","host":"10.0.0.1","port":9092}]'      (or the array on stdin)
 *
 * Prints one JSON array of results (services/protocol/probe.ts). Each probe has its own limit, so a dropped packet costs
 * seconds. Exit 0 when the array was printed, failures included; exit 2 for an invalid request, before any probe runs.
 */
import { type Finding, type Probe, type ProbeOf, type ProbeResult, parseProbes } from "../protocol/probe.ts";
import { errorText } from "../runtime/log.ts";
import { TimeLimitError, withTimeout } from "../runtime/with-timeout.ts";
import { probeHttp, probePlaintextKafka, probeSelf, probeTcp, probeTls } from "./probe/connections.ts";
import { readDeadLetterHeaders, readDeadLetterPage } from "./probe/dead-letters.ts";
import { failure } from "./probe/finding.ts";
import { kafkaOutcome, probeKafka, probeOffsets } from "./probe/kafka.ts";
import { probeUnreadable, stepOver } from "./probe/unreadable.ts";

/** A denied packet is dropped, not answered: no answer for this long counts as denied. */
const DEFAULT_TIMEOUT_MS = 4000;
/** A Kafka client needs several round trips and a TLS handshake. */
const KAFKA_TIMEOUT_MS = 15_000;
const MAX_TIMEOUT_MS = 60_000;
/** A probe reports its own timeout before it is abandoned. */
const GRACE_MS = 500;

const PROBES: { [K in Probe["kind"]]: (probe: ProbeOf<K>, timeoutMs: number) => Finding | Promise<Finding> } = {
  tcp: probeTcp,
  tls: probeTls,
  plaintext_kafka: probePlaintextKafka,
  http: probeHttp,
  self: probeSelf,
  kafka: probeKafka,
  kafka_offsets: probeOffsets,
  letter_read: readDeadLetterPage,
  dlq_read: readDeadLetterHeaders,
  unreadable_batches: probeUnreadable,
  step_over: stepOver,
};

async function runProbe(probe: Probe): Promise<Finding> {
  const defaultMs = "brokers" in probe ? KAFKA_TIMEOUT_MS : DEFAULT_TIMEOUT_MS;
  const timeoutMs = Math.min(probe.timeout_ms ?? defaultMs, MAX_TIMEOUT_MS);
  try {
    return await withTimeout((async () => await PROBES[probe.kind](probe as never, timeoutMs))(), timeoutMs + GRACE_MS);
  } catch (error) {
    if (error instanceof TimeLimitError) return failure("timeout", `${timeoutMs} ms`);
    return failure((error as Error).name === "TimeoutError" ? "timeout" : kafkaOutcome(error), errorText(error));
  }
}

/** Runs all probes at the same time. @returns their results, in the order of the probes */
async function runProbes(probes: readonly Probe[]): Promise<ProbeResult[]> {
  return await Promise.all(
    probes.map(async (probe) => {
      const startedAt = performance.now();
      const finding = await runProbe(probe);
      return { ...finding, id: probe.id, duration_ms: Math.round(performance.now() - startedAt) };
    }),
  );
}

if (import.meta.main) {
  const text = process.argv[2] ?? (await Bun.stdin.text());
  let probes: Probe[];
  try {
    probes = parseProbes(text);
  } catch (error) {
    console.error(`probe: ${errorText(error)}`);
    process.exit(2);
  }
  const results = await runProbes(probes);
  await new Promise<void>((resolve) => process.stdout.write(`${JSON.stringify(results)}\n`, () => resolve()));
  // Sockets of abandoned clients would keep the process alive.
  process.exit(0);
}
