/**
 * A run is one life of one source. Its name sorts by time, contains the pod's ordinal, and is unique: the random part
 * distinguishes two runs that begin in the same millisecond.
 */

/** "20261125T024759123Z-0-9f3c": time, ordinal, 16 random bits. */
export function newRunId(nowMs: number, ordinal: number, random16: number): string {
  const time = new Date(nowMs).toISOString().replace(/[-:.]/g, "");
  return `${time}-${ordinal}-${(random16 & 0xffff).toString(16).padStart(4, "0")}`;
}

/** The number at the end of a StatefulSet pod's name ("producer-2" is 2), or 0 when there is none. */
export function ordinalOf(podName: string): number {
  return Number(/-(\d{1,9})$/.exec(podName)?.[1] ?? 0);
}

/** The run of events without identity that a producer has taken; the number begins with 1. */
export const assignedRun = (producerRun: string, number: number): string => `${producerRun}-assigned-${number}`;

/** The producer's own run, of a run that it assigned; every other run is returned as it is. */
export const producerRunOf = (run: string): string => run.replace(/-assigned-\d+$/, "");

/** The start of a run named by newRunId(), in milliseconds since 1970; undefined for other names. */
export function runStart(run: string): number | undefined {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z-/.exec(run);
  if (!match) return undefined;
  const [, year, month, day, hour, minute, second, ms] = match;
  const startMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}.${ms}Z`);
  return Number.isNaN(startMs) ? undefined : startMs;
}
