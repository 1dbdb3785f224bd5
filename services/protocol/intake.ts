/** Answers of the intake (POST /events). */

/** Cause of an answer without outcomes of single events. */
export type IntakeErrorCode =
  | "unknown_path"
  | "method_not_allowed"
  | "unauthorized"
  | "no_event"
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

/** An event that was written to the dead-letter topic, by its position in the request. */
export interface RefusedEvent {
  index: number;
  reason: string;
  detail: string;
}

export interface IntakeOutcomes {
  received: number;
  acknowledged: number;
  refused_count: number;
  /** The first refused events; the count is complete. */
  refused: RefusedEvent[];
}
