/**
 * HTTP intake: POST /events with one event, an array, or NDJSON. The response follows Kafka's acknowledgement and names
 * the reason for each refused event:
 *
 *   200 all acknowledged · 207 some refused · 422 all refused · 503 + Retry-After: the buffer is full (no event was
 *   taken), or Kafka did not acknowledge in time (resend the same events; their identity makes that harmless)
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { checkEvent, MAX_EVENT_BYTES, serializeEvent, type TelemetryEvent } from "../domain/event.ts";
import { isBlank, type Line, LineSplitter } from "../domain/ndjson.ts";
import type { EventProducer } from "../kafka/event-producer.ts";
import type { IntakeError, IntakeErrorCode, IntakeOutcomes, RefusedEvent } from "../protocol/intake.ts";
import { withTimeout } from "../runtime/with-timeout.ts";
import type { EventPublisher } from "./event-publisher.ts";
import { prepare } from "./sources.ts";

/** About 18,000 events; larger loads belong in a file. */
export const MAX_BODY_BYTES = 4 * 1024 * 1024;
const MAX_EVENTS_PER_REQUEST = 10_000;
/** Refused events listed in a response; refused_count counts all. */
const MAX_LISTED_REFUSALS = 1000;
/** Longer than the failover of a broker. */
export const ACK_LIMIT_MS = 30_000;
const RETRY_AFTER_SECONDS = 1;
/** Longest pause within a request, so that a stalled client cannot hold a connection. */
const IDLE_SECONDS = 60;

interface IntakeOptions {
  port: number;
  tls: { cert: string; key: string };
  token: string;
  publisher: EventPublisher;
  producer: EventProducer;
  onAnswer?: (status: number) => void;
  ackLimitMs?: number;
}

export interface Intake {
  port: number;
  /** Accepts no new connections and waits for the open requests. */
  stop(): Promise<void>;
}

const digest = (text: string) => createHash("sha256").update(text).digest();

export function startIntake(options: IntakeOptions): Intake {
  const expected = digest(`Bearer ${options.token}`);
  const server = Bun.serve({
    port: options.port,
    hostname: "0.0.0.0",
    tls: options.tls,
    maxRequestBodySize: MAX_BODY_BYTES,
    idleTimeout: IDLE_SECONDS,
    development: false,
    async fetch(request) {
      const response = await answer(request, options, expected);
      options.onAnswer?.(response.status);
      return response;
    },
    error() {
      options.onAnswer?.(500);
      return failure(500, "internal_error", "internal error");
    },
  });
  return { port: server.port!, stop: async () => void (await server.stop()) };
}

async function answer(request: Request, options: IntakeOptions, expected: Buffer): Promise<Response> {
  if (new URL(request.url).pathname !== "/events") return failure(404, "unknown_path", "only /events");
  if (request.method !== "POST") return failure(405, "method_not_allowed", "only POST", { headers: { allow: "POST" } });
  // Digests have equal lengths, so the comparison takes the same time for any token.
  if (!timingSafeEqual(digest(request.headers.get("authorization") ?? ""), expected)) {
    return failure(401, "unauthorized", "a bearer token is required", { headers: { "www-authenticate": "Bearer" } });
  }
  const body = new Uint8Array(await request.arrayBuffer());
  return await publishBody(body, options);
}

/** An answer without outcomes of single events. */
const failure = (
  status: number,
  code: IntakeErrorCode,
  error: string,
  { counts = {}, headers = {} }: { counts?: Record<string, number>; headers?: Record<string, string> } = {},
) => Response.json({ error, code, ...counts } satisfies IntakeError, { status, headers });

const unavailable = (code: IntakeErrorCode, error: string, counts: Record<string, number>) =>
  failure(503, code, error, { counts, headers: { "retry-after": String(RETRY_AFTER_SECONDS) } });

async function publishBody(body: Uint8Array, options: IntakeOptions): Promise<Response> {
  const { publisher, producer } = options;
  const lines = readLines(body);
  if (lines.length === 0) return failure(400, "no_event", "the body holds no event");
  if (lines.length > MAX_EVENTS_PER_REQUEST) {
    const error = `a request must hold at most ${MAX_EVENTS_PER_REQUEST} events; got ${lines.length}`;
    return failure(413, "too_many_events", error);
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
    let wasRefused = false;
    const offer = prepare(
      publisher,
      "http",
      line,
      (outcome) => {
        if (!wasRefused && outcome === "acknowledged") acknowledged++;
        if (++settled === received) resolve();
      },
      (reason, detail) => {
        wasRefused = true;
        refused.push({ index, reason, detail });
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
  const outcomes: IntakeOutcomes = {
    received,
    acknowledged,
    refused_count: refused.length,
    refused: refused.slice(0, MAX_LISTED_REFUSALS),
  };
  return Response.json(outcomes, { status });
}

/** Key, record overhead, and the growth of a line that is rewritten in canonical form. */
const PER_EVENT_BYTES = 512;

/** The events of a body as lines: the elements of an array, one object over several lines, or NDJSON. */
function readLines(body: Uint8Array): Line[] {
  const first = body.find((byte) => byte !== 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d);
  if (first === OPEN_BRACKET) {
    const elements = parseDocument(body);
    if (Array.isArray(elements)) return elements.map((element, index) => asLine(element, index + 1));
  }
  const lines: Line[] = [];
  const splitter = new LineSplitter(MAX_EVENT_BYTES + 1);
  for (const line of splitter.push(body)) if (!isBlank(line.bytes)) lines.push(line);
  for (const line of splitter.end()) if (!isBlank(line.bytes)) lines.push(line);
  if (lines.length > 1 && first === OPEN_BRACE) {
    // An object printed over several lines is one event; NDJSON is not one JSON document.
    const document = parseDocument(body);
    if (document !== undefined) return [asLine(document, 1)];
  }
  return lines;
}

const OPEN_BRACKET = 0x5b;
const OPEN_BRACE = 0x7b;
const encoder = new TextEncoder();

function parseDocument(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    return undefined;
  }
}

function asLine(element: unknown, number: number): Line {
  const text = checkEvent(element) === undefined ? serializeEvent(element as TelemetryEvent) : JSON.stringify(element);
  const bytes = encoder.encode(text);
  return { bytes, length: bytes.length, number };
}
