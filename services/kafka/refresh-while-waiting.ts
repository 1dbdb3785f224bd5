/** Far longer than a response takes, far shorter than its timeout. Each refresh is one small request. */
const REFRESH_INTERVAL_MS = 500;

/**
 * Awaits a response and refreshes the metadata meanwhile, so that a request to a broker that is cut off from the cluster
 * fails before its timeout: once the metadata no longer list the broker, its connections close (patches/gone-broker.ts).
 */
export async function refreshWhileWaiting<T>(response: Promise<T>, refresh: () => Promise<void>): Promise<T> {
  const refreshing = setInterval(() => void refresh().catch(() => {}), REFRESH_INTERVAL_MS);
  try {
    return await response;
  } finally {
    clearInterval(refreshing);
  }
}
