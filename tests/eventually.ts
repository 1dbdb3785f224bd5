/** Waits for a condition in tests without a cluster, also on a busy machine. */

/** The awaited state is reached in milliseconds; only a failing test takes this long. */
const LIMIT_MS = 30_000;
const LOOK_MS = 2;

/** Polls until `isSo`. @throws Error that names `what` */
export async function eventually(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const limit = performance.now() + LIMIT_MS;
  while (!(await isSo())) {
    if (performance.now() > limit) throw new Error(`waited ${LIMIT_MS / 1000} s for ${what}`);
    await Bun.sleep(LOOK_MS);
  }
}
