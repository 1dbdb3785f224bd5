/** Answers of the intake (POST /events). */

/** Cause of an answer without outcomes of single events. */
export type IntakeErrorCode =
  | "unknown_path"
  | "method_not_allowed"
  | "unauthorized"
  | "forbidden_conveyor"
  /** Compression, encoding or format: the message says what the body is, and what to do. */
  | "unsupported_format"
  /** The sender has its most sources or series in use; no event was accepted. */
  | "too_many_sources"
  | "too_many_series"
  /** The sender is above its rate; no event was accepted. */
  | "rate_limited"
  | "no_event"
  | "body_too_large"
  /** Only counted: its sender has closed the connection. */
  | "incomplete_body"
  | "too_many_events"
  /** No event was accepted. */
  | "buffer_full"
  /** Events may have been accepted: sending them again is safe. */
  | "not_acknowledged"
  | "internal_error";

export interface IntakeError {
  code: IntakeErrorCode;
  error: string;
}

/** An event that was not acknowledged, by its position in the request; it is in the dead-letter topic unless `detail` denies it. */
export interface RefusedEvent {
  index: number;
  reason: string;
  detail: string;
}

export interface IntakeOutcomes {
  received: number;
  acknowledged: number;
  refused_count: number;
  /** The first refused events. */
  refused: RefusedEvent[];
  /** All of them, when `refused` is cut. */
  refused_indexes?: number[];
}
