/**
 * The TLS properties of an endpoint, measured by handshakes with openssl: protocol versions, cipher suites of TLS 1.2,
 * server certificate, and whether a client certificate is required.
 */
import { X509Certificate } from "node:crypto";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { capture } from "../cli/process.ts";

/** A handshake takes milliseconds; a server without a response has no TLS. */
const HANDSHAKE_LIMIT_MS = 10_000;
/** Most cipher suites that are enumerated; current servers have ten to twenty. */
const MAX_CIPHERS = 60;

export const PROTOCOLS = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] as const;
type Protocol = (typeof PROTOCOLS)[number];

const FLAG: Record<Protocol, string> = {
  TLSv1: "-tls1",
  "TLSv1.1": "-tls1_1",
  "TLSv1.2": "-tls1_2",
  "TLSv1.3": "-tls1_3",
};
/** Includes weak suites, which openssl disables by default: the server must reject them. */
const EVERYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";

export interface Endpoint {
  host: string;
  port: number;
  /** Name that the server's certificate must have. */
  servername: string;
}

export interface ClientFiles {
  /** Paths of PEM files. */
  ca: string;
  cert?: string;
  key?: string;
}

export interface Handshake {
  ok: boolean;
  protocol?: string;
  cipher?: string;
  /** The server's certificate verifies against the CA, for that name. */
  verified: boolean;
  /** The server requested a client certificate. */
  certificateRequested: boolean;
  certificate?: X509Certificate;
  /** Error message of openssl after a failed handshake. */
  reason: string;
}

export function readHandshake(output: string): Handshake {
  const pem = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/.exec(output)?.[0];
  const [, protocol, cipher] = /^New, (\S+), Cipher is (\S+)$/m.exec(output) ?? [];
  // A server that rejects the client's certificate has selected a suite before.
  const ok = cipher !== undefined && cipher !== "(NONE)" && !/:error:.*\balert\b/.test(output);
  const alert =
    /alert [a-z ]+|no protocols available|no ciphers available|wrong version number|Connection refused|unexpected eof/i.exec(
      output.replaceAll("_", " "),
    );
  // The line of the session has the negotiated version; the first line has that of the suite.
  const session = /^\s+Protocol\s*:\s*(\S+)$/m.exec(output)?.[1] ?? protocol;
  return {
    ok,
    ...(ok && session ? { protocol: session } : {}),
    ...(ok ? { cipher } : {}),
    verified: /Verify return code: 0 \(ok\)|Verification: OK/.test(output),
    certificateRequested: /^(?:Requested Signature Algorithms|Client Certificate Types):/m.test(output),
    ...(pem ? { certificate: new X509Certificate(pem) } : {}),
    reason: ok ? "" : (alert?.[0].toLowerCase() ?? "no handshake"),
  };
}

/** A server that does not respond within the limit has no handshake. */
function noResponse(error: unknown): { stdout: string; stderr: string } {
  if (error instanceof OperatorError && error.exitCode === EXIT.timeout) return { stdout: "", stderr: "" };
  throw error;
}

/** One handshake. @throws OperatorError (exit 3) without openssl. */
async function handshake(
  { host, port, servername }: Endpoint,
  client: ClientFiles,
  flags: readonly string[] = [],
): Promise<Handshake> {
  const openssl = Bun.which("openssl");
  if (!openssl) throw new OperatorError("openssl is not installed", { exitCode: EXIT.precondition });
  const identity = client.cert && client.key ? ["-cert", client.cert, "-key", client.key] : [];
  const { stdout, stderr } = await capture(
    [
      ...[openssl, "s_client", "-connect", `${host}:${port}`, "-servername", servername],
      ...["-verify_hostname", servername, "-CAfile", client.ca, ...identity, ...flags],
    ],
    { timeoutMs: HANDSHAKE_LIMIT_MS },
  ).catch(noResponse);
  return readHandshake(`${stdout}\n${stderr}`);
}

export interface TlsFindings {
  /** Undefined: the openssl of this machine does not support the version. */
  protocols: Record<Protocol, boolean | undefined>;
  /** Result for a client with default settings. */
  negotiated: { protocol: string; cipher: string };
  /** Suites of TLS 1.2 in the server's order; empty without TLS 1.2. */
  tls12Ciphers: string[];
  certificate: X509Certificate;
  verified: boolean;
  /** required: clients without one are rejected. wanted: requested, but optional. */
  clientCertificate: "required" | "wanted" | "none";
  /** Error of a client without a certificate; empty when it is accepted. */
  refusal: string;
}

/**
 * Measures one endpoint. @returns undefined when it does not use TLS.
 * @param client with a certificate that the endpoint accepts.
 */
export async function examine(endpoint: Endpoint, client: ClientFiles): Promise<TlsFindings | undefined> {
  const first = await handshake(endpoint, client);
  if (!first.ok || !first.certificate || !first.protocol || !first.cipher) return undefined;
  const attempts = await Promise.all(
    PROTOCOLS.map(async (protocol) => {
      const flags = [FLAG[protocol], ...(protocol === "TLSv1.3" ? [] : ["-cipher", EVERYTHING])];
      const { ok, reason } = await handshake(endpoint, client, flags);
      return [protocol, !ok && reason.includes("no protocols available") ? undefined : ok] as const;
    }),
  );
  const protocols = Object.fromEntries(attempts) as TlsFindings["protocols"];
  // In TLS 1.3 a client is rejected after the handshake, in TLS 1.2 during it.
  const without = await handshake(endpoint, { ca: client.ca }, protocols["TLSv1.2"] ? [FLAG["TLSv1.2"]] : []);
  return {
    protocols,
    negotiated: { protocol: first.protocol, cipher: first.cipher },
    tls12Ciphers: protocols["TLSv1.2"] ? await ciphersOf(endpoint, client) : [],
    certificate: first.certificate,
    verified: first.verified,
    clientCertificate: !without.ok
      ? "required"
      : first.certificateRequested || without.certificateRequested
        ? "wanted"
        : "none",
    refusal: without.ok ? "" : without.reason,
  };
}

/** Suites of TLS 1.2 that a server accepts: each round excludes those found before, until the server accepts none. */
async function ciphersOf(endpoint: Endpoint, client: ClientFiles): Promise<string[]> {
  const accepted: string[] = [];
  for (let round = 0; round < MAX_CIPHERS; round++) {
    const offer = EVERYTHING.replace("@", accepted.map((name) => `!${name}:`).join("") + "@");
    const { ok, cipher } = await handshake(endpoint, client, [FLAG["TLSv1.2"], "-cipher", offer]);
    if (!ok || !cipher || accepted.includes(cipher)) break;
    accepted.push(cipher);
  }
  return accepted;
}
