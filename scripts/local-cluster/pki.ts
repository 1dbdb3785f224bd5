/**
 * Keys and certificates of the cluster itself (not of the pipeline): one CA for the API server and its clients, one for
 * etcd, one for the aggregation layer, so that a certificate of one is worth nothing to another.
 */
import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { must } from "../cli/process.ts";

/** A throw-away cluster on one machine: its keys live as long as it does. */
const VALID_DAYS = 3650;
/** openssl answers within milliseconds. */
const OPENSSL_LIMIT_MS = 20_000;

type Authority = "ca" | "etcd-ca" | "front-proxy-ca";

export interface CertificateRequest {
  /** File name without ending. */
  name: string;
  authority: Authority;
  commonName: string;
  organization?: string;
  /** Subject alternative names as openssl writes them: "DNS:…", "IP:…". */
  names?: readonly string[];
}

const openssl = (args: readonly string[], input?: string) =>
  must(["openssl", ...args], { timeoutMs: OPENSSL_LIMIT_MS, ...(input === undefined ? {} : { input }) });

async function newKey(path: string): Promise<void> {
  await openssl(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path]);
  await chmod(path, 0o600);
}

async function makeAuthority(folder: string, name: Authority): Promise<void> {
  const [key, certificate] = [join(folder, `${name}.key`), join(folder, `${name}.crt`)];
  await newKey(key);
  const extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
  await openssl([
    ...["req", "-x509", "-new", "-key", key, "-days", String(VALID_DAYS), "-subj", `/CN=conveyor-local-${name}`],
    ...["-out", certificate],
    ...extensions.flatMap((extension) => ["-addext", extension]),
  ]);
}

async function makeCertificate(folder: string, authorities: string, request: CertificateRequest): Promise<void> {
  const path = (ending: string) => join(folder, `${request.name}.${ending}`);
  await newKey(path("key"));
  const subject = `${request.organization ? `/O=${request.organization}` : ""}/CN=${request.commonName}`;
  await openssl(["req", "-new", "-key", path("key"), "-subj", subject, "-out", path("csr")]);
  const lines = [
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature,keyEncipherment",
    "extendedKeyUsage=serverAuth,clientAuth",
    "authorityKeyIdentifier=keyid",
  ];
  if (request.names?.length) lines.push(`subjectAltName=${request.names.join(",")}`);
  await writeFile(path("ext"), `${lines.join("\n")}\n`);
  const authority = join(authorities, request.authority);
  await openssl([
    ...["x509", "-req", "-in", path("csr"), "-CA", `${authority}.crt`, "-CAkey", `${authority}.key`],
    // A random serial number: no shared counter file, so certificates can be made side by side.
    ...["-set_serial", `0x${crypto.randomUUID().replaceAll("-", "").slice(1)}`],
    ...["-days", String(VALID_DAYS), "-extfile", path("ext"), "-out", path("crt")],
  ]);
  await rm(path("csr"));
  await rm(path("ext"));
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );

/**
 * Makes authorities, certificates and the service accounts' key where they are not there. A certificate whose request
 * (names, addresses) has changed is made again; authorities and the service accounts' key are kept, or every token and
 * kubeconfig that was given out would be worthless.
 * @returns names of what was made now
 */
export async function ensurePki(folder: string, requests: readonly CertificateRequest[]): Promise<string[]> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  // Made in a folder of their own and moved one by one, the stamp last: an interrupt leaves whole files, and what has
  // no stamp is made again.
  const work = join(folder, "new");
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true, mode: 0o700 });
  const place = async (...names: string[]) => {
    for (const name of names) await rename(join(work, name), join(folder, name));
  };
  const made: string[] = [];
  const renewed = new Set<Authority>();
  const authorities: Authority[] = ["ca", "etcd-ca", "front-proxy-ca"];
  await Promise.all(
    authorities.map(async (name) => {
      if (await exists(join(folder, `${name}.crt`))) return;
      await makeAuthority(work, name);
      await place(`${name}.key`, `${name}.crt`);
      renewed.add(name);
      made.push(name);
    }),
  );
  await Promise.all(
    requests.map(async (request) => {
      const stamp = join(folder, `${request.name}.json`);
      const wanted = JSON.stringify(request);
      const current = (await readFile(stamp, "utf8").catch(() => "")) === wanted;
      if (current && !renewed.has(request.authority)) return;
      await makeCertificate(work, folder, request);
      await rm(stamp, { force: true });
      await place(`${request.name}.key`, `${request.name}.crt`);
      await writeFile(stamp, wanted);
      made.push(request.name);
    }),
  );
  if (!(await exists(join(folder, "service-accounts.pub")))) {
    const key = "service-accounts.key";
    await newKey(join(work, key));
    await openssl(["pkey", "-in", join(work, key), "-pubout", "-out", join(work, "service-accounts.pub")]);
    await place(key, "service-accounts.pub");
    made.push("service-accounts");
  }
  await rm(work, { recursive: true, force: true });
  return made;
}

/** The text of a kubeconfig with certificate and key inside, so that the one file is enough. */
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
