/**
 * What a TLS endpoint really accepts, found out by handshakes with openssl: which protocol versions, which cipher suites
 * of TLS 1.2, whose certificate, and whether it wants one of the client. Nothing is read from a configuration.
 */
import { X509Certificate } from "node:crypto";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { capture } from "../cli/process.ts";

/** A handshake takes milliseconds; a server that says nothing at all is no TLS server. */
const HANDSHAKE_LIMIT_MS = 10_000;
/** Rounds of asking for one more cipher suite; servers of today have ten to twenty. */
const MAX_CIPHERS = 60;

export const PROTOCOLS = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] as const;
export type Protocol = (typeof PROTOCOLS)[number];

const FLAG: Record<Protocol, string> = {
  TLSv1: "-tls1",
  "TLSv1.1": "-tls1_1",
  "TLSv1.2": "-tls1_2",
  "TLSv1.3": "-tls1_3",
};
/** Old versions and weak suites are offered on purpose; a modern library leaves them out unless it is told. */
const EVERYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";

export interface Endpoint {
  host: string;
  port: number;
  /** Name that the server's certificate must be for. */
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
  /** The server asked for a certificate. */
  asked: boolean;
  certificate?: X509Certificate;
  /** The last thing that openssl said about a refusal. */
  reason: string;
}

/** The result of `openssl s_client` from what it printed. */
export function readHandshake(output: string): Handshake {
  const pem = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/.exec(output)?.[0];
  const [, protocol, cipher] = /^New, (\S+), Cipher is (\S+)$/m.exec(output) ?? [];
  // A server that refuses the client's certificate has chosen a suite before it says so.
  const ok = cipher !== undefined && cipher !== "(NONE)" && !/:error:.*\balert\b/.test(output);
  const alert =
    /alert [a-z ]+|no protocols available|no ciphers available|wrong version number|Connection refused|unexpected eof/i.exec(
      output.replaceAll("_", " "),
    );
  // The session's own line is the negotiated version; the first line names the suite's.
  const session = /^\s+Protocol\s*:\s*(\S+)$/m.exec(output)?.[1] ?? protocol;
  return {
    ok,
    ...(ok && session ? { protocol: session } : {}),
    ...(ok ? { cipher } : {}),
    verified: /Verify return code: 0 \(ok\)|Verification: OK/.test(output),
    asked: /^(?:Requested Signature Algorithms|Client Certificate Types):/m.test(output),
    ...(pem ? { certificate: new X509Certificate(pem) } : {}),
    reason: ok ? "" : (alert?.[0].toLowerCase() ?? "no handshake"),
  };
}

/** A server that does not answer within the limit is one without a handshake. */
function noAnswer(error: unknown): { stdout: string; stderr: string } {
  if (error instanceof OperatorError && error.exitCode === EXIT.timeout) return { stdout: "", stderr: "" };
  throw error;
}

/** One handshake. @throws OperatorError (exit 3) without openssl. */
export async function shakeHands(
  { host, port, servername }: Endpoint,
  client: ClientFiles,
  flags: readonly string[] = [],
): Promise<Handshake> {
  const openssl = Bun.which("openssl");
  if (!openssl) throw new OperatorError("openssl is not installed", { exitCode: EXIT.precondition });
  const identity = client.cert && client.key ? ["-cert", client.cert, "-key", client.key] : [];
  const { stdout, stderr } = await capture(
    [
      openssl,
      "s_client",
      "-connect",
      `${host}:${port}`,
      "-servername",
      servername,
      "-verify_hostname",
      servername,
      "-CAfile",
      client.ca,
      ...identity,
      ...flags,
    ],
    { timeoutMs: HANDSHAKE_LIMIT_MS },
  ).catch(noAnswer);
  return readHandshake(`${stdout}\n${stderr}`);
}

export interface TlsFindings {
  /** Undefined: the openssl of this machine cannot offer this version, so nothing is known. */
  protocols: Record<Protocol, boolean | undefined>;
  /** What a client of today ends up with. */
  negotiated: { protocol: string; cipher: string };
  /** Suites of TLS 1.2 in the server's own order; empty where it refuses TLS 1.2. */
  tls12Ciphers: string[];
  certificate: X509Certificate;
  verified: boolean;
  /** required: a client without one is refused. wanted: asked for, and let in without. */
  clientCertificate: "required" | "wanted" | "none";
  /** How a client without a certificate is refused, where it is. */
  refusal: string;
}

/**
 * Everything about one endpoint, or undefined when it does not speak TLS at all.
 * @param client with a certificate that the endpoint accepts where it wants one
 */
export async function examine(endpoint: Endpoint, client: ClientFiles): Promise<TlsFindings | undefined> {
  const first = await shakeHands(endpoint, client);
  if (!first.ok || !first.certificate || !first.protocol || !first.cipher) return undefined;
  const anonymous: ClientFiles = { ca: client.ca };
  const attempts = await Promise.all(
    PROTOCOLS.map(async (protocol) => {
      const flags = [FLAG[protocol], ...(protocol === "TLSv1.3" ? [] : ["-cipher", EVERYTHING])];
      const { ok, reason } = await shakeHands(endpoint, client, flags);
      return [protocol, !ok && reason.includes("no protocols available") ? undefined : ok] as const;
    }),
  );
  const protocols = Object.fromEntries(attempts) as TlsFindings["protocols"];
  // In TLS 1.3 a refusal of the client comes behind the handshake, so 1.2 is the version that tells at once.
  const without = await shakeHands(endpoint, anonymous, protocols["TLSv1.2"] ? [FLAG["TLSv1.2"]] : []);
  return {
    protocols,
    negotiated: { protocol: first.protocol, cipher: first.cipher },
    tls12Ciphers: protocols["TLSv1.2"] ? await ciphersOf(endpoint, client) : [],
    certificate: first.certificate,
    verified: first.verified,
    clientCertificate: !without.ok ? "required" : first.asked || without.asked ? "wanted" : "none",
    refusal: without.ok ? "" : without.reason,
  };
}

/** Suites of TLS 1.2 that a server takes: it is offered all, then all but those it took, until it takes none. */
async function ciphersOf(endpoint: Endpoint, client: ClientFiles): Promise<string[]> {
  const taken: string[] = [];
  for (let round = 0; round < MAX_CIPHERS; round++) {
    const offer = [...EVERYTHING.split(":").slice(0, 2), ...taken.map((name) => `!${name}`), "@SECLEVEL=0"].join(":");
    const { ok, cipher } = await shakeHands(endpoint, client, [FLAG["TLSv1.2"], "-cipher", offer]);
    if (!ok || !cipher || taken.includes(cipher)) break;
    taken.push(cipher);
  }
  return taken;
}
