/**
 * Keys and certificates of the cluster itself (not of the pipeline): one CA for the API server and its clients, one for
 * etcd, one for the aggregation layer, so that no part accepts a certificate of another authority.
 */
import { mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomic } from "../cli/files.ts";
import {
  type CertificateSubject,
  createAuthority,
  createKey,
  issueCertificate,
  type KeyPair,
  publicKeyOf,
} from "../cli/pki.ts";

/** A throw-away cluster on one machine: its keys live as long as it does. */
const VALID_DAYS = 3650;

type Authority = "ca" | "etcd-ca" | "front-proxy-ca";

export interface CertificateRequest extends CertificateSubject {
  /** File name without extension. */
  name: string;
  authority: Authority;
}

const AUTHORITIES: readonly Authority[] = ["ca", "etcd-ca", "front-proxy-ca"];

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );

/**
 * Creates authorities, certificates and the service accounts' key where they are missing. A certificate is also created
 * again when its request (names, addresses) or its authority has changed. Authorities and the service accounts' key are
 * kept: with new ones, every token and kubeconfig in use would be invalid.
 * @returns the names of what was created
 */
export async function ensurePki(folder: string, requests: readonly CertificateRequest[]): Promise<string[]> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = (file: string) => join(folder, file);
  // Each file is complete; the certificate or the stamp is written last, so that an interrupted run is repeated.
  const store = async (name: string, { key, certificate }: KeyPair) => {
    await writeAtomic(path(`${name}.key`), key, 0o600);
    await writeAtomic(path(`${name}.crt`), certificate, 0o600);
  };
  // What an interrupted run left in it holds keys.
  const workFolder = path("new");
  await rm(workFolder, { recursive: true, force: true });
  await mkdir(workFolder, { mode: 0o700 });
  const signing = { days: VALID_DAYS, workFolder };
  const created: string[] = [];
  const renewed = new Set<Authority>();
  await Promise.all(
    AUTHORITIES.map(async (name) => {
      if (await exists(path(`${name}.crt`))) return;
      await store(name, await createAuthority(`conveyor-local-${name}`, signing));
      renewed.add(name);
      created.push(name);
    }),
  );
  await Promise.all(
    requests.map(async (request) => {
      const stamp = path(`${request.name}.json`);
      const wanted = JSON.stringify(request);
      const isCurrent = (await readFile(stamp, "utf8").catch(() => "")) === wanted;
      if (isCurrent && !renewed.has(request.authority)) return;
      const authority = {
        key: await readFile(path(`${request.authority}.key`), "utf8"),
        certificate: await readFile(path(`${request.authority}.crt`), "utf8"),
      };
      const pair = await issueCertificate(authority, request, signing);
      await rm(stamp, { force: true });
      await store(request.name, pair);
      await writeAtomic(stamp, wanted, 0o600);
      created.push(request.name);
    }),
  );
  if (!(await exists(path("service-accounts.pub")))) {
    const key = createKey();
    await writeAtomic(path("service-accounts.key"), key, 0o600);
    await writeAtomic(path("service-accounts.pub"), publicKeyOf(key), 0o600);
    created.push("service-accounts");
  }
  await rm(workFolder, { recursive: true, force: true });
  return created;
}

/** A kubeconfig that contains certificate and key, so that the file alone is enough. */
export async function kubeconfigText(pki: string, client: string, server: string, context: string): Promise<string> {
  const encoded = async (file: string) => (await readFile(join(pki, file))).toString("base64");
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: context, cluster: { server, "certificate-authority-data": await encoded("ca.crt") } }],
    users: [
      {
        name: client,
        user: {
          "client-certificate-data": await encoded(`${client}.crt`),
          "client-key-data": await encoded(`${client}.key`),
        },
      },
    ],
    contexts: [{ name: context, context: { cluster: context, user: client } }],
    "current-context": context,
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}
