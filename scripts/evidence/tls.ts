/**
 * outputs/tls-config-summary.md: every port of every running pod, by real handshakes through the API server's
 * port-forward, which ends in the pod itself: so the listeners are seen that no other pod may reach, too.
 */
import type { X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ACL_TABLE } from "../../services/domain/kafka-layout.ts";
import { OperatorError } from "../cli/errors.ts";
import { writeAtomic } from "../cli/files.ts";
import { type Cluster, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { daysLeft, namesOf } from "../deploy/certificates.ts";
import { deployedStages } from "../deploy/stages.ts";
import type { Artifact, EvidenceContext, Making } from "./artifact.ts";
import { examine, PROTOCOLS, type TlsFindings } from "./tls-handshake.ts";

const FILE = "tls-config-summary.md";
/** Two cores: handshakes are processes. */
const AT_A_TIME = 3;

interface Port {
  namespace: string;
  pod: string;
  workload: string;
  name: string;
  port: number;
}

export interface ExaminedPort extends Port {
  /** Undefined: it does not speak TLS. */
  findings: TlsFindings | undefined;
}

type PodWithPorts = Pod & {
  spec: { containers: { ports?: { name?: string; containerPort: number; protocol?: string }[] }[] };
};

/** TCP ports of running pods that belong to a workload; pods of a moment have none. */
async function portsOf(cluster: Cluster, namespaces: readonly string[]): Promise<Port[]> {
  const ports: Port[] = [];
  for (const namespace of namespaces) {
    for (const pod of await cluster.list<PodWithPorts>("pods", undefined, namespace)) {
      if (pod.status.phase !== "Running" || pod.metadata.deletionTimestamp) continue;
      for (const container of pod.spec.containers) {
        for (const { name, containerPort, protocol } of container.ports ?? []) {
          if (protocol !== undefined && protocol !== "TCP") continue;
          ports.push({
            namespace,
            pod: pod.metadata.name,
            workload: pod.metadata.labels?.["app.kubernetes.io/name"] ?? pod.metadata.name,
            name: name ?? String(containerPort),
            port: containerPort,
          });
        }
      }
    }
  }
  const place = ({ namespace, pod, port }: Port) => `${namespace}/${pod}/${String(port).padStart(5, "0")}`;
  return ports.sort((a, b) => (place(a) < place(b) ? -1 : 1));
}

/** Handshakes with every port, as the administrator, whom every listener of Kafka lets in. */
async function examinePorts(
  cluster: Cluster,
  ports: readonly Port[],
  context: EvidenceContext,
): Promise<ExaminedPort[]> {
  const admin = await readSecret(cluster, "admin-tls");
  const { "ca.crt": ca, "tls.crt": cert, "tls.key": key } = admin;
  if (!ca || !cert || !key)
    throw new OperatorError("Secret admin-tls is incomplete", { hint: "bun scripts/deploy.ts" });
  const folder = await mkdtemp(join(tmpdir(), "conveyor-tls-"));
  try {
    const client = { ca: join(folder, "ca.crt"), cert: join(folder, "tls.crt"), key: join(folder, "tls.key") };
    await Promise.all([
      writeFile(client.ca, ca),
      writeFile(client.cert, cert),
      writeFile(client.key, key, { mode: 0o600 }),
    ]);
    const examined: ExaminedPort[] = [];
    const waiting = [...ports];
    const work = async () => {
      for (let port = waiting.shift(); port; port = waiting.shift()) {
        context.signal.throwIfAborted();
        const forward = await cluster.portForward(`pod/${port.pod}`, port.port, port.namespace);
        try {
          const servername = `${port.workload}.${port.namespace}.svc.cluster.local`;
          const findings = await examine({ host: "127.0.0.1", port: forward.port, servername }, client);
          examined.push({ ...port, findings });
          context.step.update(`${examined.length} of ${ports.length} ports`);
        } finally {
          await forward.close();
        }
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, work));
    return ports.map((port) => examined.find((other) => other.pod === port.pod && other.port === port.port)!);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Rows that say the same stand there once: replicas of one workload. */
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string[] => [
  `| ${head.join(" | ")} |`,
  `|${head.map(() => "---").join("|")}|`,
  ...new Set(rows.map((row) => `| ${row.join(" | ")} |`)),
];

/** A pod's name without what differs from start to start: the ordinal stays, the random end goes. */
export const stableName = (pod: string): string =>
  pod.replace(/-[0-9a-z]{8,10}-[0-9a-z]{5}$/, "").replace(/-[0-9a-z]{5}$/, "");

function protocolsText({ protocols }: TlsFindings, accepted: boolean): string {
  const names = PROTOCOLS.filter((name) => protocols[name] === accepted).map(versionOf);
  return names.join(", ") || "–";
}

/** "1.0" for OpenSSL's "TLSv1". */
const versionOf = (protocol: string) => protocol.slice("TLSv".length).replace(/^1$/, "1.0");

const CLIENT_WORDS = { required: "required", wanted: "asked for", none: "no" } as const;

/** Weak by today's judgement: no forward secrecy, or no authenticated encryption. */
export const isWeak = (cipher: string): boolean => !/^(?:ECDHE|DHE)-/.test(cipher) || !/GCM|CHACHA20|CCM/.test(cipher);

export interface TlsSummary {
  context: string;
  kubernetes: string;
  ca: X509Certificate;
  ports: readonly ExaminedPort[];
  leftOut: readonly string[];
  now: Date;
}

/** What is not as it is promised: plaintext, an old version, a certificate that does not verify. */
export function findingsAgainst(ports: readonly ExaminedPort[]): string[] {
  return ports.flatMap(({ pod, name, port, findings, workload }) => {
    const where = `${stableName(pod)} ${name} (${port})`;
    if (!findings) return [`${where} does not speak TLS`];
    const found: string[] = [];
    for (const old of ["TLSv1", "TLSv1.1"] as const) if (findings.protocols[old]) found.push(`${where} accepts ${old}`);
    if (!findings.verified) found.push(`${where} shows a certificate that does not verify`);
    if (workload === "kafka" && name !== "metrics" && findings.clientCertificate !== "required") {
      found.push(`${where} lets clients in without a certificate`);
    }
    return found;
  });
}

/** The document. */
export function summaryText({ context, kubernetes, ca, ports, leftOut, now }: TlsSummary): string {
  const against = findingsAgainst(ports);
  const unknown = [
    ...new Set(
      ports.flatMap(({ findings }) => PROTOCOLS.filter((name) => findings && findings.protocols[name] === undefined)),
    ),
  ];
  const seen = ports.filter((port): port is ExaminedPort & { findings: TlsFindings } => port.findings !== undefined);
  const certificates = new Map(seen.map(({ findings }) => [findings.certificate.fingerprint256, findings.certificate]));
  const subject = (certificate: X509Certificate) => certificate.subject.replaceAll("\n", ", ");
  const suites = new Map<string, string[]>();
  for (const { pod, name, findings } of seen) {
    const key = findings.tls12Ciphers.join(" ");
    suites.set(key, [...(suites.get(key) ?? []), `${stableName(pod)} ${name}`]);
  }
  return [
    "# TLS as it is deployed",
    "",
    `Made by \`bun scripts/evidence.ts --only tls\` on ${now.toISOString().slice(0, 10)} from context \`${context}\`, Kubernetes ${kubernetes}. Every line is the result of`,
    "handshakes with the running pods, each port of each; nothing is read from a configuration. Versions from 1.0 to 1.3 were offered, with every",
    "cipher suite that openssl has, the weak ones on purpose. Replicas that answer alike stand there once.",
    ...(leftOut.length > 0 ? ["", `Not deployed on this cluster, so not here: ${leftOut.join(", ")}.`] : []),
    "",
    against.length === 0
      ? `**${ports.length} ports, all of them TLS 1.2 or newer, each with a certificate of this deployment's CA for its own name; Kafka's listeners refuse clients without one.**`
      : `**Not as promised:** ${against.join("; ")}.`,
    ...(unknown.length > 0 ? ["", `The openssl of this machine cannot offer ${unknown.join(", ")}: not known.`] : []),
    "",
    "## Endpoints",
    "",
    ...table(
      [
        "pod",
        "port",
        "accepts TLS",
        "refuses TLS",
        "a client of today gets",
        "certificate",
        "verifies",
        "client certificate",
      ],
      ports.map(({ pod, name, port, findings }) =>
        findings
          ? [
              stableName(pod),
              `${name} ${port}`,
              protocolsText(findings, true),
              protocolsText(findings, false),
              `${versionOf(findings.negotiated.protocol)} ${findings.negotiated.cipher}`,
              subject(findings.certificate),
              findings.verified ? "yes" : "**no**",
              findings.clientCertificate === "required"
                ? `required; without: ${findings.refusal}`
                : CLIENT_WORDS[findings.clientCertificate],
            ]
          : [stableName(pod), `${name} ${port}`, "**no TLS**", "", "", "", "", ""],
      ),
    ),
    "",
    "## Cipher suites of TLS 1.2",
    "",
    "In the server's order of preference. With TLS 1.3 there are only authenticated suites with forward secrecy.",
    "",
    ...table(
      ["suites", "taken by"],
      [...suites].map(([key, where]) => [
        key === ""
          ? "none"
          : key
              .split(" ")
              .map((cipher) => (isWeak(cipher) ? `${cipher} (old)` : cipher))
              .join(", "),
        [...new Set(where)].join(", "),
      ]),
    ),
    "",
    ...([...suites.keys()].some((key) => key.split(" ").some((cipher) => cipher !== "" && isWeak(cipher)))
      ? [
          '(old): CBC mode or no forward secrecy. No client of this project ends up with one: see "a client of today gets".',
          "",
        ]
      : []),
    "## Certificates",
    "",
    `CA: ${subject(ca)}, until ${ca.validToDate.toISOString().slice(0, 10)} (${daysLeft(ca, now)} days), SHA-256 \`${ca.fingerprint256}\`.`,
    "",
    ...table(
      ["subject", "names", "key", "until", "days left"],
      [...certificates.values()]
        .sort((a, b) => (subject(a) < subject(b) ? -1 : 1))
        .map((certificate) => [
          subject(certificate),
          namesOf(certificate)
            .map((name) => `\`${name.replace(/^(?:DNS|IP):/, "")}\``)
            .join(" "),
          keyText(certificate),
          certificate.validToDate.toISOString().slice(0, 10),
          String(daysLeft(certificate, now)),
        ]),
    ),
    "",
    "Renewed by `bun scripts/deploy.ts` when fewer than 30 days are left. They stand in the Secrets of `k8s/tls/`; the CA's key is in none.",
    "",
    "## Who may do what with a certificate",
    "",
    "Kafka takes the certificate's common name as the principal and denies what is not listed. The brokers and `admin` are super users; `admin` is the setup",
    "job's and nobody else mounts it.",
    "",
    ...table(
      ["principal", "may", "on"],
      ACL_TABLE.map(({ principal, operation, resourceType, resourceName }) => [
        principal,
        operation,
        `${resourceType.toLowerCase()} \`${resourceName}\``,
      ]),
    ),
    "",
    "What is defended, and how to check it: [docs/security.md](../docs/security.md).",
    "",
  ].join("\n");
}

function keyText({ publicKey }: X509Certificate): string {
  const { asymmetricKeyType, asymmetricKeyDetails } = publicKey;
  const detail = asymmetricKeyDetails?.namedCurve ?? asymmetricKeyDetails?.modulusLength ?? "";
  return `${asymmetricKeyType} ${detail}`.trim();
}

async function make(context: EvidenceContext): Promise<Making> {
  const { X509Certificate: Certificate } = await import("node:crypto");
  const cluster = await context.cluster();
  const { stages, skipped } = await deployedStages(cluster);
  const namespaces = [
    ...new Set([
      NAMESPACE,
      ...stages.flatMap(({ objects }) => objects.map(({ metadata }) => metadata.namespace ?? "")),
    ]),
  ].filter((namespace) => namespace !== "");
  const ports = await examinePorts(cluster, await portsOf(cluster, namespaces.sort()), context);
  const ca = (await readSecret(cluster, "admin-tls"))["ca.crt"]!;
  const version = JSON.parse((await cluster.kubectl(["version", "-o", "json"])).stdout) as {
    serverVersion?: { gitVersion?: string };
  };
  const text = summaryText({
    context: cluster.context,
    kubernetes: version.serverVersion?.gitVersion ?? "unknown",
    ca: new Certificate(ca),
    ports,
    leftOut: skipped,
    now: new Date(),
  });
  await writeAtomic(join(context.out, FILE), text);
  const against = findingsAgainst(ports);
  return {
    made: true,
    detail: `${ports.length} ports${against.length > 0 ? `; not as promised: ${against.join("; ")}` : ""}`,
    files: [FILE],
  };
}

export const tls: Artifact = {
  name: "tls",
  title:
    "what every port of every pod accepts and refuses, by handshakes: versions, suites, certificates, client certificates",
  files: [FILE],
  make,
};
