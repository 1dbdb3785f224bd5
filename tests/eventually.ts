/** Waiting for an event in tests without a cluster: a machine with ten processes in front of ours takes its time. */

/** What is waited for takes milliseconds; only a test that fails waits so long. */
const LIMIT_MS = 30_000;
const LOOK_MS = 2;

/** Looks until `isSo`. @throws Error that names what was waited for. */
export async function eventually(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const limit = performance.now() + LIMIT_MS;
  while (!(await isSo())) {
    if (performance.now() > limit) throw new Error(`waited ${LIMIT_MS / 1000} s for ${what}`);
    await Bun.sleep(LOOK_MS);
  }
}
