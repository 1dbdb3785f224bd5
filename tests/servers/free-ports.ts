/**
 * Loopback ports for servers that tests and benchmarks start. Not port 0, which is assigned from the range of outgoing
 * connections: while a killed server is down, a client's own connection could take its port.
 */
import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/** Above well-known ports and those of Kubernetes, below node ports (30000) and outgoing connections (32768). */
const FIRST_PORT = 20_000;
const LAST_PORT = 29_999;
/** Attempts per port; with half of the range in use, one in a million calls fails. */
const MAX_TRIES = 20;

/** Ports returned by this process; not reused, since their server may be restarting. */
const given = new Set<number>();

const canListen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });

/** A free loopback port outside the range of outgoing connections. @throws Error when none was found */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1);
    if (given.has(port)) continue;
    given.add(port);
    if (await canListen(port)) return port;
  }
  throw new Error(`no free port from ${FIRST_PORT} to ${LAST_PORT} after ${MAX_TRIES} tries`);
}

/** Several free ports. @throws Error when there are not enough */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) ports.push(await freePort());
  return ports;
}
