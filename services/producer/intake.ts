/**
 * HTTP intake: POST /events with events in any format (readable-body.ts). The response follows Kafka's acknowledgement and
 * names the reason for each refused event:
 *
 *   200 all acknowledged · 207 some refused · 422 all refused · 503 + Retry-After: the buffer is full (no event was
 *   taken), or Kafka did not acknowledge in time (resend the same events; their identity makes that harmless)
 *
 * Beside it the write API of InfluxDB 2 (write-api.ts).
 */
import { type Refusal, shown } from "../domain/event.ts";
import { ACCEPTED_CODINGS, InflatedSizeError } from "../domain/formats/compression.ts";
import { UnreadableError } from "../domain/formats/unreadable-error.ts";
import type { Line } from "../domain/ndjson.ts";
import type { IntakeError, IntakeErrorCode, IntakeOutcomes, RefusedEvent } from "../protocol/intake.ts";
import { SERVICES_VERSION } from "../runtime/metrics.ts";
import { withTimeout } from "../runtime/with-timeout.ts";
import type { Settlement } from "./event-publisher.ts";
import { MAX_EVENTS_PER_REQUEST } from "./intake-body.ts";
import { type IntakeSenders, mayWrite, type Sender } from "./intake-senders.ts";
import { bodyLines, describeBody, inflatedBody } from "./readable-body.ts";
import { announcedBytes, MAX_BODY_BYTES, OpenBodies, readBody } from "./request-body.ts";
import type { Admission } from "./sender-usage.ts";
import { type Prepared, prepare } from "./sources.ts";
import {
  ACK_LIMIT_MS,
  answerHealth,
  answerPing,
  answerWrite,
  PER_EVENT_BYTES,
  RECORD_GROWTH,
  RETRY_AFTER_SECONDS,
  type WriteOptions,
  withoutToken,
  wrongMethod,
} from "./write-api.ts";

/** Refused events listed with their reasons: half a megabyte; refused_indexes then names all. */
const MAX_LISTED_REFUSALS = 1000;
/** The rest of a refused body is read and dropped up to this size, so that its sender receives the answer. */
const MAX_DISCARDED_BYTES = 64 * 1024 * 1024;
/** Longest pause within a request, so that a stalled client cannot hold a connection. */
const IDLE_SECONDS = 60;

interface IntakeOptions extends WriteOptions {
  port: number;
  tls: { cert: string; key: string };
  senders: Pick<IntakeSenders, "find">;
  /** `sender`: the name of the sender of a request with a valid token. */
  onAnswer?: (status: number, sender: string | undefined) => void;
}

export interface Intake {
  port: number;
  /** Accepts no new connections and waits for the open requests. */
  stop(): Promise<void>;
}

/** The schemes of a token in the header Authorization. Their case is free (RFC 9110). */
const EVENTS_TOKEN = /^Bearer +(\S+)$/i;
const WRITE_TOKEN = /^(?:Token|Bearer) +(\S+)$/i;

type Answer = Response | Promise<Response>;

export function startIntake(options: IntakeOptions): Intake {
  const bodies = new OpenBodies();
  const counted = async (answering: Answer, sender?: Sender) => {
    const response = await answering;
    options.onAnswer?.(response.status, sender?.name);
    return response;
  };
  const answer = (request: Request, scheme: RegExp, unknown: () => Response, known: (sender: Sender) => Answer) => {
    const token = scheme.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
    const sender = options.senders.find(token);
    return sender ? counted(known(sender), sender) : counted(unknown());
  };
  const get = (request: Request, answer: () => Response) =>
    counted(request.method === "GET" || request.method === "HEAD" ? answer() : wrongMethod("GET"));
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
        request.method === "POST"
          ? answer(request, EVENTS_TOKEN, unauthorized, (sender) => answerPost(request, sender, options, bodies))
          : counted(failure(405, "method_not_allowed", "only POST", { headers: { allow: "POST" } })),
      "/api/v2/write": (request) =>
        request.method === "POST"
          ? answer(request, WRITE_TOKEN, withoutToken, (sender) => answerWrite(request, sender, options, bodies))
          : counted(wrongMethod("POST")),
      "/ping": (request) => get(request, () => answerPing(SERVICES_VERSION)),
      "/health": (request) => get(request, () => answerHealth(options.producer, SERVICES_VERSION)),
    },
    fetch: () => counted(failure(404, "unknown_path", "only /events, /api/v2/write, /ping and /health")),
    error: () => counted(failure(500, "internal_error", "internal error")),
  });
  return { port: server.port!, stop: async () => void (await server.stop()) };
}

const unauthorized = () =>
  failure(401, "unauthorized", "a bearer token is required", { headers: { "www-authenticate": "Bearer" } });

async function answerPost(
  request: Request,
  sender: Sender,
  options: IntakeOptions,
  bodies: OpenBodies,
): Promise<Response> {
  const announced = announcedBytes(request);
  const waitMs = options.usage.takeRequest(sender, announced);
  if (waitMs > 0) {
    const headers = { "retry-after": String(Math.ceil(waitMs / 1000)) };
    return failure(429, "rate_limited", `sender ${sender.name} is above its rate; nothing was taken`, { headers });
  }
  using room = bodies.open();
  const charge = options.usage.charge(sender, announced);
  const body = await readBody(request, room.take, charge);
  if (body === "incomplete") return failure(400, "incomplete_body", "the connection ended before the body");
  if (body === "too_large") return bodyTooLarge();
  if (body === "no_room") return noRoom();
  try {
    const description = describeBody(request);
    const content = inflatedBody(body, description, MAX_BODY_BYTES, charge);
    if (content !== body && !room.take(content.length)) return noRoom();
    const lines = bodyLines(content, description);
    const addedBytes = lines === undefined ? 0 : bytesOf(lines) - content.length;
    if (addedBytes > 0 && !room.take(addedBytes)) return noRoom();
    return await publishLines(lines, sender, options);
  } catch (error) {
    if (error instanceof InflatedSizeError) return failure(413, "body_too_large", error.message);
    if (error instanceof UnreadableError) return unsupported(error);
    throw error;
  }
}

const bodyTooLarge = () => failure(413, "body_too_large", `a body must have at most ${MAX_BODY_BYTES} bytes`);

const noRoom = () => unavailable("buffer_full", "too many requests are open; nothing was taken");

const unsupported = ({ message, hint }: UnreadableError) =>
  failure(415, "unsupported_format", `${message}; ${hint}; nothing was taken`, {
    headers: { "accept-encoding": ACCEPTED_CODINGS },
  });

const bytesOf = (lines: readonly Line[]) => lines.reduce((sum, { length }) => sum + length, 0);

/** An answer without outcomes of single events. */
const failure = (
  status: number,
  code: IntakeErrorCode,
  error: string,
  { counts = {}, headers = {} }: { counts?: Record<string, number>; headers?: Record<string, string> } = {},
) => Response.json({ error, code, ...counts } satisfies IntakeError, { status, headers });

const unavailable = (code: IntakeErrorCode, error: string, counts: Record<string, number> = {}) =>
  failure(503, code, error, { counts, headers: { "retry-after": String(RETRY_AFTER_SECONDS) } });

async function publishLines(
  lines: readonly Line[] | undefined,
  sender: Sender,
  options: IntakeOptions,
): Promise<Response> {
  const { publisher, producer, usage } = options;
  if (lines === undefined) {
    return failure(413, "too_many_events", `a request must hold at most ${MAX_EVENTS_PER_REQUEST} events; got more`);
  }
  if (lines.length === 0) return failure(400, "no_event", "the body holds no event");
  const received = lines.length;
  const refused: RefusedEvent[] = [];
  let acknowledged = 0;
  let settled = 0;
  const { promise: allSettled, resolve } = Promise.withResolvers<void>();
  const events = lines.map((line, index) => {
    const onSettled = (outcome: Settlement) => {
      const refusal = events[index]!.refusal && { index, ...reasonOf(events[index]!.refusal) };
      if (outcome === "rejected") refused.push(notKept(index, refusal));
      else if (refusal) refused.push(refusal);
      else acknowledged++;
      if (++settled === received) resolve();
    };
    return prepare(publisher, "http", line, onSettled, { sender: sender.name });
  });
  const admission = usage.admission(sender);
  const forbidden = forbiddenBy(sender, events, admission);
  if (forbidden) {
    admission.cancel();
    return forbidden;
  }
  // A request is taken completely or not at all; a record costs more than its bytes.
  if (!producer.hasRoom(received, bytesOf(lines) * RECORD_GROWTH + received * PER_EVENT_BYTES)) {
    admission.cancel();
    return unavailable("buffer_full", "the buffer is full; nothing was taken", { received, acknowledged: 0 });
  }
  for (const event of events) {
    // The room that was checked above is an estimate: numbers such as 1e20 are longer as records.
    if (event.offer()) continue;
    const error = "the buffer is full; send them all again, that is harmless";
    return unavailable("buffer_full", error, { received, acknowledged: 0 });
  }
  try {
    await withTimeout(allSettled, options.ackLimitMs ?? ACK_LIMIT_MS);
  } catch {
    const error = "Kafka has not acknowledged every event in time; send them again, that is harmless";
    return unavailable("not_acknowledged", error, { received, acknowledged });
  }
  const status = refused.length === 0 ? 200 : refused.length === received ? 422 : 207;
  return Response.json(outcomesOf(received, acknowledged, refused), { status });
}

const reasonOf = ({ reason, detail }: Refusal) => ({ reason, detail });

/** The answer to events that their sender must not write, or that exceed its bounds. */
function forbiddenBy(sender: Sender, events: readonly Prepared[], admission: Admission): Response | undefined {
  if (!sender.sources && !sender.limits) return undefined;
  for (const [index, event] of events.entries()) {
    const { source, series } = event.names();
    if (!mayWrite(sender, source)) {
      const error = `event ${index}: sender ${sender.name} must not write conveyor ${shown(source)}; nothing was taken`;
      return failure(403, "forbidden_conveyor", error);
    }
    // Invalid events write nothing.
    const exceeded = event.refusal ? undefined : admission.add(source, series);
    if (exceeded) {
      const error = `event ${index}: ${shown(exceeded.name)} is new, and ${exceeded.rule}; nothing was taken`;
      return failure(403, `too_many_${exceeded.bound}`, error);
    }
  }
  return undefined;
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
