/** When the certificates expire that servers present: read by a TLS handshake, since only their pods have the files. */
import { connect } from "node:tls";
import type { ClientTls } from "./config.ts";

/** A handshake takes milliseconds; a server that needs longer is read at the next poll. */
const HANDSHAKE_LIMIT_MS = 10_000;

/**
 * End of the certificate that a server presents, seconds since the epoch.
 * @param endpoint host:port; the host is a name of the certificate
 * @throws Error when the server cannot be reached or its certificate is not valid
 */
export async function servedExpirySeconds(endpoint: string, tls: ClientTls): Promise<number> {
  const [host = "", port] = endpoint.split(":");
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const socket = connect({ host, port: Number(port), servername: host, ...tls });
  socket.setTimeout(HANDSHAKE_LIMIT_MS, () => reject(new Error(`no handshake within ${HANDSHAKE_LIMIT_MS / 1000} s`)));
  socket.on("error", reject);
  socket.once("secureConnect", () => resolve(Math.floor(Date.parse(socket.getPeerCertificate().valid_to) / 1000)));
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}
