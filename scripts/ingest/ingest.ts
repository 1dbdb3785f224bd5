/** Streams events from a file or stdin through a producer pod into Kafka. */
import { type IngestResult, readFinal } from "../../services/protocol/final-document.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { KAFKA } from "../clients/probe-session.ts";
import { type Cluster, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { type OneOffPod, podLog, podState, withPod } from "../cluster/one-off-pods.ts";

/** After the end of the input: time to flush what is buffered through a pipeline that may be behind. */
const FINISH_LIMIT_MS = 300_000;
/** The result is followed by the log lines of the shutdown, some ten. */
const RESULT_LOG_LINES = 50;
const NEWLINE = 0x0a;

export interface IngestOptions {
  image: string;
  signal: AbortSignal;
  /** Run of the events that name none. */
  runId?: string;
  /** Called with the totals after each chunk. */
  onProgress?: (sent: { bytes: number; lines: number }) => void;
}

/** A producer that reads stdin. */
function producerPod({ image, runId }: IngestOptions): OneOffPod {
  return {
    prefix: "ingest",
    image,
    labels: {
      "app.kubernetes.io/name": "ingest",
      "app.kubernetes.io/instance": "ingest",
      "app.kubernetes.io/component": "producer",
      "app.kubernetes.io/part-of": "conveyor",
    },
    serviceAccount: "ingest",
    command: ["bun", "/app/producer.js"],
    environment: {
      SOURCE: "stdin",
      KAFKA_BROKERS: [0, 1, 2].map((n) => `kafka-${n}.kafka-headless.${NAMESPACE}.svc.cluster.local:9092`).join(","),
      KAFKA_TLS_CA: KAFKA.tls.ca,
      KAFKA_TLS_CERT: KAFKA.tls.cert,
      KAFKA_TLS_KEY: KAFKA.tls.key,
      OPS_TLS_CERT: KAFKA.tls.cert,
      OPS_TLS_KEY: KAFKA.tls.key,
      ...(runId ? { RUN_ID: runId } : {}),
    },
    secrets: { "producer-tls": "/certs" },
    stdin: true,
  };
}

/** Counts what was sent. */
class Sent {
  bytes = 0;
  #newlines = 0;
  #endsWithNewline = true;

  add(chunk: Uint8Array): void {
    if (chunk.byteLength === 0) return;
    this.bytes += chunk.byteLength;
    for (const byte of chunk) if (byte === NEWLINE) this.#newlines++;
    this.#endsWithNewline = chunk.at(-1) === NEWLINE;
  }

  get lines(): number {
    return this.#newlines + (this.#endsWithNewline ? 0 : 1);
  }
}

/**
 * Streams NDJSON through a producer pod into Kafka.
 * @returns the producer's result
 * @throws OperatorError when the pod ends without a result, or an event was not acknowledged
 */
export async function ingest(
  cluster: Cluster,
  input: AsyncIterable<Uint8Array>,
  options: IngestOptions,
): Promise<IngestResult> {
  const { signal } = options;
  return await withPod(cluster, producerPod(options), signal, async (name) => {
    const sent = new Sent();
    const { stderr } = await cluster.attach(name, input, {
      signal,
      onSent(chunk) {
        sent.add(chunk);
        options.onProgress?.(sent);
      },
    });
    const phase = await waitFor(
      async () => {
        const live = await cluster.get<Pod>("pod", name);
        const phase = live?.status.phase;
        return phase === "Succeeded" || phase === "Failed"
          ? { done: true, value: phase }
          : { done: false, state: podState(live) };
      },
      { what: `pod ${name} to finish its input`, limitMs: FINISH_LIMIT_MS, signal },
    );
    const log = await podLog(cluster, name, { lines: RESULT_LOG_LINES });
    const result = readFinal(log, "ingest");
    if (!result) {
      throw new OperatorError(`the ingest pod ended without a result (${phase})`, {
        cause: new Error([log.split("\n").slice(-5).join("\n"), stderr.trim()].filter(Boolean).join("\n")),
        hint: "the image of the deployed services may be older than this command: bun scripts/deploy.ts",
      });
    }
    if (result.failed > 0 || result.read > sent.lines) {
      throw new OperatorError(
        `ingest: ${result.failed} events were not acknowledged (read ${result.read} of ${sent.lines} lines)`,
        { exitCode: EXIT.failed, hint: "send the same file again: events with their own run and seq are idempotent" },
      );
    }
    return result;
  });
}
