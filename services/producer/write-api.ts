/**
 * The write API of InfluxDB 2, so that its clients change one address: POST /api/v2/write with lines of line protocol, and
 * GET /ping and /health, which clients ask before. The answers are those of InfluxDB:
 *
 *   204 every point is in Kafka · 400 lines are invalid: the others are in Kafka, and these in the dead letters
 *   401, 403, 404, 413, 415 nothing was taken · 422 lines of new series are beyond the sender's bound: the others are in Kafka
 *   429, 503 with Retry-After: send all again
 *
 * A point is identified by its series and its time, so a request that is sent again leaves one point. Its identity in
 * Kafka (run, source, seq) is assigned here: the source is the name of the sender.
 */
import { shown } from "../domain/event.ts";
import { InflatedSizeError } from "../domain/formats/compression.ts";
import { UnreadableError } from "../domain/formats/unreadable-error.ts";
import { PRECISIONS, type Precision } from "../domain/line-protocol.ts";
import type { Line } from "../domain/ndjson.ts";
import { pointLines } from "../domain/point-lines.ts";
import type { EventProducer } from "../kafka/event-producer.ts";
import { withTimeout } from "../runtime/with-timeout.ts";
import type { EventPublisher, Settlement } from "./event-publisher.ts";
import { MAX_EVENTS_PER_REQUEST } from "./intake-body.ts";
import { mayWrite, type Sender } from "./intake-senders.ts";
import { inflateCharged } from "./readable-body.ts";
import { announcedBytes, MAX_BODY_BYTES, type OpenBodies, readBody } from "./request-body.ts";
import type { SenderUsage } from "./sender-usage.ts";
import { prepare } from "./sources.ts";

/** Longer than the failover of a broker. */
export const ACK_LIMIT_MS = 30_000;
export const RETRY_AFTER_SECONDS = 1;
/** A line has its series as key too, and one of version 2 has characters escaped. */
export const RECORD_GROWTH = 2;
/** Key and headers of an event, record overhead, and the growth of an event that is rewritten in canonical form. */
export const PER_EVENT_BYTES = 512;

export interface WriteOptions {
  publisher: EventPublisher;
  producer: EventProducer;
  usage: SenderUsage;
  /** Names that requests must give; undefined: any. */
  org?: string | undefined;
  bucket?: string | undefined;
  ackLimitMs?: number | undefined;
}

/** Codes of InfluxDB's answers. */
type WriteErrorCode =
  | "invalid"
  | "unauthorized"
  | "forbidden"
  | "not found"
  | "method not allowed"
  | "request too large"
  | "unsupported media type"
  | "unprocessable entity"
  | "too many requests"
  | "unavailable";

const failure = (status: number, code: WriteErrorCode, message: string, headers: Record<string, string> = {}) =>
  Response.json({ code, message }, { status, headers });

const later = (status: 429 | 503, code: WriteErrorCode, message: string, seconds = RETRY_AFTER_SECONDS) =>
  failure(status, code, message, { "retry-after": String(seconds) });

const tooLarge = () =>
  failure(413, "request too large", `a body must have at most ${MAX_BODY_BYTES} bytes, also after decompression`);

export const wrongMethod = (allowed: string) =>
  failure(405, "method not allowed", `only ${allowed}`, { allow: allowed });

/** Answers as an InfluxDB without a valid token. */
export const withoutToken = () =>
  failure(401, "unauthorized", "a token is required: Authorization: Token VALUE, or Bearer VALUE", {
    "www-authenticate": "Token",
  });

/** GET /ping. Clients read the version from the header. */
export const answerPing = (version: string) =>
  new Response(null, { status: 204, headers: { "x-influxdb-version": version, "x-influxdb-build": "conveyor" } });

/** GET /health: whether points can be taken. */
export function answerHealth({ ready }: Pick<EventProducer, "ready">, version: string): Response {
  const state = ready ? { message: "ready for writes", status: "pass" } : { message: "no Kafka", status: "fail" };
  return Response.json({ name: "conveyor", ...state, checks: [], version }, { status: ready ? 200 : 503 });
}

/** Answers a write of a sender with a valid token. */
export async function answerWrite(
  request: Request,
  sender: Sender,
  options: WriteOptions,
  bodies: OpenBodies,
): Promise<Response> {
  const { usage } = options;
  const announced = announcedBytes(request);
  const waitMs = usage.takeRequest(sender, announced);
  if (waitMs > 0) {
    const message = `sender ${sender.name} is above its rate; nothing was taken`;
    return later(429, "too many requests", message, Math.ceil(waitMs / 1000));
  }
  const query = readQuery(request.url, options);
  if (query instanceof Response) return query;
  const encoding = (request.headers.get("content-encoding") ?? "").trim().toLowerCase();
  if (!["", "identity", "gzip"].includes(encoding)) {
    return failure(415, "unsupported media type", `content-encoding must be gzip or identity; got ${shown(encoding)}`);
  }
  using room = bodies.open();
  const charge = usage.charge(sender, announced);
  const received = await readBody(request, room.take, charge);
  if (received === "incomplete") return failure(400, "invalid", "the connection ended before the body");
  if (received === "too_large") return tooLarge();
  if (received === "no_room") return later(503, "unavailable", "too many requests are open; nothing was taken");
  let body = received;
  if (encoding === "gzip") {
    try {
      body = inflateCharged(received, "gzip", MAX_BODY_BYTES, charge);
    } catch (error) {
      if (error instanceof InflatedSizeError) return tooLarge();
      if (error instanceof UnreadableError) return failure(400, "invalid", error.message);
      throw error;
    }
    if (!room.take(body.length)) return later(503, "unavailable", "too many requests are open; nothing was taken");
  }
  return await writeLines(body, query.precision, sender, options);
}

/** The parameters, or the answer that refuses them. The host of an address is not always one that a URL can have. */
function readQuery(url: string, { org, bucket }: WriteOptions): { precision: Precision } | Response {
  const start = url.indexOf("?");
  const parameters = new URLSearchParams(start < 0 ? "" : url.slice(start));
  const precision = parameters.get("precision") ?? "ns";
  if (!PRECISIONS.includes(precision as Precision)) {
    return failure(400, "invalid", `precision must be one of ${PRECISIONS.join(", ")}; got ${shown(precision)}`);
  }
  const named = { organization: parameters.get("org") ?? parameters.get("orgID"), bucket: parameters.get("bucket") };
  const known = { organization: org, bucket };
  for (const what of ["organization", "bucket"] as const) {
    const name = named[what];
    if (!name) return failure(400, "invalid", `the parameter ${what === "bucket" ? what : "org"} is required`);
    if (known[what] !== undefined && name !== known[what]) {
      return failure(404, "not found", `${what} ${shown(name)} not found; here it is ${shown(known[what])}`);
    }
  }
  return { precision: precision as Precision };
}

async function writeLines(
  body: Uint8Array,
  precision: Precision,
  sender: Sender,
  options: WriteOptions,
): Promise<Response> {
  const lines: Line[] = [];
  for (const line of pointLines(body)) {
    if (lines.length === MAX_EVENTS_PER_REQUEST) {
      return failure(413, "request too large", `a request must hold at most ${MAX_EVENTS_PER_REQUEST} lines; got more`);
    }
    lines.push(line);
  }
  if (lines.length === 0) return failure(400, "invalid", "the body holds no point");
  const { producer, publisher, usage } = options;
  const outcome = new WriteOutcome(lines.length);
  const prepared = lines.map((line) => {
    const context = { precision, sender: sender.name };
    return { number: line.number, ...prepare(publisher, "http", line, outcome.settled(line.number), context) };
  });
  const foreign = prepared.find((line) => !mayWrite(sender, line.names().source));
  if (foreign) {
    const what = `must not write the source ${shown(foreign.names().source)}`;
    return failure(403, "forbidden", `line ${foreign.number}: sender ${sender.name} ${what}; nothing was taken`);
  }
  if (!producer.hasRoom(lines.length, body.length * RECORD_GROWTH + lines.length * PER_EVENT_BYTES)) {
    return later(503, "unavailable", "the buffer is full; nothing was taken");
  }
  const admission = usage.admission(sender);
  for (const { number, offer, refusal, names } of prepared) {
    const { source, series } = names();
    const exceeded = refusal ? undefined : admission.add(source, series);
    if (refusal) outcome.invalid(number, refusal.detail);
    if (exceeded) outcome.beyond(number, `${shown(exceeded.name)} is new, and ${exceeded.rule}`);
    // The room that was checked above is an estimate.
    else if (!offer())
      return later(503, "unavailable", "the buffer is full; send them all again: a point is stored once");
  }
  try {
    await withTimeout(outcome.complete, options.ackLimitMs ?? ACK_LIMIT_MS);
  } catch {
    const message = "Kafka has not acknowledged every point in time; send them again: a point is stored once";
    return later(503, "unavailable", message);
  }
  return outcome.answer();
}

/** Lines that were not taken for one kind of reason: the first one with its reason, and their number. */
interface Refused {
  first: string | undefined;
  lines: number;
}

function count(refused: Refused, number: number, why: string): void {
  refused.first ??= `line ${number}: ${why}`;
  refused.lines++;
}

/** What becomes of the lines of a request. */
class WriteOutcome {
  /** Resolves when Kafka has every point, and every dead letter of an invalid line. */
  readonly complete: Promise<void>;
  readonly #resolve: () => void;
  readonly #invalid: Refused = { first: undefined, lines: 0 };
  readonly #beyond: Refused = { first: undefined, lines: 0 };
  #open: number;

  constructor(private readonly received: number) {
    ({ promise: this.complete, resolve: this.#resolve } = Promise.withResolvers<void>());
    this.#open = received;
  }

  /** For the line that was offered. */
  settled(number: number): (settlement: Settlement) => void {
    return (settlement) => {
      if (settlement === "rejected") this.invalid(number, "Kafka's topic takes no record of this size");
      this.#close();
    };
  }

  /** A line that is no point: it is offered to the dead letters. */
  invalid(number: number, why: string): void {
    count(this.#invalid, number, why);
  }

  /** A line that exceeds a bound of its sender: it is not offered. */
  beyond(number: number, why: string): void {
    count(this.#beyond, number, why);
    this.#close();
  }

  #close(): void {
    if (--this.#open === 0) this.#resolve();
  }

  answer(): Response {
    const refused = this.#invalid.lines + this.#beyond.lines;
    if (refused === 0) return new Response(null, { status: 204 });
    const rest = `${refused} of ${this.received} lines were not taken; the others are written`;
    // Both kinds: a sender must know that not every line that was not taken is a dead letter.
    const reasons = [this.#invalid.first, this.#beyond.first].filter((reason) => reason !== undefined);
    const message = `${reasons.join("; ")}; ${refused === this.received ? "no line was taken" : rest}`;
    if (this.#invalid.lines > 0) return failure(400, "invalid", message);
    return failure(422, "unprocessable entity", message);
  }
}
