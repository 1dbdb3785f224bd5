/**
 * The project's certificates: one CA, one certificate for each broker, server and client.
 *
 * A second run keeps every valid certificate: same names, issued by the stored CA, with its key, and not due for renewal
 * within `renewBefore`. So it can run before every deploy. Each file is written under a temporary name and renamed. After
 * an interrupt between a key and its certificate the two do not match, and the next run recreates both.
 *
 * Files in the folder: `NAME.crt`, `NAME.key` (PKCS#8, 0600), for a broker also `NAME.pem` (key and certificate in
 * one file, the format in which Kafka reads PEM), and `ca.crt`, `ca.key`. The CA's key is used only here: no Secret
 * contains it, and it may be stored elsewhere until a certificate must be issued.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { chmod, mkdir, mkdtemp, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { createAuthority, issueCertificate, type KeyPair } from "../cli/pki.ts";
import { DEFAULT_NAMESPACE, LOGGING_NAMESPACE, NAMESPACE } from "../cluster/namespace.ts";

export interface Identity {
  /** File name, and the certificate's common name: for Kafka it is the principal, `User:NAME`. */
  name: string;
  /** Its host names and addresses, as in openssl's subjectAltName: `DNS:…`, `IP:…`. */
  subjectAltNames: string[];
  /** Kafka's brokers read key and certificate from one file. */
  combinedPem?: boolean;
}

/**
 * The names of a Service inside a cluster, shortest first. The project uses the third one, which the search list of every pod
 * completes, so it needs no cluster domain; the last one is for other clients, in a cluster with the default domain.
 */
function serviceNames(name: string, namespace = NAMESPACE): string[] {
  return [name, `${name}.${namespace}`, `${name}.${namespace}.svc`, `${name}.${namespace}.svc.cluster.local`];
}

/** For probes and port-forwards, which connect to a pod over its loopback. */
const LOOPBACK = ["DNS:localhost", "IP:127.0.0.1"];

const server = (service: string | { name: string; namespace: string }, ...more: string[]): Identity => {
  const { name, namespace } = typeof service === "string" ? { name: service, namespace: NAMESPACE } : service;
  return {
    name,
    subjectAltNames: [...[...serviceNames(name, namespace), ...more].map((host) => `DNS:${host}`), ...LOOPBACK],
  };
};

const broker = (ordinal: number): Identity => ({
  name: `kafka-${ordinal}`,
  subjectAltNames: [
    // Clients connect to a broker by its name, and by that of the bootstrap Service.
    ...[...serviceNames(`kafka-${ordinal}.kafka-headless`), ...serviceNames("kafka")].map((host) => `DNS:${host}`),
    ...LOOPBACK,
  ],
  combinedPem: true,
});

/** All certificates. A new server or client needs a line here and a Secret in k8s/tls/. */
export const IDENTITIES: readonly Identity[] = [
  broker(0),
  broker(1),
  broker(2),
  server("influxdb"),
  // Clients also connect to one replica by its name, and the number of replicas changes.
  server("producer", `*.producer-headless.${NAMESPACE}.svc`, `*.producer-headless.${NAMESPACE}.svc.cluster.local`),
  server("processor"),
  server("lag-exporter"),
  server("loki"),
  server("grafana"),
  server({ name: "promtail", namespace: LOGGING_NAMESPACE }),
  server("victorialogs"),
  server({ name: "vlagent", namespace: LOGGING_NAMESPACE }),
  server("prometheus"),
  server("alertmanager"),
  server("kube-state-metrics"),
  // Kafka's administrator: the setup Job and the operator's checks. A client, never a server.
  { name: "admin", subjectAltNames: ["DNS:admin"] },
];

/** The identity of the intake: its certificate also has the names under which senders outside the cluster reach it. */
const INTAKE = "producer";

const intakeIdentity = IDENTITIES.find(({ name }) => name === INTAKE)!;

/** All certificates, that of the intake with these additional names and addresses. */
export function identitiesFor(intakeHosts: readonly string[]): Identity[] {
  const added = intakeHosts.map((host) => `${isIP(host) === 0 ? "DNS" : "IP"}:${host}`);
  const names = [...new Set([...intakeIdentity.subjectAltNames, ...added])];
  return IDENTITIES.map((identity) =>
    identity === intakeIdentity ? { ...identity, subjectAltNames: names } : identity,
  );
}

/** The additional names and addresses of a certificate of the intake. */
export const intakeHostsOf = (certificate: X509Certificate): string[] =>
  namesOf(certificate)
    .filter((name) => !intakeIdentity.subjectAltNames.includes(name))
    .map((name) => name.replace(/^\w+:/, ""));

/** Those of the certificate in a folder; none where it does not exist. */
export async function storedIntakeHosts(folder: string): Promise<string[]> {
  const found = await findPair(folder, INTAKE, new Date());
  return "certificate" in found ? intakeHostsOf(found.certificate) : [];
}

const CA_NAME = "ca";

/**
 * The folder of a pipeline's certificates unless a flag names another one: in the project, wherever a command is started, with a
 * folder in it for each other namespace, since certificates contain its name.
 */
export const certificateFolder = (namespace: string = NAMESPACE): string =>
  join(import.meta.dir, "../../certs", namespace === DEFAULT_NAMESPACE ? "" : namespace);

/** Long enough for rare deploys, short enough that renewal is exercised. */
export const DEFAULT_LEAF_DAYS = 365;
/** Some TLS clients refuse server certificates with a longer life. */
export const MAX_LEAF_DAYS = 825;
/** Time before its end at which a certificate is renewed. */
export const DEFAULT_RENEW_BEFORE_MS = 30 * 86_400_000;
/** The CA is valid for many generations of certificates; renewal keeps its key, which all clients trust. */
const CA_DAYS = 3650;
const DAY_MS = 86_400_000;

export interface CertificateOptions {
  /** Validity of a certificate (not of the CA) in days. Default 365, at most 825. */
  days?: number;
  /** Renew certificates that expire within this time, in milliseconds. Default 30 days. */
  renewBeforeMs?: number;
  /** Reissue every certificate, under the same CA. */
  force?: boolean;
  /** Create a new CA too: everything that trusts the old one must be deployed again, at once. */
  newCa?: boolean;
  identities?: readonly Identity[];
  /** The clock, for tests. */
  now?: Date;
}

export interface CertificateStatus {
  name: string;
  action: "created" | "renewed" | "kept";
  /** Why it was not kept. */
  reason?: string;
  subjectAltNames: string[];
  notAfter: string;
  daysLeft: number;
  fingerprint: string;
}

/** The certificate, or the reason why it cannot be used. */
type Found = { certificate: X509Certificate; key?: string } | { reason: string };

/**
 * Ensures that the folder has a CA and a valid certificate of every identity.
 * @returns one entry for the CA and each identity, in the order of the table.
 * @throws OperatorError: exit 2 for days out of range, exit 3 when openssl or the CA's key is missing.
 */
export async function ensureCertificates(
  folder: string,
  options: CertificateOptions = {},
): Promise<CertificateStatus[]> {
  const days = options.days ?? DEFAULT_LEAF_DAYS;
  if (!Number.isInteger(days) || days < 1 || days > MAX_LEAF_DAYS) {
    throw new OperatorError(`--days: must be a whole number from 1 to ${MAX_LEAF_DAYS}; got ${days}`, {
      exitCode: EXIT.usage,
    });
  }
  const renewBeforeMs = options.renewBeforeMs ?? DEFAULT_RENEW_BEFORE_MS;
  if (!Number.isFinite(renewBeforeMs) || renewBeforeMs < 0 || renewBeforeMs >= days * DAY_MS) {
    throw new OperatorError(
      `--renew-before: must be shorter than the life of a certificate (${days} days); got ${renewBeforeMs / DAY_MS} days`,
      { exitCode: EXIT.usage, hint: "a certificate would be due for renewal as soon as it is issued" },
    );
  }
  const now = options.now ?? new Date();
  const identities = options.identities ?? IDENTITIES;
  return await underLock(folder, now, async (issuer) => {
    const statuses = [await ensureAuthority(issuer, days * DAY_MS + renewBeforeMs, options)];
    const authority = await readAuthority(folder);
    for (const identity of identities) {
      statuses.push(await ensureLeaf(issuer, authority, identity, { days, renewBeforeMs, force: options.force }));
    }
    return statuses;
  });
}

/** Stores certificates and keys that were read back from a cluster. */
export async function storeCertificates(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  // A certificate after its key: an interrupt leaves the earlier certificate, and the next run repeats the pair.
  const inOrder = Object.entries(files).sort(([a], [b]) => Number(a.endsWith(".crt")) - Number(b.endsWith(".crt")));
  await underLock(folder, new Date(), async (issuer) => {
    for (const [file, content] of inOrder) await issuer.publish(file, content, file.endsWith(".crt") ? 0o644 : 0o600);
  });
}

/** Days until the certificate ends, rounded down; negative when it has. */
export function daysLeft(certificate: X509Certificate, now = new Date()): number {
  return Math.floor((certificate.validToDate.getTime() - now.getTime()) / DAY_MS);
}

/** An address in its shortest form: certificates are read with IPv6 addresses in the longest one. */
export const shortAddress = (address: string): string =>
  isIP(address) === 6 ? new URL(`http://[${address}]`).hostname.slice(1, -1) : address;

/** Names of a certificate as in openssl's subjectAltName, sorted. */
export function namesOf(certificate: X509Certificate): string[] {
  return (certificate.subjectAltName ?? "")
    .split(", ")
    .filter(Boolean)
    .map((name) => name.replace(/^IP Address:(.*)$/, (_, address: string) => `IP:${shortAddress(address)}`))
    .sort();
}

// ── the CA ───────────────────────────────────────────────────────────────────────────────────────────────────────

async function ensureAuthority(
  issuer: Issuer,
  lifeNeededMs: number,
  options: CertificateOptions,
): Promise<CertificateStatus> {
  const found = await findPair(issuer.folder, CA_NAME, issuer.now);
  const usable = "certificate" in found && isAuthority(found.certificate);
  if (usable && !options.newCa) {
    // It must outlive every certificate that it issues.
    const enough = found.certificate.validToDate.getTime() - issuer.now.getTime() >= lifeNeededMs;
    if (enough || found.key === undefined) return statusOf(CA_NAME, "kept", found.certificate, issuer.now);
    const renewed = await issuer.selfSign(found.key);
    return statusOf(CA_NAME, "renewed", renewed, issuer.now, "it must outlive what it issues; same key");
  }
  const [hasCertificate, hasKey] = await Promise.all(
    ["crt", "key"].map((extension) => exists(join(issuer.folder, `${CA_NAME}.${extension}`))),
  );
  if (!options.newCa && (hasCertificate || hasKey)) return await recoverAuthority(issuer, found);
  const made = await issuer.selfSign();
  return hasCertificate
    ? statusOf(CA_NAME, "renewed", made, issuer.now, "requested")
    : statusOf(CA_NAME, "created", made, issuer.now);
}

/**
 * The CA of an incomplete or damaged pair. A new CA cuts off every client that trusts the old one, so only --new-ca creates
 * one: here the certificate is issued again with its key, or nothing is changed.
 * @throws OperatorError (exit 3) when the key is missing, damaged, or not that of the certificate
 */
async function recoverAuthority(issuer: Issuer, found: Found): Promise<CertificateStatus> {
  const reason = "reason" in found ? found.reason : "not a CA's certificate";
  const key = await readFile(join(issuer.folder, `${CA_NAME}.key`), "utf8").catch(() => undefined);
  if ((reason === "missing" || reason === "unreadable") && key !== undefined && isPrivateKey(key)) {
    return statusOf(CA_NAME, "renewed", await issuer.selfSign(key), issuer.now, `${reason}; same key`);
  }
  throw new OperatorError(`the CA in ${issuer.folder} cannot be used: ${CA_NAME}.crt: ${reason}`, {
    exitCode: EXIT.precondition,
    hint: `restore ${CA_NAME}.crt and ${CA_NAME}.key; if they are lost, create a new CA: bun scripts/generate-certs.ts --new-ca`,
  });
}

function isPrivateKey(text: string): boolean {
  try {
    createPrivateKey(text);
    return true;
  } catch {
    return false;
  }
}

function isAuthority(certificate: X509Certificate): boolean {
  return certificate.ca && certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey);
}

async function readAuthority(folder: string): Promise<X509Certificate> {
  return new X509Certificate(await readFile(join(folder, `${CA_NAME}.crt`)));
}

// ── certificates ─────────────────────────────────────────────────────────────────────────────────────────────────

async function ensureLeaf(
  issuer: Issuer,
  authority: X509Certificate,
  identity: Identity,
  options: { days: number; renewBeforeMs: number; force?: boolean | undefined },
): Promise<CertificateStatus> {
  const found = await findPair(issuer.folder, identity.name, issuer.now);
  const reason = options.force ? "requested" : whyRenew(found, authority, identity, issuer.now, options.renewBeforeMs);
  // Names that are not wanted any more do no harm, and an intake must be closed without the CA's key too.
  const isUsable =
    reason === NAMES_CHANGED &&
    "certificate" in found &&
    identity.subjectAltNames.every((name) => namesOf(found.certificate).includes(name)) &&
    !(await exists(join(issuer.folder, `${CA_NAME}.key`)));
  if ((reason === undefined || isUsable) && "certificate" in found && found.key !== undefined) {
    if (identity.combinedPem) await keepCombined(issuer, identity.name, found.key);
    return statusOf(identity.name, "kept", found.certificate, issuer.now);
  }
  const existed = await exists(join(issuer.folder, `${identity.name}.crt`));
  const made = await issuer.issue(identity, options.days);
  return statusOf(
    identity.name,
    existed ? "renewed" : "created",
    made,
    issuer.now,
    existed ? (reason ?? "no key beside it") : undefined,
  );
}

const NAMES_CHANGED = "names have changed";

function whyRenew(
  found: Found,
  authority: X509Certificate,
  identity: Identity,
  now: Date,
  renewBeforeMs: number,
): string | undefined {
  if ("reason" in found) return found.reason;
  const { certificate, key } = found;
  if (key === undefined) return "no key beside it";
  if (!certificate.checkIssued(authority) || !certificate.verify(authority.publicKey)) return "issued by another CA";
  if (certificate.subject !== `CN=${identity.name}`) return `issued for ${certificate.subject}`;
  const left = certificate.validToDate.getTime() - now.getTime();
  if (left <= renewBeforeMs) return left <= 0 ? "expired" : `ends in ${daysLeft(certificate, now)} days`;
  return namesOf(certificate).join() === [...identity.subjectAltNames].sort().join() ? undefined : NAMES_CHANGED;
}

/** Recreates Kafka's file from the pair when it is missing or different. */
async function keepCombined(issuer: Issuer, name: string, key: string): Promise<void> {
  const combined = combine(key, await readFile(join(issuer.folder, `${name}.crt`), "utf8"));
  const current = await readFile(join(issuer.folder, `${name}.pem`), "utf8").catch(() => undefined);
  if (current !== combined) await issuer.publish(`${name}.pem`, combined, 0o600);
}

const combine = (key: string, certificate: string) => `${key.trim()}\n${certificate.trim()}\n`;

// ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

async function findPair(folder: string, name: string, now: Date): Promise<Found> {
  const text = await readFile(join(folder, `${name}.crt`), "utf8").catch(() => undefined);
  if (text === undefined) return { reason: "missing" };
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(text);
  } catch {
    return { reason: "unreadable" };
  }
  if (certificate.validFromDate.getTime() > now.getTime()) return { reason: "not valid yet" };
  const key = await readFile(join(folder, `${name}.key`), "utf8").catch(() => undefined);
  if (key === undefined) return { certificate };
  try {
    if (!certificate.checkPrivateKey(createPrivateKey(key))) return { reason: "key and certificate do not match" };
  } catch {
    return { reason: "its key is unreadable" };
  }
  await chmod(join(folder, `${name}.key`), 0o600);
  return { certificate, key };
}

async function exists(path: string): Promise<boolean> {
  return await Bun.file(path).exists();
}

function statusOf(
  name: string,
  action: CertificateStatus["action"],
  certificate: X509Certificate,
  now: Date,
  reason?: string,
): CertificateStatus {
  return {
    name,
    action,
    reason,
    subjectAltNames: namesOf(certificate),
    notAfter: certificate.validToDate.toISOString(),
    daysLeft: daysLeft(certificate, now),
    fingerprint: certificate.fingerprint256,
  };
}

// ── signing ──────────────────────────────────────────────────────────────────────────────────────────────────────

const WORK_PREFIX = ".making-";

/** Signs in a temporary folder beside the certificates and stores the results. */
class Issuer {
  readonly folder: string;
  readonly #work: string;
  readonly now: Date;

  constructor(folder: string, work: string, now: Date) {
    this.folder = folder;
    this.#work = work;
    this.now = now;
  }

  /** The CA's certificate, with a new key or with the given one. */
  async selfSign(key?: string): Promise<X509Certificate> {
    const made = await createAuthority("Conveyor Pipeline CA", { ...this.#signing(CA_DAYS), key });
    return await this.#store(CA_NAME, made);
  }

  /** A certificate for an identity, with a new key. @throws OperatorError (exit 3) without the CA's key. */
  async issue({ name, subjectAltNames, combinedPem }: Identity, days: number): Promise<X509Certificate> {
    const path = (file: string) => join(this.folder, file);
    const key = await readFile(path(`${CA_NAME}.key`), "utf8").catch(() => {
      throw new OperatorError(`the certificate of ${name} must be issued, but ${path(`${CA_NAME}.key`)} is missing`, {
        exitCode: EXIT.precondition,
        hint: "restore the CA's key for this run, or create a new CA: bun scripts/generate-certs.ts --new-ca",
      });
    });
    const authority = { key, certificate: await readFile(path(`${CA_NAME}.crt`), "utf8") };
    const made = await issueCertificate(authority, { commonName: name, names: subjectAltNames }, this.#signing(days));
    return await this.#store(name, made, combinedPem);
  }

  /** Stores a file complete or not at all; an interrupted run leaves its temporary file in the work folder. */
  async publish(file: string, content: string, mode: number): Promise<void> {
    const temporary = join(this.#work, file);
    await writeFile(temporary, content, { mode });
    await rename(temporary, join(this.folder, file));
  }

  #signing = (days: number) => ({ days, now: this.now, workFolder: this.#work });

  async #store(name: string, { key, certificate }: KeyPair, combinedPem = false): Promise<X509Certificate> {
    await this.publish(`${name}.key`, key, 0o600);
    if (combinedPem) await this.publish(`${name}.pem`, combine(key, certificate), 0o600);
    await this.publish(`${name}.crt`, certificate, 0o644);
    return new X509Certificate(certificate);
  }
}

// ── one run at a time ────────────────────────────────────────────────────────────────────────────────────────────

/** Runs work that changes the folder, which is created; one at a time. */
async function underLock<T>(folder: string, now: Date, work: (issuer: Issuer) => Promise<T>): Promise<T> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const unlock = await lock(folder);
  try {
    const temporary = await mkdtemp(join(folder, WORK_PREFIX));
    try {
      return await work(new Issuer(folder, temporary, now));
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  } finally {
    await unlock();
  }
}

/** Two concurrent runs could mix the certificates of two CAs. The lock of a process that has ended is ignored. */
async function lock(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, ".lock");
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const file = await open(path, "wx", 0o600);
      await file.writeFile(`${process.pid}\n`);
      await file.close();
      // Leftovers of a killed run contain keys.
      for (const entry of await readdir(folder)) {
        if (entry.startsWith(WORK_PREFIX)) await rm(join(folder, entry), { recursive: true, force: true });
      }
      return async () => await rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      const holder = Number((await readFile(path, "utf8").catch(() => "")).trim());
      if (holder > 0 && isRunning(holder)) {
        throw new OperatorError(`process ${holder} is creating the certificates in ${folder}`, {
          hint: "run the command again when that process has ended",
        });
      }
      await rm(path, { force: true });
    }
  }
  throw new OperatorError(`${path} cannot be taken: another run is creating certificates`);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
