/**
 * The window of event time: [now − retention, now + MAX_AHEAD_MS]. The intake refuses an event outside it at once; the
 * processor dead-letters one, since a queue or another writer may bring it there. Such an event never reaches InfluxDB,
 * which would refuse the old one and make a shard for each future day.
 */
import type { Refusal } from "./event.ts";

const DAY_MS = 86_400_000;

/**
 * InfluxDB keeps a point until it is this old, and refuses an older one. The only setting: setup gives it to the bucket;
 * intake, processor and dead-letters read it here (docs/events.md, "Load older events").
 */
export const BUCKET_RETENTION_MS = 30 * DAY_MS;

/**
 * A sender's clock may be ahead by this much: enough for a wrong time zone. Each further day would be a shard of InfluxDB,
 * which nothing deletes before that day and the retention have passed.
 */
export const MAX_AHEAD_MS = DAY_MS;

const days = (ms: number) => `${ms / DAY_MS} day${ms === DAY_MS ? "" : "s"}`;

/** The refusal of a valid event whose time is outside the window at `nowMs`; undefined when it is inside. */
export function checkEventTime(ts: number, nowMs: number, field: "ts" | "time" = "ts"): Refusal | undefined {
  const least = nowMs - BUCKET_RETENTION_MS;
  const most = nowMs + MAX_AHEAD_MS;
  if (ts >= least && ts <= most) return undefined;
  const rule =
    ts < least
      ? `must be at least ${least} (${days(BUCKET_RETENTION_MS)} ago, the retention)`
      : `must be at most ${most} (${days(MAX_AHEAD_MS)} ahead of the clock)`;
  return { reason: "bad_timestamp", field, detail: `${field}: ${rule}; got ${ts}` };
}
