/** Checks of the certificates in the cluster: issuer, key, validity. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { authorityId } from "../cli/pki.ts";
import type { ProbeSession } from "../clients/probe-session.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { recipeOf } from "../deploy/secrets.ts";
import { deployedStages } from "../deploy/stages.ts";
import { type Check, failed, outcomeOf } from "./checklist.ts";

/** Fewer days are a violation; generate-certs and deploy renew at 30. */
const MIN_DAYS_LEFT = 7;

const MS_PER_DAY = 86_400_000;

/** Names of the deployed Secrets with certificates; kafka-tls has one PEM file per broker. */
async function tlsSecrets(cluster: Cluster): Promise<string[]> {
  const objects = (await deployedStages(cluster)).stages.flatMap((stage) => stage.objects);
  return objects
    .filter(({ kind, metadata }) => kind === "Secret" && metadata.namespace === NAMESPACE)
    .filter((secret) => recipeOf(secret).how === "fill-from")
    .map(({ metadata }) => metadata.name);
}

export interface CertificateFacts {
  /** Secret and entry. */
  where: string;
  subject: string;
  daysLeft: number;
  /** Undefined for a valid certificate. */
  problem?: string;
}

/** Checks the certificates of one Secret against the CA of the deployment. */
export function judgeCertificates(
  secret: string,
  entries: Record<string, string>,
  ca: X509Certificate,
  now: number,
): CertificateFacts[] {
  const pairs: { where: string; certificate: string | undefined; key: string | undefined }[] = [];
  for (const name of Object.keys(entries).filter((name) => name.endsWith(".pem"))) {
    pairs.push({ where: `${secret}/${name}`, certificate: entries[name], key: entries[name] });
  }
  if ("tls.crt" in entries || "tls.key" in entries || pairs.length === 0) {
    pairs.push({ where: `${secret}/tls.crt`, certificate: entries["tls.crt"], key: entries["tls.key"] });
  }
  return pairs.map(({ where, certificate, key }) => {
    if (!certificate || !key) return { where, subject: "", daysLeft: 0, problem: "is missing" };
    try {
      const chain = certificate.slice(certificate.indexOf("-----BEGIN CERTIFICATE-----"));
      const leaf = new X509Certificate(chain);
      const daysLeft = Math.floor((Date.parse(leaf.validTo) - now) / MS_PER_DAY);
      const keyText = /-----BEGIN (?:\w+ )?PRIVATE KEY-----[\s\S]*?-----END (?:\w+ )?PRIVATE KEY-----/.exec(key)?.[0];
      const facts = { where, subject: leaf.subject.replaceAll("\n", ", "), daysLeft };
      if (!leaf.verify(ca.publicKey)) return { ...facts, problem: "was not issued by this deployment's CA" };
      if (!keyText || !leaf.checkPrivateKey(createPrivateKey(keyText))) {
        return { ...facts, problem: "does not match its key" };
      }
      if (Date.parse(leaf.validFrom) > now) return { ...facts, problem: `is not valid before ${leaf.validFrom}` };
      if (daysLeft < MIN_DAYS_LEFT)
        return { ...facts, problem: `has ${daysLeft} days left (at least ${MIN_DAYS_LEFT})` };
      return facts;
    } catch (error) {
      return { where, subject: "", daysLeft: 0, problem: `cannot be read: ${(error as Error).message}` };
    }
  });
}

export const certificatesCheck: Check<ProbeSession> = {
  id: "certificates",
  title: "certificates: one CA, matching keys, days left",
  needs: ["objects"],
  limitMs: 30_000,
  async run({ cluster }) {
    const secrets = await Promise.all(
      (await tlsSecrets(cluster)).map(async (name) => [name, await readSecret(cluster, name)] as const),
    );
    // The administrator's Secret defines the CA: only deploy writes it, and no workload mounts it.
    const caText = secrets.find(([name]) => name === "admin-tls")?.[1]["ca.crt"];
    if (!caText) return failed("admin-tls has no ca.crt", {});
    const ca = new X509Certificate(caText);
    const facts = secrets.flatMap(([name, entries]) => judgeCertificates(name, entries, ca, Date.now()));
    const authority = authorityId(caText);
    const otherCa = secrets
      .filter(([, entries]) => entries["ca.crt"] === undefined || authorityId(entries["ca.crt"]) !== authority)
      .map(([name]) => name);
    const problems = [
      ...facts.filter(({ problem }) => problem).map(({ where, problem }) => `${where} ${problem}`),
      ...otherCa.map((name) => `${name}/ca.crt is another CA`),
    ];
    const daysLeft = Math.min(...facts.map(({ daysLeft }) => daysLeft));
    const data = { certificates: facts, min_days_left: daysLeft };
    return outcomeOf(problems, `${facts.length} certificates, the next expires in ${daysLeft} days`, data);
  },
};
