/** Check of the intake for senders outside the cluster: this machine connects to it as such a sender does. */
import { X509Certificate } from "node:crypto";
import { connect as connectTcp, isIP } from "node:net";
import { connect as connectTls } from "node:tls";
import type { ProbeSession } from "../clients/probe-session.ts";
import { type Exposure, INTAKE_HOSTS, intakeEndpoint, readExposure } from "../cluster/intake-exposure.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { type Check, failed, outcomeOf, skipped } from "./checklist.ts";

/** A connection and an answer without an event: milliseconds, from another continent a second. */
const ANSWER_LIMIT_MS = 5000;
/** Port of the kubelet, at every node: where it accepts connections, the node port must too. */
const KUBELET_PORT = 10_250;
/** Enough to find a node that answers. */
const MAX_ADDRESSES = 3;

type Contact = { status: "answered" | "unreachable" | "wrong"; detail: string };

/**
 * Sends a request without a token and without an event, as a sender that knows the CA.
 * @param host name or address that the certificate must have
 */
export async function contactIntake(
  address: string,
  port: number,
  host: string,
  ca: string,
  limitMs = ANSWER_LIMIT_MS,
): Promise<Contact> {
  const { promise, resolve } = Promise.withResolvers<Contact>();
  // The name is compared below: where an address is expected, TLS has no name to send.
  const name = isIP(host) === 0 ? { servername: host } : {};
  const socket = connectTls({ host: address, port, ca, ...name, checkServerIdentity: () => undefined });
  let answer = "";
  let isConnected = false;
  const timer = setTimeout(
    () => resolve({ status: isConnected ? "wrong" : "unreachable", detail: `no answer within ${limitMs / 1000} s` }),
    limitMs,
  );
  const unread = (error: NodeJS.ErrnoException): Contact => {
    // Everything that happens before the first TLS message is a matter of the network.
    const isNetwork = /^E(CONN|HOST|NET|TIMEDOUT|PIPE|ADDR|NOTFOUND|AI_)/.test(error.code ?? "");
    return { status: isNetwork ? "unreachable" : "wrong", detail: error.code ?? error.message };
  };
  socket.once("error", (error) => resolve(unread(error)));
  socket.once("secureConnect", () => {
    isConnected = true;
    const { raw } = socket.getPeerCertificate();
    const certificate = new X509Certificate(raw);
    const isFor = isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host);
    if (isFor === undefined) {
      resolve({ status: "wrong", detail: `the certificate is for ${certificate.subjectAltName ?? "no name"}` });
      return;
    }
    socket.write(
      `POST /events HTTP/1.1\r\nHost: ${isIP(host) === 6 ? `[${host}]` : host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
    );
  });
  socket.on("data", (chunk: Buffer) => {
    answer += chunk.toString("latin1");
    const [, code] = /^HTTP\/1\.1 (\d{3}) /.exec(answer) ?? [];
    if (code === "401") resolve({ status: "answered", detail: "asks for a token" });
    else if (code) resolve({ status: "wrong", detail: `answers ${code} to a request without a token` });
  });
  socket.once("close", () =>
    resolve({ status: isConnected ? "wrong" : "unreachable", detail: "the connection ended" }),
  );
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

/** True where a port accepts connections. A refusal is no answer: Bun also calls an unreachable network refused. */
async function accepts(address: string, port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connectTcp({ host: address, port });
  const timer = setTimeout(resolve, ANSWER_LIMIT_MS, false);
  socket.once("connect", () => resolve(true));
  socket.once("error", () => resolve(false));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

/** The best contact of a name at any of the addresses. */
async function contactAny(addresses: readonly string[], port: number, host: string, ca: string) {
  const contacts = await Promise.all(
    addresses.map(async (address) => ({ host, address, ...(await contactIntake(address, port, host, ca)) })),
  );
  const first = (status: Contact["status"]) => contacts.find((contact) => contact.status === status);
  return (first("answered") ?? first("wrong") ?? first("unreachable"))!;
}

/** Why nothing can be said from this machine where no address answers; undefined where it should have reached one. */
async function whyUnknown({ mode, from }: Exposure, addresses: readonly string[]): Promise<string | undefined> {
  if (from.length > 0) return `this machine may be outside of ${from.join(", ")}, which alone may connect`;
  if (mode !== "nodeport") return undefined;
  const near = await Promise.all(addresses.map((address) => accepts(address, KUBELET_PORT)));
  return near.includes(true) ? undefined : `no node can be reached from this machine (${addresses.join(", ")})`;
}

export const exposeCheck: Check<Pick<ProbeSession, "cluster">> = {
  id: "intake-exposed",
  title: "the intake answers senders outside the cluster",
  needs: ["producer-ready", "network-policies"],
  limitMs: 60_000,
  async run({ cluster }) {
    const exposure = await readExposure(cluster);
    if (!exposure) return skipped("not exposed; bun scripts/deploy.ts --expose MODE --intake-host NAME opens it");
    if (exposure.hosts.length === 0) return failed(`the Namespace has no annotation ${INTAKE_HOSTS}`);
    const endpoint = await intakeEndpoint(cluster, exposure);
    if ("problem" in endpoint) return failed(endpoint.problem);
    const ca = (await readSecret(cluster, "producer-tls"))["ca.crt"];
    if (!ca) return failed("Secret producer-tls has no ca.crt");
    const { port } = endpoint;
    const addresses = endpoint.addresses.slice(0, MAX_ADDRESSES);
    if (addresses.length === 0) return skipped("this account may not read the addresses of the nodes");
    const contacts = await Promise.all(exposure.hosts.map((host) => contactAny(addresses, port, host, ca)));
    if (contacts.every(({ status }) => status === "unreachable")) {
      const reason = await whyUnknown(exposure, addresses);
      if (reason) return skipped(`${reason}: try it from a sender's`);
    }
    const problems = contacts
      .filter(({ status }) => status !== "answered")
      .map(({ host, address, detail }) => `${host} at ${address} port ${port}: ${detail}`);
    const reached = contacts.map(({ host, address }) => `${host} at ${address}`).join(", ");
    return outcomeOf(problems, `${reached}, port ${port}, with its certificate`);
  },
};
