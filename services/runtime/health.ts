/**
 * Liveness is progress, not "the process exists". Each loop that must turn says so with `beat`; a watch whose last beat
 * is older than its limit makes /healthz fail. An attempt is progress too: while Kafka or InfluxDB is away the retry
 * loop turns, and a restart would not help. Readiness is a set of named conditions.
 */

export interface Watch {
  name: string;
  /** Oldest acceptable beat. */
  limitMs: number;
  /** When false there is nothing to do, and silence is fine. */
  busy?: () => boolean;
}

export interface HealthReport {
  ok: boolean;
  checks: Record<string, { ok: boolean; age_ms: number; limit_ms: number; busy: boolean }>;
}

export class Health {
  readonly #watches = new Map<string, Watch & { lastBeat: number; wasBusy: boolean }>();
  readonly #conditions = new Map<string, () => boolean>();

  constructor(private readonly now: () => number = () => performance.now()) {}

  watch(watch: Watch): void {
    this.#watches.set(watch.name, { ...watch, lastBeat: this.now(), wasBusy: watch.busy === undefined });
  }

  beat(name: string): void {
    const watch = this.#watches.get(name);
    if (watch) watch.lastBeat = this.now();
  }

  ready(name: string, condition: () => boolean): void {
    this.#conditions.set(name, condition);
  }

  live(): HealthReport {
    const now = this.now();
    const checks: HealthReport["checks"] = {};
    let ok = true;
    for (const [name, watch] of this.#watches) {
      const busy = watch.busy?.() ?? true;
      // Idle until the last look: the clock starts when work was first seen, not when the last work was done.
      if (!busy || !watch.wasBusy) watch.lastBeat = now;
      watch.wasBusy = busy;
      const ageMs = now - watch.lastBeat;
      const fine = !busy || ageMs <= watch.limitMs;
      ok &&= fine;
      checks[name] = { ok: fine, age_ms: Math.round(ageMs), limit_ms: watch.limitMs, busy };
    }
    return { ok, checks };
  }

  readiness(): { ok: boolean; conditions: Record<string, boolean> } {
    const conditions = Object.fromEntries([...this.#conditions].map(([name, condition]) => [name, condition()]));
    return { ok: Object.values(conditions).every(Boolean), conditions };
  }
}
