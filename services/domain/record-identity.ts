/**
 * The identity of a point's event, in a header of its record in Kafka: "RUN SOURCE SEQ" (names have no spaces). A point
 * has neither run nor seq, so the audit, the traces and the dead letters find them here.
 */

/** The sender gave run and seq. */
const GIVEN_HEADER = "event";
/** The producer assigned them. */
const ASSIGNED_HEADER = "assigned";

export interface RecordIdentity {
  run: string;
  /** The source; named as in the records of version 1. */
  conveyor: string;
  seq: number;
  isAssigned: boolean;
}

/** A name of domain/event.ts, with what a producer adds to its own run (run-id.ts). */
const IDENTITY = /^([A-Za-z0-9][A-Za-z0-9._-]{0,95}) ([A-Za-z0-9][A-Za-z0-9._-]{0,63}) (0|[1-9]\d{0,14})$/;

export const identityText = ({ run, conveyor, seq }: Omit<RecordIdentity, "isAssigned">): string =>
  `${run} ${conveyor} ${seq}`;

export const identityHeaders = (identity: RecordIdentity): Record<string, string> => ({
  [identity.isAssigned ? ASSIGNED_HEADER : GIVEN_HEADER]: identityText(identity),
});

/** The identity in the headers of a record; undefined where they have none, or one that is not valid. */
export function identityOf(headers: Readonly<Record<string, unknown>> | undefined): RecordIdentity | undefined {
  const given = headers?.[GIVEN_HEADER];
  const value = given ?? headers?.[ASSIGNED_HEADER];
  const match = value === undefined || value === null ? null : IDENTITY.exec(String(value));
  return match === null
    ? undefined
    : { run: match[1]!, conveyor: match[2]!, seq: Number(match[3]), isAssigned: given === undefined };
}
