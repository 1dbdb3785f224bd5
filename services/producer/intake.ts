/**
 * HTTP intake: POST /events with one event, an array, or NDJSON. The response follows Kafka's acknowledgement and names
 * the reason for each refused event:
 *
 *   200 all acknowledged · 207 some refused · 422 all refused · 503 + Retry-After: the buffer is full (no event was
 *   taken), or Kafka did not acknowledge in time (resend the same events; their identity makes that harmless)
 */
import { identifyCanonical, MAX_EVENT_BYTES, shown } from "../domain/event.ts";
import type { Line } from "../domain/ndjson.ts";
import type { EventProducer } from "../kafka/event-producer.ts";
import type { IntakeError, IntakeErrorCode, IntakeOutcomes, RefusedEvent } from "../protocol/intake.ts";
import { withTimeout } from "../runtime/with-timeout.ts";
import type { EventPublisher } from "./event-publisher.ts";
import { MAX_EVENTS_PER_REQUEST, readLines } from "./intake-body.ts";
import { type IntakeSenders, mayWrite, type Sender } from "./intake-senders.ts";
import { prepare } from "./sources.ts";

/** About 18,000 events; larger loads belong in a file. */
export const MAX_BODY_BYTES = 4 * 1024 * 1024;
/** Refused events listed with their reasons: half a megabyte; refused_indexes then names all. */
const MAX_LISTED_REFUSALS = 1000;
/** The rest of a refused body is read and dropped up to this size, so that its sender receives the answer. */
const MAX_DISCARDED_BYTES = 64 * 1024 * 1024;
/** 16 bodies of the greatest size, a sixth of the pod's memory; a request beyond them is repeated by its sender. */
const MAX_OPEN_BODY_BYTES = 16 * MAX_BODY_BYTES;
/** Longer than the failover of a broker. */
export const ACK_LIMIT_MS = 30_000;
const RETRY_AFTER_SECONDS = 1;
/** Longest pause within a request, so that a stalled client cannot hold a connection. */
const IDLE_SECONDS = 60;

interface IntakeOptions {
  port: number;
  tls: { cert: string; key: string };
  senders: Pick<IntakeSenders, "find">;
  publisher: EventPublisher;
  producer: EventProducer;
  onAnswer?: (status: number) => void;
  /** Called with the name of the sender of each request that has a valid token. */
  onSender?: (name: string) => void;
  ackLimitMs?: number;
}

export interface Intake {
  port: number;
  /** Accepts no new connections and waits for the open requests. */
  stop(): Promise<void>;
}

export function startIntake(options: IntakeOptions): Intake {
  const bodies = new OpenBodies();
  const counted = async (answering: Response | Promise<Response>) => {
    const response = await answering;
    options.onAnswer?.(response.status);
    return response;
  };
  const server = Bun.serve({
    // Without a hostname: every address of IPv4 and IPv6.
    port: options.port,
    tls: options.tls,
    // Bun's own refusal has no body and cuts the connection, and with it a port-forward.
    maxRequestBodySize: MAX_DISCARDED_BYTES,
    idleTimeout: IDLE_SECONDS,
    development: false,
    // Routes match the path as sent; the address of a request is not always a valid URL, since its host is not checked.
    routes: {
      "/events": (request) =>
        counted(
          request.method === "POST"
            ? answerPost(request, options, bodies)
            : failure(405, "method_not_allowed", "only POST", { headers: { allow: "POST" } }),
        ),
    },
    fetch: () => counted(failure(404, "unknown_path", "only /events")),
    error: () => counted(failure(500, "internal_error", "internal error")),
  });
  return { port: server.port!, stop: async () => void (await server.stop()) };
}

async function answerPost(request: Request, options: IntakeOptions, bodies: OpenBodies): Promise<Response> {
  // The scheme's case is free (RFC 9110).
  const token = /^Bearer +(\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
  const sender = options.senders.find(token);
  if (!sender) {
    return failure(401, "unauthorized", "a bearer token is required", { headers: { "www-authenticate": "Bearer" } });
  }
  options.onSender?.(sender.name);
  const encoding = request.headers.get("content-encoding")?.trim() ?? "";
  if (encoding !== "" && encoding.toLowerCase() !== "identity") {
    return compressed(`got content-encoding ${shown(encoding)}`);
  }
  if (Number(request.headers.get("content-length")) > MAX_BODY_BYTES) return bodyTooLarge();
  let held = 0;
  const take = (bytes: number) => {
    if (!bodies.take(bytes)) return false;
    held += bytes;
    return true;
  };
  try {
    const body = await readBody(request, take).catch(() => "incomplete" as const);
    if (body === "incomplete") return failure(400, "incomplete_body", "the connection ended before the body");
    if (body === "too_large") return bodyTooLarge();
    if (body === "no_room") return unavailable("buffer_full", "too many requests are open; nothing was taken");
    if (isCompressed(body)) return compressed("got a gzip or zstd body");
    return await publishBody(body, sender, options);
  } finally {
    bodies.release(held);
  }
}

const bodyTooLarge = () => failure(413, "body_too_large", `a body must have at most ${MAX_BODY_BYTES} bytes`);

const compressed = (found: string) =>
  failure(415, "unsupported_encoding", `events must be sent without compression; ${found}`, {
    headers: { "accept-encoding": "identity" },
  });

/** First bytes of gzip and zstd; a sender may compress without naming it. */
const COMPRESSED_STARTS = [
  [0x1f, 0x8b],
  [0x28, 0xb5, 0x2f, 0xfd],
];
const isCompressed = (body: Uint8Array) =>
  COMPRESSED_STARTS.some((start) => start.every((byte, index) => body[index] === byte));

/** Counts the bytes that open requests have received: a request that stalls holds no room for the rest of its body. */
class OpenBodies {
  #bytes = 0;

  /** False when there is no room for them. */
  take(bytes: number): boolean {
    if (this.#bytes + bytes > MAX_OPEN_BODY_BYTES) return false;
    this.#bytes += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#bytes -= bytes;
  }
}

async function readBody(
  request: Request,
  take: (bytes: number) => boolean,
): Promise<Uint8Array | "too_large" | "no_room"> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body ?? []) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) return "too_large";
    if (!take(chunk.length)) return "no_room";
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

/** An answer without outcomes of single events. */
const failure = (
  status: number,
  code: IntakeErrorCode,
  error: string,
  { counts = {}, headers = {} }: { counts?: Record<string, number>; headers?: Record<string, string> } = {},
) => Response.json({ error, code, ...counts } satisfies IntakeError, { status, headers });

const unavailable = (code: IntakeErrorCode, error: string, counts: Record<string, number> = {}) =>
  failure(503, code, error, { counts, headers: { "retry-after": String(RETRY_AFTER_SECONDS) } });

async function publishBody(body: Uint8Array, sender: Sender, options: IntakeOptions): Promise<Response> {
  const { publisher, producer } = options;
  const lines = readLines(body);
  if (lines === undefined) {
    return failure(413, "too_many_events", `a request must hold at most ${MAX_EVENTS_PER_REQUEST} events; got more`);
  }
  if (lines.length === 0) return failure(400, "no_event", "the body holds no event");
  const foreign = sender.conveyors ? lines.findIndex((line) => !mayWrite(sender, conveyorNamed(line))) : -1;
  if (foreign >= 0) {
    const conveyor = shown(conveyorNamed(lines[foreign]!));
    const error = `event ${foreign}: sender ${sender.name} must not write conveyor ${conveyor}; nothing was taken`;
    return failure(403, "forbidden_conveyor", error);
  }
  const received = lines.length;
  // A request is taken completely or not at all; a record costs more than its bytes.
  if (!producer.hasRoom(received, body.length + received * PER_EVENT_BYTES)) {
    return unavailable("buffer_full", "the buffer is full; nothing was taken", { received, acknowledged: 0 });
  }
  const refused: RefusedEvent[] = [];
  let acknowledged = 0;
  let settled = 0;
  const { promise: allSettled, resolve } = Promise.withResolvers<void>();
  lines.forEach((line, index) => {
    let refusal: RefusedEvent | undefined;
    const offer = prepare(
      publisher,
      "http",
      line,
      (outcome) => {
        if (outcome === "rejected") refusal = notKept(index, refusal);
        if (refusal) refused.push(refusal);
        else acknowledged++;
        if (++settled === received) resolve();
      },
      (reason, detail) => {
        refusal = { index, reason, detail };
      },
    );
    // Cannot be full: the room was checked above in the same turn.
    if (!offer()) throw new Error("the buffer filled up within one turn");
  });
  try {
    await withTimeout(allSettled, options.ackLimitMs ?? ACK_LIMIT_MS);
  } catch {
    const error = "Kafka has not acknowledged every event in time; send them again, that is harmless";
    return unavailable("not_acknowledged", error, { received, acknowledged });
  }
  const status = refused.length === 0 ? 200 : refused.length === received ? 422 : 207;
  return Response.json(outcomesOf(received, acknowledged, refused), { status });
}

/** The topic can never take the event; of a refused one, its dead letter. */
const notKept = (index: number, refusal: RefusedEvent | undefined): RefusedEvent =>
  refusal
    ? { ...refusal, detail: `${refusal.detail}; not in the dead-letter topic, which takes no record of this size` }
    : { index, reason: "too_large", detail: "Kafka's topic takes no record of this size; there is no dead letter" };

function outcomesOf(received: number, acknowledged: number, refused: RefusedEvent[]): IntakeOutcomes {
  refused.sort((a, b) => a.index - b.index);
  const isCut = refused.length > MAX_LISTED_REFUSALS;
  return {
    received,
    acknowledged,
    refused_count: refused.length,
    refused: refused.slice(0, MAX_LISTED_REFUSALS),
    ...(isCut ? { refused_indexes: refused.map(({ index }) => index) } : {}),
  };
}

/** As parseEvent(): without a byte order mark. Bytes that are not UTF-8 are no event there. */
const utf8 = new TextDecoder();

/**
 * The conveyor that an event names, valid or not: a replay of dead letters must not write what their sender must not.
 * Undefined: no conveyor, which no replay can write.
 */
function conveyorNamed(line: Line): string | undefined {
  if (line.length > MAX_EVENT_BYTES) return undefined;
  const text = utf8.decode(line.bytes);
  const identity = identifyCanonical(text);
  if (identity) return identity.conveyor;
  try {
    const { conveyor } = (JSON.parse(text) ?? {}) as { conveyor?: unknown };
    return typeof conveyor === "string" ? conveyor : undefined;
  } catch {
    return undefined;
  }
}

/** Key, record overhead, and the growth of a line that is rewritten in canonical form. */
const PER_EVENT_BYTES = 512;
