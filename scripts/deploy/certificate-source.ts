/**
 * The certificates of a deploy: those of the folder, after a comparison with the CA of the deployed pipeline. A folder
 * without a CA (a fresh clone, a CI job) gets the certificates of the pipeline back from its Secrets.
 */
import { X509Certificate } from "node:crypto";
import { copyFile, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { authorityId } from "../cli/pki.ts";
import type { Cluster } from "../cluster/cluster.ts";
import {
  type CertificateStatus,
  ensureCertificates,
  type Identity,
  identitiesFor,
  storeCertificates,
} from "./certificates.ts";
import { contentsOf, FILL_FROM, recipeOf } from "./secrets.ts";
import type { Stage } from "./stages.ts";

export interface CertificateSource {
  /** Folder of the certificates. */
  folder: string;
  /** Permission to replace the CA of a deployed pipeline. */
  newCa: boolean;
  /** Names and addresses under which senders outside the cluster reach the intake. */
  intakeHosts?: readonly string[] | undefined;
}

export interface PreparedCertificates {
  statuses: CertificateStatus[];
  /** Files that were read back from the cluster. */
  restored: string[];
}

/**
 * Ensures that the folder has valid certificates of the deployed pipeline's CA, or of a new CA where nothing is deployed.
 * @throws OperatorError (exit 3) when the folder has another CA than the deployed pipeline, unless `newCa` is set
 */
export async function prepareCertificates(
  cluster: Cluster,
  stages: readonly Stage[],
  { folder, newCa, intakeHosts = [] }: CertificateSource,
  signal: AbortSignal,
): Promise<PreparedCertificates> {
  const deployed = await deployedCertificates(cluster, stages, signal);
  const [ca, hasKey] = [await readText(folder, "ca.crt"), (await readText(folder, "ca.key")) !== undefined];
  const deployedCa = newCa ? undefined : deployed["ca.crt"];
  if (deployedCa && ca && authorityId(ca) !== authorityId(deployedCa)) throw otherAuthority(folder, ca, deployedCa);
  const files = deployedCa ? await filesToRestore(folder, deployed, ca, hasKey) : {};
  const restored = Object.keys(files);
  if (restored.length > 0) await storeCertificates(folder, files);
  // Without the CA's key nothing can be issued: a stage that needs another certificate names it.
  const issuable = hasKey || (!ca && restored.length === 0);
  const all = identitiesFor(intakeHosts);
  const identities = issuable ? all : await existingIdentities(folder, all);
  return { statuses: await ensureCertificates(folder, { identities }), restored };
}

/** Runs work with a temporary copy of the folder: a dry run issues and reads back certificates without storing them. */
export async function withFolderCopy<T>(folder: string, work: (copy: string) => Promise<T>): Promise<T> {
  const copy = await mkdtemp(join(tmpdir(), "conveyor-certs-"));
  try {
    for (const file of await readdir(folder).catch(() => [])) {
      // Without the lock and the work folders of a run, and without other folders, of which nothing is read.
      const isContent = !file.startsWith(".") && (await Bun.file(join(folder, file)).exists());
      if (isContent) await copyFile(join(folder, file), join(copy, file));
    }
    return await work(copy);
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    const { message, hint, exitCode, cause } = error;
    throw new OperatorError(message.replaceAll(copy, folder), {
      hint: hint?.replaceAll(copy, folder),
      exitCode,
      cause,
    });
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

const readText = async (folder: string, file: string) =>
  await readFile(join(folder, file), "utf8").catch(() => undefined);

/**
 * The files of the pipeline that the folder takes. A folder with a CA and its key is complete, or lacks what an operator has
 * deleted so that it is issued again; without the key only the cluster has what is missing, also after a run that was
 * interrupted while it read them back. Pairs that were issued later, by a deploy from another folder, replace those of this
 * one: it must not bring back a key that was replaced because it leaked.
 */
async function filesToRestore(
  folder: string,
  deployed: Readonly<Record<string, string>>,
  ca: string | undefined,
  hasKey: boolean,
): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for (const [file, content] of Object.entries(deployed)) {
    const isMissing = !(ca && hasKey) && (await readText(folder, file)) === undefined;
    const certificate = file.replace(/\.\w+$/, ".crt");
    const isReplaced = ca !== undefined && isNewer(deployed[certificate], await readText(folder, certificate), ca);
    if (isMissing || isReplaced) files[file] = content;
  }
  return files;
}

/** True for a certificate that the CA has issued after another one. */
function isNewer(deployed: string | undefined, ours: string | undefined, ca: string): boolean {
  if (deployed === undefined || ours === undefined) return false;
  try {
    const [theirs, own, authority] = [deployed, ours, ca].map((pem) => new X509Certificate(pem));
    return theirs!.validFromDate > own!.validFromDate && theirs!.verify(authority!.publicKey);
  } catch {
    return false;
  }
}

async function existingIdentities(folder: string, all: readonly Identity[]) {
  const found = await Promise.all(all.map(({ name }) => Bun.file(join(folder, `${name}.crt`)).exists()));
  return all.filter((_, index) => found[index]);
}

/** The files of the certificate folder that the Secrets of a deployed pipeline contain; none where nothing is deployed. */
async function deployedCertificates(
  cluster: Cluster,
  stages: readonly Stage[],
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const declared = stages
    .flatMap(({ objects }) => objects)
    .filter(({ kind, metadata }) => kind === "Secret" && metadata.annotations?.[FILL_FROM] !== undefined);
  // First in the list: kafka-tls, whose CA the brokers trust.
  const contents = contentsOf(await cluster.existing(declared, signal));
  const files: Record<string, string> = {};
  for (const secret of declared) {
    for (const { key, source } of recipeOf(secret).entries) {
      const content = contents[secret.metadata.name]?.[key];
      if (!content) continue;
      files[source] ??= content;
      if (source.endsWith(".pem")) Object.assign(files, pemFiles(source, content));
    }
  }
  return files;
}

/** Key and certificate of a broker's combined file. */
function pemFiles(file: string, content: string): Record<string, string> {
  const start = content.indexOf("-----BEGIN CERTIFICATE-----");
  const name = file.slice(0, -".pem".length);
  return { [`${name}.key`]: content.slice(0, start), [`${name}.crt`]: content.slice(start) };
}

function otherAuthority(folder: string, ours: string, deployed: string): OperatorError {
  return new OperatorError(
    `the deployed pipeline has another CA than ${folder}: ${fingerprintOf(deployed)}, not ${fingerprintOf(ours)}`,
    {
      exitCode: EXIT.precondition,
      hint: [
        `to keep the pipeline's CA: mv ${folder} ${folder}.other, then the same command; it reads the certificates back from the cluster`,
        "to replace it: --new-ca; all brokers restart at once, and every sender needs the new ca.crt",
      ].join("\n"),
    },
  );
}

function fingerprintOf(pem: string): string {
  try {
    return `SHA-256 ${new X509Certificate(pem).fingerprint256}`;
  } catch {
    return "an unreadable certificate";
  }
}
