/**
 * Keys and certificates, signed by openssl: keys on P-256 in PKCS#8, certificates with random serial numbers, both as PEM
 * text. The caller stores them.
 */
import { createHash, createPublicKey, generateKeyPairSync, randomBytes, X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXIT, OperatorError } from "./errors.ts";
import { capture } from "./process.ts";

/** One openssl call takes about 10 ms; beyond this it hangs. */
const OPENSSL_LIMIT_MS = 20_000;
/** Valid from a little before now: clocks of nodes differ, and a certificate from the future is refused. */
const CLOCK_SKEW_MS = 5 * 60_000;
/** 16 random bytes are unique without a register (RFC 5280 allows up to 20). */
const SERIAL_BYTES = 16;
const DAY_MS = 86_400_000;

/** A certificate and its private key, as PEM. */
export interface KeyPair {
  certificate: string;
  key: string;
}

export interface CertificateSubject {
  commonName: string;
  organization?: string;
  /** Subject alternative names as openssl writes them: "DNS:…", "IP:…". */
  names?: readonly string[];
}

export interface SigningOptions {
  days: number;
  /** Start of the validity. Default: the current time. */
  now?: Date;
  /** Where openssl's work files, among them the keys, are for a moment. Default: the system's temporary folder. */
  workFolder?: string;
}

/** A new private key. */
export function createKey(): string {
  const { privateKey } = generateKeyPairSync("ec", {
    namedCurve: "P-256",
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
    publicKeyEncoding: { type: "spki", format: "pem" },
  });
  return privateKey;
}

/** The public key of a private key, as PEM. */
export const publicKeyOf = (key: string): string =>
  createPublicKey(key).export({ type: "spki", format: "pem" }).toString();

/**
 * Identity of an authority: a hash of its subject and public key. A renewed certificate with the same key is the same
 * authority: who trusts one of the two accepts what the other issued. Text that is no certificate identifies itself.
 */
export function authorityId(pem: string): string {
  const hash = createHash("sha256");
  try {
    const { subject, publicKey } = new X509Certificate(pem);
    hash.update(subject).update(publicKey.export({ type: "spki", format: "der" }));
  } catch {
    hash.update(pem.trim());
  }
  return hash.digest("hex").slice(0, 16);
}

/** A self-signed certificate of an authority, with a new key or with the given one. */
export async function createAuthority(
  commonName: string,
  options: SigningOptions & { key?: string },
): Promise<KeyPair> {
  const key = options.key ?? createKey();
  const extensions = [
    "basicConstraints = critical, CA:TRUE, pathlen:0",
    "keyUsage = critical, keyCertSign, cRLSign",
    "subjectKeyIdentifier = hash",
  ];
  return { key, certificate: await sign({ commonName }, key, extensions, options) };
}

/** A certificate for both ends of a TLS connection, with a new key. */
export async function issueCertificate(
  authority: KeyPair,
  subject: CertificateSubject,
  options: SigningOptions,
): Promise<KeyPair> {
  const key = createKey();
  const extensions = [
    "basicConstraints = critical, CA:FALSE",
    "keyUsage = critical, digitalSignature",
    "extendedKeyUsage = serverAuth, clientAuth",
    "subjectKeyIdentifier = hash",
    "authorityKeyIdentifier = keyid",
  ];
  if (subject.names?.length) extensions.push(`subjectAltName = ${subject.names.join(", ")}`);
  return { key, certificate: await sign(subject, key, extensions, options, authority) };
}

/** What `openssl ca` requires; it is used because `openssl x509` before 3.4 cannot set the start date. */
const configuration = (extensions: readonly string[]) =>
  [
    "[ca]",
    "default_ca = authority",
    "[authority]",
    "database = index.txt",
    "serial = serial",
    "new_certs_dir = .",
    "default_md = sha256",
    "policy = policy",
    "x509_extensions = extensions",
    "unique_subject = no",
    "[policy]",
    "organizationName = optional",
    "commonName = supplied",
    "[req]",
    "distinguished_name = subject",
    "[subject]",
    "[extensions]",
    ...extensions,
    "",
  ].join("\n");

/** A serial number is positive (first bit 0) and fills its bytes (second bit 1). */
function newSerial(): string {
  const serial = randomBytes(SERIAL_BYTES);
  serial[0] = (serial[0]! & 0x3f) | 0x40;
  return serial.toString("hex").toUpperCase();
}

async function sign(
  { commonName, organization }: CertificateSubject,
  key: string,
  extensions: readonly string[],
  { days, now = new Date(), workFolder = tmpdir() }: SigningOptions,
  authority?: KeyPair,
): Promise<string> {
  const work = await mkdtemp(join(workFolder, ".pki-"));
  try {
    const write = (name: string, text: string) => writeFile(join(work, name), text, { mode: 0o600 });
    await write("openssl.cnf", configuration(extensions));
    await write("index.txt", "");
    await write("serial", `${newSerial()}\n`);
    await write("key.pem", key);
    if (authority) {
      await write("authority.crt", authority.certificate);
      await write("authority.key", authority.key);
    }
    const openssl = opensslIn(work);
    const subject = `${organization ? `/O=${organization}` : ""}/CN=${commonName}`;
    await openssl([
      "req",
      "-new",
      "-config",
      "openssl.cnf",
      "-key",
      "key.pem",
      "-subj",
      subject,
      "-out",
      "request.pem",
    ]);
    // To the second, upwards: a certificate for 365 days has 365 days left when it is issued.
    const end = new Date(Math.ceil((now.getTime() + days * DAY_MS) / 1000) * 1000);
    const dates = ["-startdate", asn1Time(new Date(now.getTime() - CLOCK_SKEW_MS)), "-enddate", asn1Time(end)];
    const signer = authority
      ? ["-cert", "authority.crt", "-keyfile", "authority.key"]
      : ["-selfsign", "-keyfile", "key.pem"];
    const files = ["-in", "request.pem", "-out", "certificate.pem"];
    await openssl(["ca", "-batch", "-notext", "-config", "openssl.cnf", ...dates, ...signer, ...files]);
    return await readFile(join(work, "certificate.pem"), "utf8");
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** 2026-11-25T02:42:00Z as 20261125024200Z. */
const asn1Time = (date: Date) => date.toISOString().replace(/[-:T]/g, "").replace(/\.\d+/, "");

const opensslIn = (folder: string) => async (args: readonly string[]) => {
  if (!Bun.which("openssl")) {
    throw new OperatorError("openssl is not installed", {
      exitCode: EXIT.precondition,
      hint: "install it from your system's packages, for example: apt-get install openssl",
    });
  }
  const { exitCode, stderr } = await capture(["openssl", ...args], { cwd: folder, timeoutMs: OPENSSL_LIMIT_MS });
  if (exitCode !== 0) {
    throw new OperatorError(`openssl ${args[0]} failed (exit ${exitCode})`, { cause: new Error(stderr.trim()) });
  }
};
