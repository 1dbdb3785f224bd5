/**
 * outputs/tls-config-summary.md: the TLS properties of every port of every running pod, measured by handshakes through a
 * port-forward. It ends inside of the pod, so listeners that network policies protect are measured too.
 */
import { X509Certificate } from "node:crypto";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ACL_TABLE } from "../../services/domain/kafka-layout.ts";
import { OperatorError } from "../cli/errors.ts";
import { writeAtomic } from "../cli/files.ts";
import type { Cluster, Pod } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { daysLeft, namesOf } from "../deploy/certificates.ts";
import { deployedStages } from "../deploy/stages.ts";
import type { Artifact, EvidenceContext, Making } from "./artifact.ts";
import { namespacesOf } from "./live-objects.ts";
import { examine, PROTOCOLS, type TlsFindings } from "./tls-handshake.ts";

const FILE = "tls-config-summary.md";
/** Ports examined at once; each handshake is a process. */
const PARALLEL_PORTS = 3;

interface Port {
  namespace: string;
  pod: string;
  workload: string;
  name: string;
  port: number;
}

export interface ExaminedPort extends Port {
  /** Undefined: the port does not use TLS. */
  findings: TlsFindings | undefined;
}

type PodWithPorts = Pod & {
  spec: { containers: { ports?: { name?: string; containerPort: number; protocol?: string }[] }[] };
};

/** TCP ports of all running pods; one-off pods have none. */
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
  const keyOf = ({ namespace, pod, port }: Port) => `${namespace}/${pod}/${String(port).padStart(5, "0")}`;
  return ports.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}

/** Handshakes with every port, with the certificate of the administrator: every listener of Kafka accepts it. */
async function examinePorts(
  cluster: Cluster,
  ports: readonly Port[],
  context: EvidenceContext,
): Promise<ExaminedPort[]> {
  const { "ca.crt": ca, "tls.crt": cert, "tls.key": key } = await readSecret(cluster, "admin-tls");
  if (!ca || !cert || !key)
    throw new OperatorError("Secret admin-tls is incomplete", { hint: "bun scripts/deploy.ts" });
  await using folder = await mkdtempDisposable(join(tmpdir(), "conveyor-tls-"));
  const file = (name: string) => join(folder.path, name);
  const client = { ca: file("ca.crt"), cert: file("tls.crt"), key: file("tls.key") };
  await Promise.all([
    writeFile(client.ca, ca),
    writeFile(client.cert, cert),
    writeFile(client.key, key, { mode: 0o600 }),
  ]);
  const examined: ExaminedPort[] = [];
  const queue = [...ports];
  const examineNext = async () => {
    for (let port = queue.shift(); port; port = queue.shift()) {
      context.signal.throwIfAborted();
      const forward = await cluster.portForward(`pod/${port.pod}`, port.port, port.namespace);
      try {
        const servername = `${port.workload}.${port.namespace}.svc`;
        const findings = await examine({ host: "127.0.0.1", port: forward.port, servername }, client);
        examined.push({ ...port, findings });
        context.step.update(`${examined.length} of ${ports.length} ports`);
      } finally {
        await forward.close();
      }
    }
  };
  await Promise.all(Array.from({ length: PARALLEL_PORTS }, examineNext));
  return ports.map((port) => examined.find((other) => other.pod === port.pod && other.port === port.port)!);
}

/** A Markdown table; equal rows, of the replicas of a workload, are merged. */
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string[] => [
  `| ${head.join(" | ")} |`,
  `|${head.map(() => "---").join("|")}|`,
  ...new Set(rows.map((row) => `| ${row.join(" | ")} |`)),
];

/** Name of a pod without its random suffix; an ordinal stays. */
export const stableName = (pod: string): string =>
  pod.replace(/-[0-9a-z]{8,10}-[0-9a-z]{5}$/, "").replace(/-[0-9a-z]{5}$/, "");

function protocolsText({ protocols }: TlsFindings, accepted: boolean): string {
  const names = PROTOCOLS.filter((name) => protocols[name] === accepted).map(versionOf);
  return names.join(", ") || "–";
}

/** "1.0" for OpenSSL's "TLSv1". */
const versionOf = (protocol: string) => protocol.slice("TLSv".length).replace(/^1$/, "1.0");

const CLIENT_CERTIFICATE_LABELS = { required: "required", wanted: "optional", none: "no" } as const;

/** Without forward secrecy or authenticated encryption. */
export const isWeak = (cipher: string): boolean => !/^(?:ECDHE|DHE)-/.test(cipher) || !/GCM|CHACHA20|CCM/.test(cipher);

interface TlsSummary {
  context: string;
  kubernetes: string;
  ca: X509Certificate;
  ports: readonly ExaminedPort[];
  skipped: readonly string[];
  now: Date;
}

/** Violations of the TLS requirements: plaintext, old versions, certificates that do not verify. */
export function tlsViolations(ports: readonly ExaminedPort[]): string[] {
  return ports.flatMap(({ pod, name, port, findings, workload }) => {
    const where = `${stableName(pod)} ${name} (${port})`;
    if (!findings) return [`${where} does not use TLS`];
    const found: string[] = [];
    for (const old of ["TLSv1", "TLSv1.1"] as const) if (findings.protocols[old]) found.push(`${where} accepts ${old}`);
    if (!findings.verified) found.push(`${where} has a certificate that does not verify`);
    if (workload === "kafka" && name !== "metrics" && findings.clientCertificate !== "required") {
      found.push(`${where} accepts clients without a certificate`);
    }
    return found;
  });
}

type TlsPort = ExaminedPort & { findings: TlsFindings };

const hasTls = (port: ExaminedPort): port is TlsPort => port.findings !== undefined;
const subjectOf = (certificate: X509Certificate) => certificate.subject.replaceAll("\n", ", ");

/** The document: overview, endpoints, cipher suites, certificates, Kafka's access rules. */
const summaryText = (summary: TlsSummary): string =>
  [
    ...overview(summary),
    ...endpoints(summary.ports),
    ...cipherSuites(summary.ports.filter(hasTls)),
    ...certificates(summary),
    ...accessRules(),
    "Threats, and how to check each protection: [docs/security.md](../docs/security.md).",
    "",
  ].join("\n");

function overview({ context, kubernetes, ports, skipped, now }: TlsSummary): string[] {
  const violations = tlsViolations(ports);
  const unknown = new Set(
    ports.flatMap(({ findings }) => PROTOCOLS.filter((name) => findings && findings.protocols[name] === undefined)),
  );
  return [
    "# TLS configuration of the deployed pipeline",
    "",
    violations.length === 0
      ? `**${ports.length} ports: all use TLS 1.2 or newer, each with a certificate of this deployment's CA for its own name; Kafka's listeners reject clients without a certificate.**`
      : `**Violations:** ${violations.join("; ")}.`,
    "",
    `Made by \`bun scripts/evidence.ts --only tls\` on ${now.toISOString().slice(0, 10)} from context \`${context}\`, Kubernetes ${kubernetes}. Every line is the result of`,
    "handshakes with each port of the running pods, not read from a configuration. The client offered TLS 1.0 to 1.3 and every cipher suite of openssl,",
    "weak ones too. Equal rows of replicas are merged.",
    ...(skipped.length > 0 ? ["", `Not deployed on this cluster: ${skipped.join(", ")}.`] : []),
    ...(unknown.size > 0
      ? ["", `Unknown: the openssl of this machine does not support ${[...unknown].join(", ")}.`]
      : []),
    "",
  ];
}

function endpoints(ports: readonly ExaminedPort[]): string[] {
  const head = [
    ...["pod", "port", "accepts TLS", "rejects TLS", "negotiated by a current client", "certificate", "verifies"],
    "client certificate",
  ];
  const rows = ports.map(({ pod, name, port, findings }) =>
    findings
      ? [
          stableName(pod),
          `${name} ${port}`,
          protocolsText(findings, true),
          protocolsText(findings, false),
          `${versionOf(findings.negotiated.protocol)} ${findings.negotiated.cipher}`,
          subjectOf(findings.certificate),
          findings.verified ? "yes" : "**no**",
          findings.clientCertificate === "required"
            ? `required; without: ${findings.refusal}`
            : CLIENT_CERTIFICATE_LABELS[findings.clientCertificate],
        ]
      : [stableName(pod), `${name} ${port}`, "**no TLS**", "", "", "", "", ""],
  );
  return ["## Endpoints", "", ...table(head, rows), ""];
}

function cipherSuites(ports: readonly TlsPort[]): string[] {
  const endpointsBySuites = Map.groupBy(ports, ({ findings }) => findings.tls12Ciphers.join(" "));
  const hasWeak = ports.some(({ findings }) => findings.tls12Ciphers.some(isWeak));
  const rows = [...endpointsBySuites].map(([suites, some]) => [
    suites.replaceAll(/\S+/g, (cipher) => (isWeak(cipher) ? `${cipher} (old)` : cipher)).replaceAll(/ (?!\()/g, ", ") ||
      "none",
    [...new Set(some.map(({ pod, name }) => `${stableName(pod)} ${name}`))].join(", "),
  ]);
  return [
    "## Cipher suites of TLS 1.2",
    "",
    "In the server's order of preference. TLS 1.3 has only authenticated suites with forward secrecy.",
    "",
    ...table(["suites", "accepted by"], rows),
    "",
    ...(hasWeak
      ? [
          '(old): CBC mode or no forward secrecy. No client of this project negotiates one: see "negotiated by a current client".',
          "",
        ]
      : []),
  ];
}

function certificates({ ca, ports, now }: TlsSummary): string[] {
  const shown = new Map(
    ports.filter(hasTls).map(({ findings }) => [findings.certificate.fingerprint256, findings.certificate]),
  );
  const rows = [...shown.values()]
    .sort((a, b) => (subjectOf(a) < subjectOf(b) ? -1 : 1))
    .map((certificate) => [
      subjectOf(certificate),
      namesOf(certificate)
        .map((name) => `\`${name.replace(/^(?:DNS|IP):/, "")}\``)
        .join(" "),
      keyText(certificate),
      certificate.validToDate.toISOString().slice(0, 10),
      String(daysLeft(certificate, now)),
    ]);
  return [
    "## Certificates",
    "",
    `CA: ${subjectOf(ca)}, until ${ca.validToDate.toISOString().slice(0, 10)} (${daysLeft(ca, now)} days), SHA-256 \`${ca.fingerprint256}\`.`,
    "",
    ...table(["subject", "names", "key", "until", "days left"], rows),
    "",
    "`bun scripts/deploy.ts` renews certificates with fewer than 30 days left. They are in the Secrets of `k8s/tls/`; the key of the CA is in none.",
    "",
  ];
}

function accessRules(): string[] {
  const rows = ACL_TABLE.map(({ principal, operation, resourceType, resourceName }) => [
    principal,
    operation,
    `${resourceType.toLowerCase()} \`${resourceName}\``,
  ]);
  return [
    "## Kafka: rights of each certificate",
    "",
    "Kafka uses the common name of the certificate as principal and denies what is not listed. The brokers and `admin` are super users; only the setup job",
    "mounts the certificate of `admin`.",
    "",
    ...table(["principal", "may", "on"], rows),
    "",
  ];
}

function keyText({ publicKey }: X509Certificate): string {
  const { asymmetricKeyType, asymmetricKeyDetails } = publicKey;
  const detail = asymmetricKeyDetails?.namedCurve ?? asymmetricKeyDetails?.modulusLength ?? "";
  return `${asymmetricKeyType} ${detail}`.trim();
}

async function make(context: EvidenceContext): Promise<Making> {
  const cluster = context.cluster;
  const { stages, skipped } = await deployedStages(cluster);
  const ports = await examinePorts(cluster, await portsOf(cluster, namespacesOf(stages)), context);
  const ca = (await readSecret(cluster, "admin-tls"))["ca.crt"]!;
  const version = JSON.parse((await cluster.kubectl(["version", "-o", "json"])).stdout) as {
    serverVersion?: { gitVersion?: string };
  };
  const text = summaryText({
    context: cluster.context,
    kubernetes: version.serverVersion?.gitVersion ?? "unknown",
    ca: new X509Certificate(ca),
    ports,
    skipped,
    now: new Date(),
  });
  await writeAtomic(join(context.out, FILE), text);
  const violations = tlsViolations(ports);
  return {
    made: true,
    detail: `${ports.length} ports${violations.length > 0 ? `; violations: ${violations.join("; ")}` : ""}`,
    files: [FILE],
  };
}

export const tls: Artifact = {
  name: "tls",
  title:
    "TLS of every port of every pod, measured by handshakes: versions, cipher suites, certificates, client certificates",
  files: [FILE],
  make,
};
