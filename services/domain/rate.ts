/**
 * The number of events that a simulated fleet has emitted by a moment: the integral of its rate. With totals instead of
 * events per tick, ticks of any length add up exactly.
 */

export const RATE_PROFILES = ["steady", "ramp", "burst"] as const;
export type RateProfile = (typeof RATE_PROFILES)[number];

/** ramp: from a tenth of the rate to the full rate over this time, then steady. */
export const RAMP_MS = 10 * 60_000;
const RAMP_START_SHARE = 0.1;
/** burst: every period begins with this long at BURST_FACTOR times the rate. */
export const BURST_PERIOD_MS = 5 * 60_000;
export const BURST_MS = 30_000;
export const BURST_FACTOR = 5;

/** Events due after `elapsedMs` at `perSecond`. */
export function eventsDue(profile: RateProfile, perSecond: number, elapsedMs: number): number {
  const perMs = perSecond / 1000;
  switch (profile) {
    case "steady":
      return Math.floor(perMs * elapsedMs);
    case "ramp": {
      const rising = Math.min(elapsedMs, RAMP_MS);
      const area = RAMP_START_SHARE * rising + ((1 - RAMP_START_SHARE) * rising * rising) / (2 * RAMP_MS);
      return Math.floor(perMs * (area + Math.max(0, elapsedMs - RAMP_MS)));
    }
    case "burst": {
      const periods = Math.floor(elapsedMs / BURST_PERIOD_MS);
      const inPeriod = elapsedMs - periods * BURST_PERIOD_MS;
      const extraMs = (BURST_FACTOR - 1) * (periods * BURST_MS + Math.min(inPeriod, BURST_MS));
      return Math.floor(perMs * (elapsedMs + extraMs));
    }
  }
}
