/** Sends one batch of events until its outcome is certain: the one place that repeats a request to the intake. */
import { setTimeout as sleep } from "node:timers/promises";
import type { SendOutcome } from "./intake-client.ts";

/** Sends a body of NDJSON; never throws. `isRepeat`: the request before got no acknowledgement. */
export type Send = (body: string, signal: AbortSignal, isRepeat: boolean) => Promise<SendOutcome>;

export type Delivery =
  | { kind: "acknowledged"; refused: readonly number[] }
  | { kind: "failed" | "unknown"; refused: readonly []; why: string };

export interface DeliveryOptions {
  send: Send;
  /** Ends the pauses; the batch then keeps the outcome that it has. */
  signal: AbortSignal;
  /** Whether the batch is given up instead of being sent again after `afterMs`. */
  givesUp: (afterMs: number) => boolean;
  /** Sends again whatever the answer, after this pause, instead of after that of the answer. */
  untilAcknowledged?: { pauseMs: number };
  /** Called for each request that was not acknowledged. */
  onRefusal?: (why: string) => void;
  /** Called before a batch is sent again. */
  onRepeat: (why: string, mayBeAccepted: boolean) => void;
}

/** Sends the batch until it is acknowledged, rejected or given up. */
export async function deliver(body: string, options: DeliveryOptions): Promise<Delivery> {
  const { send, signal, untilAcknowledged } = options;
  let mayBeAccepted = false;
  const end = (why: string): Delivery => ({ kind: mayBeAccepted ? "unknown" : "failed", refused: [], why });
  for (let attempt = 0; ; attempt++) {
    const outcome = await send(body, signal, attempt > 0);
    if (outcome.kind === "acknowledged") return { kind: "acknowledged", refused: outcome.refused };
    const { why } = outcome;
    options.onRefusal?.(why);
    if (outcome.kind === "rejected" && !untilAcknowledged) return end(why);
    if (outcome.kind === "unknown") mayBeAccepted = true;
    const afterMs = untilAcknowledged?.pauseMs ?? (outcome.kind === "rejected" ? 0 : outcome.afterMs);
    if (signal.aborted || options.givesUp(afterMs)) return end(why);
    await sleep(afterMs, undefined, { signal }).catch(() => {});
    if (signal.aborted) return end(why);
    options.onRepeat(why, mayBeAccepted);
  }
}
