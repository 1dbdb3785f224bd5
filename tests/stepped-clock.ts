import { spyOn } from "bun:test";

const HOUR_MS = 3_600_000;

/** The time of day steps back by an hour until the result is disposed; the monotonic clock goes on. */
export function stepClockBack(): Disposable {
  const realNow = Date.now;
  const clock = spyOn(Date, "now").mockImplementation(() => realNow() - HOUR_MS);
  return { [Symbol.dispose]: () => clock.mockRestore() };
}
