/**
 * Keys and certificates of the cluster itself (not of the pipeline): one CA for the API server and its clients, one for
 * etcd, one for the aggregation layer, so that a certificate of one is worth nothing to another.
 */
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { must } from "./exec.ts";

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

async function makeCertificate(folder: string, request: CertificateRequest): Promise<void> {
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
  const authority = join(folder, request.authority);
  await openssl([
    ...["x509", "-req", "-in", path("csr"), "-CA", `${authority}.crt`, "-CAkey", `${authority}.key`],
    // A random serial number: no shared counter file, so certificates can be made side by side.
    ...["-set_serial", `0x${crypto.randomUUID().replaceAll("-", "").slice(1)}`],
    ...["-days", String(VALID_DAYS), "-extfile", path("ext"), "-out", path("crt")],
  ]);
  await rm(path("csr"));
  await rm(path("ext"));
}

/**
 * Makes authorities, certificates and the service accounts' key, all or nothing; again only when what is asked for
 * (names, addresses) has changed.
 * @returns true when they were made now
 */
export async function ensurePki(folder: string, requests: readonly CertificateRequest[]): Promise<boolean> {
  const wanted = JSON.stringify(requests);
  const stamp = join(folder, "requests.json");
  if ((await readFile(stamp, "utf8").catch(() => "")) === wanted) return false;
  const temporary = `${folder}.new`;
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true, mode: 0o700 });
  const authorities: Authority[] = ["ca", "etcd-ca", "front-proxy-ca"];
  await Promise.all(authorities.map((name) => makeAuthority(temporary, name)));
  await Promise.all(requests.map((request) => makeCertificate(temporary, request)));
  await newKey(join(temporary, "service-accounts.key"));
  await openssl([
    ...["pkey", "-in", join(temporary, "service-accounts.key"), "-pubout"],
    ...["-out", join(temporary, "service-accounts.pub")],
  ]);
  await writeFile(join(temporary, "requests.json"), wanted);
  await rm(folder, { recursive: true, force: true });
  await rename(temporary, folder);
  return true;
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
