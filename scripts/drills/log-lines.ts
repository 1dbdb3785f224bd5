/** Drills of the log tier also prove that no log line is lost: a pod writes numbered lines during the fault. */
import { type CanaryVerdict, runCanary } from "../logs/log-canary.ts";
import type { Drill } from "./drill.ts";

/** Longer than a fault and its healing. */
const SECONDS = 40;
const LINES_PER_SECOND = 50;

/** The drill with a log canary: lines that are missing in the log store afterwards are a violated expectation. */
export function provingLogLines(drill: Drill): Drill {
  const canaries = new WeakMap<object, { verdict: Promise<CanaryVerdict>; end: AbortController }>();
  return {
    ...drill,
    async prepare(context) {
      const target = (await drill.prepare(context)) as object;
      const writing = Promise.withResolvers<void>();
      const end = new AbortController();
      const verdict = runCanary(context.cluster, {
        image: context.image,
        lines: SECONDS * LINES_PER_SECOND,
        ratePerSecond: LINES_PER_SECOND,
        signal: AbortSignal.any([context.signal, end.signal]),
        onState: (state) => /^[1-9]\d* lines written/.test(state) && writing.resolve(),
      });
      canaries.set(target, { verdict, end });
      // Awaited again in verify; an error before that belongs to the drill.
      await Promise.race([writing.promise, verdict]);
      return target;
    },
    async verify(context, target) {
      const { missing_count, written } = await canaries.get(target as object)!.verdict;
      const lost = missing_count > 0 ? [`${missing_count} of ${written} log lines are not in the log store`] : [];
      return [...lost, ...((await drill.verify?.(context, target)) ?? [])];
    },
    async restore(context, target) {
      // Its pod is deleted, also when the verification was not reached.
      const canary = canaries.get(target as object);
      canary?.end.abort();
      await canary?.verdict.catch(() => {});
      await drill.restore?.(context, target);
    },
  };
}
