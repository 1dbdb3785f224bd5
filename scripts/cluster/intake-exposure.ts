/**
 * The intake for senders outside the cluster: what deploy has stored about it in annotations of the Namespace, and the address
 * at which it answers.
 */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { exampleEvent } from "../../services/domain/event.ts";
import type { Report } from "../cli/report.ts";
import { type Cluster, type Condition, KubectlError, type KubernetesObject, NAMESPACE, type Pod } from "./cluster.ts";

/** Ways to reach the intake from outside: values of `deploy --expose` besides none. */
export const EXPOSE_MODES = ["loadbalancer", "nodeport", "gateway"] as const;
export type ExposeMode = (typeof EXPOSE_MODES)[number];

export interface Exposure {
  mode: ExposeMode;
  /** Names and addresses that senders use; the producer's certificate contains them. */
  hosts: string[];
  /** Address blocks that may connect; empty: every address. */
  from: string[];
  /** NAMESPACE/NAME of the Gateway of mode gateway. */
  gateway?: string;
}

/** Annotations of the Namespace. */
export const EXPOSE = "conveyor.dev/expose";
export const INTAKE_HOSTS = "conveyor.dev/intake-hosts";
export const INTAKE_FROM = "conveyor.dev/intake-from";
export const INTAKE_GATEWAY = "conveyor.dev/intake-gateway";

/** The exposure in a Namespace's annotations; undefined for an intake that only the cluster reaches. */
export function exposureOf(namespace: Pick<KubernetesObject, "metadata"> | undefined): Exposure | undefined {
  const annotations = namespace?.metadata.annotations ?? {};
  const mode = EXPOSE_MODES.find((known) => known === annotations[EXPOSE]);
  if (mode === undefined) return undefined;
  const list = (name: string) => (annotations[name] ?? "").split(",").filter(Boolean);
  const gateway = annotations[INTAKE_GATEWAY];
  return { mode, hosts: list(INTAKE_HOSTS), from: list(INTAKE_FROM), ...(gateway ? { gateway } : {}) };
}

/** The exposure of the deployed pipeline. */
export const readExposure = async (cluster: Cluster): Promise<Exposure | undefined> =>
  exposureOf(await cluster.get<KubernetesObject>("namespace", NAMESPACE));

/** Resource of TLSRoutes and Gateways, with the group: other APIs have Gateways too. */
export const GATEWAYS = "gateways.gateway.networking.k8s.io";
const TLS_ROUTES = "tlsroutes.gateway.networking.k8s.io";

export interface Gateway extends KubernetesObject {
  spec: { listeners: { name: string; port: number; protocol: string; tls?: { mode?: string } }[] };
  status?: { addresses?: { value: string }[] };
}

/** The listeners of a Gateway that pass TLS on without ending it. */
export const passthroughListeners = ({ spec }: Gateway): Gateway["spec"]["listeners"] =>
  spec.listeners.filter(({ protocol, tls }) => protocol === "TLS" && tls?.mode === "Passthrough");

/** Namespace and name of a Gateway in the setting's form. */
export function gatewayName(gateway: string): { namespace: string; name: string } {
  const [namespace = "", name = ""] = gateway.split("/");
  return { namespace, name };
}

/** Where senders connect: any of the addresses, and the port; or why there is none yet. */
export type IntakeEndpoint = { addresses: string[]; port: number } | { problem: string; isPending?: true };

type Service = KubernetesObject & {
  spec: { ports: { port: number; nodePort?: number }[]; externalTrafficPolicy?: string };
  status?: { loadBalancer?: { ingress?: { ip?: string; hostname?: string }[] } };
};
type Node = KubernetesObject & { status: { addresses?: { type: string; address: string }[] } };
type TlsRoute = KubernetesObject & { status?: { parents?: { conditions?: Condition[] }[] } };

/** The address of an exposed intake. */
export async function intakeEndpoint(
  cluster: Cluster,
  { mode, gateway }: Pick<Exposure, "mode" | "gateway">,
): Promise<IntakeEndpoint> {
  if (mode === "gateway") return await gatewayEndpoint(cluster, gateway ?? "");
  const name = `intake-${mode}`;
  const service = await cluster.get<Service>("service", name);
  const [port] = service?.spec.ports ?? [];
  if (!service || !port) return { problem: `Service ${name} is missing; deploy again` };
  if (mode === "nodeport") {
    return { addresses: await nodeAddresses(cluster, service), port: port.nodePort ?? port.port };
  }
  const ingress = service.status?.loadBalancer?.ingress ?? [];
  const addresses = ingress.flatMap(({ ip, hostname }) => ip ?? hostname ?? []);
  if (addresses.length > 0) return { addresses, port: port.port };
  return { problem: `Service ${name} has no address: nothing in the cluster has assigned one`, isPending: true };
}

/** Addresses of the nodes that answer at the node port, those for the outside first; none where nodes may not be read. */
async function nodeAddresses(cluster: Cluster, { spec }: Service): Promise<string[]> {
  const [nodes, pods] = await Promise.all([
    cluster.json<{ items: Node[] }>(["get", "nodes"]).then(
      ({ items }) => items,
      (error: unknown) => {
        if (error instanceof KubectlError) return [];
        throw error;
      },
    ),
    spec.externalTrafficPolicy === "Local" ? cluster.runningPods("producer") : undefined,
  ]);
  const names = pods?.map(({ spec }: Pod) => spec.nodeName);
  const answering = nodes.filter(({ metadata }) => !names || names.includes(metadata.name));
  const all = answering.flatMap(({ status }) => status.addresses ?? []);
  return ["ExternalIP", "InternalIP"].flatMap((type) =>
    all.filter((one) => one.type === type).map(({ address }) => address),
  );
}

async function gatewayEndpoint(cluster: Cluster, gateway: string): Promise<IntakeEndpoint> {
  const { namespace, name } = gatewayName(gateway);
  const [found, route] = await Promise.all([
    cluster.get<Gateway>(GATEWAYS, name, namespace),
    cluster.get<TlsRoute>(TLS_ROUTES, "intake"),
  ]);
  if (!found) return { problem: `Gateway ${gateway} is missing` };
  const [listener] = passthroughListeners(found);
  if (!listener) return { problem: `Gateway ${gateway} has no listener with TLS passthrough` };
  const conditions = (route?.status?.parents ?? []).flatMap(({ conditions }) => conditions ?? []);
  const refusal = conditions.find(({ status }) => status === "False");
  if (refusal) return { problem: `TLSRoute intake: ${refusal.type} is False: ${refusal.message ?? refusal.reason}` };
  const addresses = (found.status?.addresses ?? []).map(({ value }) => value);
  if (!conditions.some(({ type, status }) => type === "Accepted" && status === "True")) {
    return { problem: `TLSRoute intake is not accepted by Gateway ${gateway} yet`, isPending: true };
  }
  if (addresses.length > 0) return { addresses, port: listener.port };
  return { problem: `Gateway ${gateway} has no address`, isPending: true };
}

/** An answer of a name server takes milliseconds; a printed line does not wait longer. */
const LOOKUP_LIMIT_MS = 2000;

async function addressesOf(name: string): Promise<string[]> {
  if (isIP(name)) return [name];
  const limit = new Promise<[]>((resolve) => setTimeout(resolve, LOOKUP_LIMIT_MS, []).unref());
  const found = lookup(name, { all: true }).then(
    (all) => all.map(({ address }) => address),
    () => [],
  );
  return await Promise.race([found, limit]);
}

/** True where a name leads to one of the addresses, as this machine resolves both. */
async function leadsTo(host: string, addresses: readonly string[]): Promise<boolean> {
  const [own, ...others] = await Promise.all([host, ...addresses].map(addressesOf));
  return others.flat().some((address) => own!.includes(address));
}

/** An address in a URL. */
const inUrl = (host: string) => (isIP(host) === 6 ? `[${host}]` : host);

export interface IntakeAddress {
  /** URL of POST /events, by the first name. */
  url: string;
  /** What else must be done before senders reach it: the entry of the name server. */
  note?: string;
  /** A command that sends one event. */
  example: string;
}

/**
 * How senders reach the intake.
 * @param ca file with the CA, as it is typed in the project's folder
 */
export async function intakeAddress(
  cluster: Pick<Cluster, "context" | "kubeconfig">,
  { hosts }: Pick<Exposure, "hosts">,
  { addresses, port }: { addresses: readonly string[]; port: number },
  ca: string,
): Promise<IntakeAddress> {
  const [host = ""] = hosts;
  const [address] = addresses;
  const url = `https://${inUrl(host)}:${port}/events`;
  const isReached = address === undefined || isIP(host) !== 0 || (await leadsTo(host, addresses));
  const through = isReached ? "" : `--connect-to ${host}:${port}:${inUrl(address)}:${port} `;
  const location = `${cluster.kubeconfig ? `--kubeconfig ${cluster.kubeconfig} ` : ""}--context ${cluster.context}`;
  const secret = "get secret producer-intake -o go-template='{{.data.token | base64decode}}'";
  const token = `$(kubectl ${location} -n ${NAMESPACE} ${secret})`;
  const event = JSON.stringify(exampleEvent({ conveyor: "belt-9-1", run: "r1", seq: 0, ts: 0 }));
  const body = `'${event.replace('"ts":0', `"ts":'$(date +%s)000'`)}'`;
  return {
    url,
    ...(isReached ? {} : { note: `${host} must lead to ${addresses.join(" or ")}: an entry of your name server` }),
    example: `curl --cacert ${ca} ${through}-H "Authorization: Bearer ${token}" -H 'Content-Type: application/json' -d ${body} ${url}`,
  };
}

/** Prints the address of an exposed intake, with an example. */
export function printIntake({ url, note, example }: IntakeAddress, report: Pick<Report, "print">): void {
  report.print(`intake for senders outside the cluster: ${url}`);
  if (note) report.print(`  ${note}`);
  report.print(`  ${example}`);
}
