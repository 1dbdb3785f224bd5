/**
 * Liveness is progress: each loop reports its turns with `progress`, and /healthz fails when a watch had none within its
 * limit. An attempt is progress too: while Kafka or InfluxDB is unreachable a restart would not help. Readiness is a set
 * of named conditions.
 */

interface Watch {
  name: string;
  /** Longest time without progress. */
  limitMs: number;
  /** While false there is nothing to do, and no progress is required. */
  busy?: () => boolean;
}

interface HealthReport {
  ok: boolean;
  checks: Record<string, { ok: boolean; age_ms: number; limit_ms: number; busy: boolean }>;
}

export class Health {
  readonly #watches = new Map<string, Watch & { lastProgress: number; wasBusy: boolean }>();
  readonly #conditions = new Map<string, () => boolean>();

  constructor(private readonly now: () => number = () => performance.now()) {}

  watch(watch: Watch): void {
    this.#watches.set(watch.name, { ...watch, lastProgress: this.now(), wasBusy: watch.busy === undefined });
  }

  progress(name: string): void {
    const watch = this.#watches.get(name);
    if (watch) watch.lastProgress = this.now();
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
      // Idle at the last check: the time counts from now, not from the end of the last work.
      if (!busy || !watch.wasBusy) watch.lastProgress = now;
      watch.wasBusy = busy;
      const ageMs = now - watch.lastProgress;
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
