/** A client of the producers' intake (POST /events) that distinguishes accepted, not accepted and uncertain requests. */
import type { IntakeError, IntakeOutcomes } from "../protocol/intake.ts";
import { urlHost } from "../runtime/pod-addresses.ts";

export type SendOutcome =
  | { kind: "acknowledged"; refused: number[] }
  /** Certainly not accepted: sending it again is a first time. */
  | { kind: "not_taken"; afterMs: number; why: string }
  /** May have been accepted; the identity of its events makes a repeat harmless. */
  | { kind: "unknown"; afterMs: number; why: string }
  /** Will never be accepted as it is. */
  | { kind: "rejected"; why: string };

export interface IntakeClientOptions {
  port: number;
  ca: string;
  /** Name in the producers' certificate, the same for all of them. */
  serverName: string;
  token: string;
  /** Longer than the intake's own wait for Kafka. */
  timeoutMs: number;
  /** Opens a new connection: after a failure the old one may lead to a deleted pod. */
  isFresh?: boolean;
}

/** No listener at the address: another pod can accept the request at once. */
const NOT_CONNECTED = new Set(["ConnectionRefused", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH"]);
/** Pause after a request without an answer. */
const AFTER_LOST_MS = 200;
const AFTER_REFUSED_MS = 100;
const DEFAULT_RETRY_AFTER_MS = 1000;
/** Bound on the pause of a Retry-After header. */
const MAX_RETRY_AFTER_MS = 5000;

type Answer = Partial<IntakeOutcomes & IntakeError>;

/** Sends one body (NDJSON) to one pod. Never throws. */
export async function sendEvents(
  address: string,
  body: string,
  options: IntakeClientOptions,
  signal: AbortSignal,
): Promise<SendOutcome> {
  try {
    const response = await fetch(`https://${urlHost(address)}:${options.port}/events`, {
      method: "POST",
      headers: { authorization: `Bearer ${options.token}`, "content-type": "application/x-ndjson" },
      body,
      tls: { ca: options.ca, serverName: options.serverName },
      redirect: "error",
      keepalive: !options.isFresh,
      signal: AbortSignal.any([signal, AbortSignal.timeout(options.timeoutMs)]),
    });
    return classifyAnswer(response.status, await response.text(), response.headers.get("retry-after"));
  } catch (error) {
    const { code, name, message } = error as { code?: string; name?: string; message?: string };
    const why = code ?? name ?? String(message);
    if (NOT_CONNECTED.has(String(code))) return { kind: "not_taken", afterMs: AFTER_REFUSED_MS, why };
    return { kind: "unknown", afterMs: AFTER_LOST_MS, why };
  }
}

/** The outcome of a request's events, from the intake's answer. */
export function classifyAnswer(status: number, text: string, retryAfter: string | null): SendOutcome {
  let answer: Answer = {};
  try {
    answer = JSON.parse(text) as Answer;
  } catch {
    // Not an answer of the intake: only the status counts.
  }
  const why = `${status}${answer.error ? ` ${answer.error}` : ""}`;
  if (status === 200) return { kind: "acknowledged", refused: [] };
  if (status === 207 || status === 422) {
    const refused = answer.refused_indexes ?? (answer.refused ?? []).map(({ index }) => index);
    // The list is incomplete: which events were accepted is unknown.
    if (refused.length !== answer.refused_count) return { kind: "unknown", afterMs: DEFAULT_RETRY_AFTER_MS, why };
    return { kind: "acknowledged", refused };
  }
  const seconds = Number(retryAfter ?? Number.NaN);
  const afterMs = Number.isFinite(seconds) ? Math.min(seconds * 1000, MAX_RETRY_AFTER_MS) : DEFAULT_RETRY_AFTER_MS;
  if (status === 429 || (status === 503 && answer.code === "buffer_full")) return { kind: "not_taken", afterMs, why };
  if (status >= 500) return { kind: "unknown", afterMs, why };
  return { kind: "rejected", why };
}
