/**
 * Ports of loopback for servers that tests and benchmarks start. Not the kernel's choice (port 0): that comes from the range of
 * outgoing connections, so that while a server is away, killed on purpose, a client's own connection can take its port.
 */
import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/** Above the ports of well-known programs and of Kubernetes' own, below node ports (30000) and outgoing connections (32768). */
const FIRST_PORT = 20_000;
const LAST_PORT = 29_999;
/** So many are tried for one; on a machine that uses half of the range one in a million fails. */
const MAX_TRIES = 20;

/** Handed out by this process, and never again: it may be between two starts of its server. */
const given = new Set<number>();

const canListen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });

/** A port of loopback that nobody listens on and that no outgoing connection takes. @throws Error when none was found. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1);
    if (given.has(port)) continue;
    given.add(port);
    if (await canListen(port)) return port;
  }
  throw new Error(`no free port from ${FIRST_PORT} to ${LAST_PORT} after ${MAX_TRIES} tries`);
}

/** Several of them. @throws Error when there are not so many. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) ports.push(await freePort());
  return ports;
}
