/** Streams events from a file or stdin through a producer pod into Kafka. */
import { randomBytes } from "node:crypto";
import { MAX_EVENT_BYTES } from "../../services/domain/event.ts";
import { UnreadableError } from "../../services/domain/formats/unreadable-error.ts";
import { isBlank, LineSplitter } from "../../services/domain/ndjson.ts";
import { SCHEMA_CONFIG } from "../../services/domain/schema-files.ts";
import type { IngestResult } from "../../services/protocol/final-document.ts";
import { INPUT_END_TOKEN, inputEndLine } from "../../services/protocol/input-end.ts";
import { OperatorError } from "../cli/errors.ts";
import { formatDuration } from "../cli/report.ts";
import { waitFor } from "../cli/wait.ts";
import { type Cluster, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { definedOnly, kafkaAccessOf, readExternalStores, type StoreAccess } from "../cluster/external-stores.ts";
import { type OneOffPod, podState, withPod } from "../cluster/one-off-pods.ts";
import { type LedgerByConveyor, PodOutput } from "./pod-output.ts";

/** After the end of the input: time to flush what is buffered through a pipeline that may be behind. */
const FINISH_LIMIT_MS = 300_000;
/** The kubelet ends the pod of a killed command then; longer than any file takes, and a stream can name more. */
export const DEFAULT_TIME_LIMIT_MS = 24 * 3_600_000;
/** The log of an ended pod is read within seconds. */
const LOG_END_LIMIT_MS = 60_000;

interface IngestOptions {
  image: string;
  signal: AbortSignal;
  /** For the whole input; a day when absent. */
  timeLimitMs?: number;
  /** Run of this ingest itself, in its result and its dead letters; events have their own. A new one when absent. */
  runId?: string | undefined;
  /** Called with the totals after each chunk. */
  onProgress?: (sent: { bytes: number; lines: number }) => void;
}

/** The producer's result, what was sent to it, and what it has acknowledged. */
export interface IngestOutcomes extends IngestResult {
  /** Lines sent, without blank ones. */
  sent: number;
  /** Acknowledged sequence numbers by conveyor and run. */
  ledger: LedgerByConveyor;
}

/** An ingest that ended without delivering its input; `outcomes` says what was delivered. */
export class IngestError extends OperatorError {
  constructor(
    message: string,
    readonly outcomes: IngestOutcomes,
    options: { hint: string; cause?: unknown },
  ) {
    super(message, { ...options, document: outcomes });
    this.name = "IngestError";
  }
}

/** A producer that reads stdin. */
function producerPod(
  { image, runId, timeLimitMs = DEFAULT_TIME_LIMIT_MS }: IngestOptions,
  endToken: string,
  kafka: StoreAccess,
): OneOffPod {
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
      [INPUT_END_TOKEN]: endToken,
      ...definedOnly(kafka.environment),
      OPS_TLS_CERT: "/certs/tls.crt",
      OPS_TLS_KEY: "/certs/tls.key",
      SCHEMA_FOLDER: "/schemas",
      ...(runId ? { RUN_ID: runId } : {}),
    },
    secrets: { "producer-tls": "/certs", ...kafka.secrets },
    optionalConfigMaps: { [SCHEMA_CONFIG]: "/schemas" },
    stdin: true,
    lifetimeSeconds: Math.ceil((timeLimitMs + FINISH_LIMIT_MS) / 1000),
  };
}

/** Counts lines as the producer does, and appends the line that ends the input. */
class SentInput {
  bytes = 0;
  /** Complete lines that are not blank. */
  lines = 0;
  /** Why the rest of the input could not be read. */
  problem: UnreadableError | undefined;
  readonly #splitter = new LineSplitter(MAX_EVENT_BYTES + 1);

  async *stream(input: AsyncIterable<Uint8Array>, endToken: string, onSent: () => void) {
    let endsWithLineBreak = true;
    try {
      for await (const chunk of input) {
        if (chunk.byteLength === 0) continue;
        endsWithLineBreak = chunk.at(-1) === 0x0a;
        this.#count(this.#splitter.push(chunk));
        this.bytes += chunk.byteLength;
        yield chunk;
        onSent();
      }
    } catch (error) {
      // What was read before has an outcome, which the producer reports at the end of its input.
      if (!(error instanceof UnreadableError)) throw error;
      this.problem = error;
    }
    this.#count(this.#splitter.end());
    yield new TextEncoder().encode((endsWithLineBreak ? "" : "\n") + inputEndLine(endToken, this.lines));
    onSent();
  }

  #count(lines: ReturnType<LineSplitter["push"]>): void {
    for (const { bytes } of lines) if (!isBlank(bytes)) this.lines++;
  }
}

const RESEND = "send the same file again: events with their own run and seq are idempotent";

/** The kubelet ended a pod at its lifetime. */
const isOverdue = ({ status }: Pod) => status.reason === "DeadlineExceeded";

const overdue = ({ timeLimitMs = DEFAULT_TIME_LIMIT_MS }: IngestOptions) => ({
  message: `--time-limit: the input must end within ${formatDuration(timeLimitMs)}; the ingest pod was ended before`,
  hint: `${RESEND}, with a longer --time-limit or in parts`,
});

/** Why an ingest is not done; undefined when every line has an outcome. */
function problemOf(
  outcomes: IngestOutcomes,
  attached: { isSent: boolean; exitCode: number; stderr: string },
  unreadable: UnreadableError | undefined,
) {
  const { sent, read, failed, input_complete } = outcomes;
  if (failed > 0) {
    return { message: `${failed} events were not acknowledged (read ${read} of ${sent} lines)`, hint: RESEND };
  }
  if (!attached.isSent || !input_complete || read !== sent) {
    const rest = attached.isSent ? "" : "; the rest of the input was not sent";
    const cause = new Error(`kubectl attach: exit ${attached.exitCode} ${attached.stderr.trim()}`.trimEnd());
    return { message: `the input was cut: ${read} of ${sent} lines sent were read${rest}`, hint: RESEND, cause };
  }
  if (unreadable) {
    const hint = `${unreadable.hint}; then ${RESEND}`;
    return { message: `the input ends after line ${sent}: ${unreadable.message}`, hint };
  }
  return undefined;
}

/**
 * Streams lines through a producer pod into Kafka.
 * @throws OperatorError when the pod ends without a result, IngestError when lines are missing or not acknowledged
 */
export async function ingest(
  cluster: Cluster,
  input: AsyncIterable<Uint8Array>,
  options: IngestOptions,
): Promise<IngestOutcomes> {
  const endToken = randomBytes(16).toString("hex");
  const own = [0, 1, 2].map((n) => `kafka-${n}.kafka-headless.${NAMESPACE}.svc:9092`);
  const kafka = kafkaAccessOf(await readExternalStores(cluster), own);
  return await withPod(cluster, producerPod(options, endToken, kafka), options.signal, async (name) => {
    using output = new PodOutput(cluster, name, options.signal);
    const sent = new SentInput();
    const stream = sent.stream(input, endToken, () => options.onProgress?.(sent));
    const attached = await cluster.attach(name, stream, options.signal);
    const pod = await awaitEnd(cluster, name, options.signal);
    await output.end(LOG_END_LIMIT_MS);
    const { result, tail } = output;
    const late = pod && isOverdue(pod) ? overdue(options) : undefined;
    if (!result) {
      const ended = pod ? `the ingest pod ended without a result (${podState(pod)})` : "the ingest pod was deleted";
      const advice = pod
        ? "the image of the deployed services may be older than this command: bun scripts/deploy.ts"
        : RESEND;
      throw new OperatorError(late?.message ?? ended, {
        cause: new Error([tail.join("\n"), attached.stderr.trim()].filter(Boolean).join("\n")),
        hint: late?.hint ?? advice,
      });
    }
    const outcomes = { ...result, sent: sent.lines, ...output.ledgerOf(result) };
    const problem = problemOf(outcomes, attached, sent.problem);
    if (problem)
      throw new IngestError(late?.message ?? `ingest: ${problem.message}`, outcomes, { ...problem, ...late });
    return outcomes;
  });
}

/** Resolves with the ended pod; undefined: it was deleted, as by a drain of its node. */
async function awaitEnd(cluster: Cluster, name: string, signal: AbortSignal): Promise<Pod | undefined> {
  return await waitFor<Pod | undefined>(
    async () => {
      const live = await cluster.get<Pod>("pod", name);
      const phase = live?.status.phase;
      return live === undefined || phase === "Succeeded" || phase === "Failed"
        ? { done: true, value: live }
        : { done: false, state: podState(live) };
    },
    { what: `pod ${name} to finish its input`, limitMs: FINISH_LIMIT_MS, signal },
  );
}
