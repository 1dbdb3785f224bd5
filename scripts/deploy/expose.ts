/**
 * `deploy --expose`: the intake for senders outside the cluster. The settings are kept in annotations of the Namespace
 * (scripts/cluster/intake-exposure.ts), so that later deploys and the other commands know them.
 */
import { isIP } from "node:net";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { waitFor } from "../cli/wait.ts";
import { apiVersionsOf, type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import {
  EXPOSE,
  EXPOSE_MODES,
  type ExposeMode,
  type Exposure,
  exposureOf,
  GATEWAYS,
  type Gateway,
  gatewayName,
  INTAKE_FROM,
  INTAKE_GATEWAY,
  INTAKE_HOSTS,
  type IntakeEndpoint,
  intakeEndpoint,
  passthroughListeners,
} from "../cluster/intake-exposure.ts";
import { shortAddress } from "./certificates.ts";

/** Values of `--expose`. */
export const EXPOSE_CHOICES = [...EXPOSE_MODES, "none"] as const;

/** Names of one intake. Every handshake carries all of them. */
const MAX_HOSTS = 16;
/** Blocks of the senders' networks; more belong into a firewall. */
const MAX_BLOCKS = 32;
/** A cloud's load balancer has an address within a minute or two. */
const ADDRESS_LIMIT_MS = 120_000;
const ADDRESS_POLL_MS = 1000;

// ── flags ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What the flags of one deploy say; undefined: as at the last deploy. */
export interface ExposeFlags {
  mode?: ExposeMode | "none" | undefined;
  hosts?: string[] | undefined;
  from?: string[] | undefined;
  gateway?: string | undefined;
}

const usage = (message: string, hint?: string) => new OperatorError(message, { exitCode: EXIT.usage, hint });

const HOST_NAME = /^(?=.{1,253}$)([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const GATEWAY = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

function listOf(flag: string, text: string, limit: number): string[] {
  const values = [...new Set(text.split(",").map((value) => value.trim().toLowerCase()))];
  if (values.length > limit) throw usage(`--${flag}: must be at most ${limit} values; got ${values.length}`);
  return values;
}

/** The names and addresses of `--intake-host`. @throws OperatorError (exit 2) that names the rule and the value */
export function parseHosts(text: string): string[] {
  return listOf("intake-host", text, MAX_HOSTS).map((host) => {
    const isAddress = isIP(host) !== 0;
    // A last label of digits alone is a mistyped address.
    if (!isAddress && (!HOST_NAME.test(host) || /(^|\.)\d+$/.test(host))) {
      throw usage(
        `--intake-host: must be host names without port and wildcard, or IP addresses, separated by commas; got "${host}"`,
      );
    }
    return shortAddress(host);
  });
}

function parseBlocks(text: string): string[] {
  const blocks = listOf("intake-from", text, MAX_BLOCKS);
  for (const block of blocks) {
    const [, address = "", length = ""] = /^([^/]+)\/(\d{1,3})$/.exec(block) ?? [];
    const family = isIP(address);
    if (family === 0 || Number(length) > (family === 4 ? 32 : 128)) {
      throw usage(`--intake-from: must be address blocks such as 203.0.113.0/24,2001:db8::/32; got "${block}"`);
    }
  }
  const open = blocks.filter((block) => block.endsWith("/0"));
  if (open.length > 0 && open.length < blocks.length) {
    throw usage(`--intake-from: ${open.join(" and ")} permits every address: name it alone, or only the other blocks`);
  }
  return open.length > 0 ? [] : blocks;
}

interface RawFlags {
  expose?: string | undefined;
  "intake-host"?: string | undefined;
  "intake-from"?: string | undefined;
  "intake-gateway"?: string | undefined;
}

/** @throws OperatorError (exit 2) that names the flag, the rule and the value */
export function exposeFlags(flags: RawFlags): ExposeFlags {
  const { expose, "intake-host": host, "intake-from": from, "intake-gateway": gateway } = flags;
  const other = (["intake-host", "intake-from", "intake-gateway"] as const).find((name) => flags[name] !== undefined);
  if (expose === "none" && other) throw usage(`--expose none and --${other} exclude each other`);
  if (gateway !== undefined && !GATEWAY.test(gateway)) {
    throw usage(`--intake-gateway: must be NAMESPACE/NAME; got "${gateway}"`);
  }
  if (gateway !== undefined && expose !== undefined && expose !== "gateway") {
    throw usage("--intake-gateway needs --expose gateway");
  }
  return {
    mode: EXPOSE_CHOICES.find((choice) => choice === expose),
    hosts: host === undefined ? undefined : parseHosts(host),
    from: from === undefined ? undefined : parseBlocks(from),
    gateway,
  };
}

/**
 * The exposure that a deploy has: that of its flags, and of the last deploy where they say nothing.
 * @throws OperatorError (exit 2) for settings that do not fit together
 */
export function chooseExposure(flags: ExposeFlags, deployed: Exposure | undefined): Exposure | undefined {
  const mode = flags.mode ?? deployed?.mode;
  if (mode === "none") return undefined;
  if (mode === undefined) {
    const [given] = Object.entries(flags).find(([, value]) => value !== undefined) ?? [];
    if (given === undefined) return undefined;
    const name = { hosts: "host", from: "from", gateway: "gateway" }[given];
    throw usage(`--intake-${name} needs --expose ${EXPOSE_MODES.join(" or ")}: the intake is not exposed`);
  }
  const hosts = flags.hosts ?? deployed?.hosts ?? [];
  const from = flags.from ?? deployed?.from ?? [];
  if (hosts.length === 0) {
    throw usage(
      `--expose ${mode} needs --intake-host NAME[,NAME…]: the names or addresses under which senders reach the intake`,
      "the certificate of the producer contains them",
    );
  }
  if (mode !== "gateway") return { mode, hosts, from };
  const addresses = hosts.filter((host) => isIP(host) !== 0);
  if (addresses.length > 0) {
    throw usage(`--expose gateway: a Gateway chooses by the name; --intake-host has ${addresses.join(", ")}`);
  }
  if (from.length > 0) {
    throw usage(
      "--expose gateway and --intake-from exclude each other: the intake sees the Gateway's address, not the sender's",
      "restrict senders at the Gateway, and set --intake-from 0.0.0.0/0",
    );
  }
  const gateway = flags.gateway ?? deployed?.gateway;
  return { mode, hosts, from, ...(gateway ? { gateway } : {}) };
}

// ── the cluster ──────────────────────────────────────────────────────────────────────────────────────────────────

const GATEWAY_API = "gateway.networking.k8s.io/v1";
const GATEWAY_API_INSTALL =
  "kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.5.1/standard-install.yaml";

/** True where the cluster has TLSRoutes of version 1: Gateway API 1.5 or newer. */
async function servesTlsRoutes(cluster: Cluster, signal: AbortSignal): Promise<boolean> {
  if (!(await apiVersionsOf(cluster, signal)).has(GATEWAY_API)) return false;
  const { stdout } = await cluster.kubectl(["get", "--raw", `/apis/${GATEWAY_API}`], { signal });
  const { resources } = JSON.parse(stdout) as { resources: { name: string }[] };
  return resources.some(({ name }) => name === "tlsroutes");
}

const preconditionError = (message: string, ...hint: string[]) =>
  new OperatorError(message, { exitCode: EXIT.precondition, hint: hint.join("\n") });

/**
 * The Gateway of mode gateway: the named one, or the only one that passes TLS on.
 * @throws OperatorError (exit 3) with the way out where there is none, (exit 2) where there are several
 */
async function chooseGateway(cluster: Cluster, named: string | undefined, signal: AbortSignal): Promise<string> {
  const others = "or choose another way: --expose loadbalancer, --expose nodeport";
  if (!(await servesTlsRoutes(cluster, signal))) {
    throw preconditionError(
      `--expose gateway: the cluster has no TLSRoute of ${GATEWAY_API}`,
      `install Gateway API 1.5 or newer, and a controller that supports TLSRoute: ${GATEWAY_API_INSTALL}`,
      others,
    );
  }
  const { items } = await cluster.json<{ items: Gateway[] }>(["get", GATEWAYS, "-A"], { signal });
  const fitting = items
    .filter((gateway) => passthroughListeners(gateway).length > 0)
    .map(({ metadata }) => `${metadata.namespace}/${metadata.name}`)
    .sort();
  const found = fitting.length > 0 ? `Gateways with one: ${fitting.join(", ")}` : "no Gateway has one";
  if (named !== undefined) {
    if (fitting.includes(named)) return named;
    throw preconditionError(
      `--expose gateway: Gateway ${named} does not exist, or has no listener with protocol TLS and mode Passthrough; ${found}`,
      "docs/clusters.md#senders-outside-the-cluster has an example",
      others,
    );
  }
  const [only] = fitting;
  if (only === undefined) {
    throw preconditionError(
      "--expose gateway: no Gateway of the cluster has a listener with protocol TLS and mode Passthrough",
      "docs/clusters.md#senders-outside-the-cluster has an example",
      others,
    );
  }
  if (fitting.length > 1) throw usage(`--intake-gateway must name one of the Gateways ${fitting.join(", ")}`);
  return only;
}

/** The exposure of a deploy, and the mode of the last one, whose objects are removed where it was another. */
export interface ExposureChange {
  exposure: Exposure | undefined;
  previous?: ExposeMode | undefined;
}

/** @throws OperatorError (exit 2) for flags that do not fit, (exit 3) where the cluster cannot expose the intake so */
export async function resolveExposure(
  cluster: Cluster,
  flags: ExposeFlags,
  signal: AbortSignal,
): Promise<ExposureChange> {
  const deployed = exposureOf(await cluster.get<KubernetesObject>("namespace", NAMESPACE));
  const exposure = chooseExposure(flags, deployed);
  if (exposure?.mode === "gateway") exposure.gateway = await chooseGateway(cluster, exposure.gateway, signal);
  // Without its API there is no route to remove, and kubectl fails on the kind.
  const isGone = deployed?.mode === "gateway" && !(await servesTlsRoutes(cluster, signal));
  return { exposure, previous: isGone ? undefined : deployed?.mode };
}

/** The exposure of a deployed pipeline whose objects kubectl can read. */
export async function readableExposure(cluster: Cluster, signal: AbortSignal): Promise<ExposureChange> {
  const exposure = exposureOf(await cluster.get<KubernetesObject>("namespace", NAMESPACE));
  const isGone = exposure?.mode === "gateway" && !(await servesTlsRoutes(cluster, signal));
  return { exposure: isGone ? undefined : exposure };
}

/**
 * Waits for the address of a new exposure: one that the last deploy has waited for in vain is not awaited again.
 * @returns the endpoint, or why there is none
 */
export async function awaitEndpoint(
  cluster: Cluster,
  exposure: Exposure,
  report: Report,
  signal: AbortSignal,
  limitMs = ADDRESS_LIMIT_MS,
): Promise<IntakeEndpoint> {
  return await report.step("address of the intake", async (step) => {
    const { value } = await awaitAddress(cluster, exposure, step.update, signal, limitMs);
    step.update("problem" in value ? value.problem : `${value.addresses.join(", ")} port ${value.port}`);
    return value;
  });
}

async function awaitAddress(
  cluster: Cluster,
  exposure: Exposure,
  onState: (state: string) => void,
  signal: AbortSignal,
  limitMs: number,
): Promise<{ value: IntakeEndpoint }> {
  const latest: { value: IntakeEndpoint } = { value: { problem: "its address is not known" } };
  const object = exposure.mode === "gateway" ? "tlsroutes.gateway.networking.k8s.io" : "service";
  const name = exposure.mode === "gateway" ? "intake" : `intake-${exposure.mode}`;
  const made = (await cluster.get<KubernetesObject>(object, name))?.metadata.creationTimestamp;
  const leftMs = made === undefined ? limitMs : Date.parse(made) + limitMs - Date.now();
  const poll = async () => {
    latest.value = await intakeEndpoint(cluster, exposure);
    if (!("problem" in latest.value) || !latest.value.isPending) return { done: true as const, value: latest };
    return { done: false as const, state: latest.value.problem };
  };
  const options = { what: "an address of the intake", limitMs: Math.max(0, leftMs), intervalMs: ADDRESS_POLL_MS };
  try {
    return await waitFor(poll, { ...options, signal, onState });
  } catch (error) {
    if (!(error instanceof OperatorError) || error.exitCode !== EXIT.timeout) throw error;
    return latest;
  }
}

/** What to do where nothing assigns an address. */
export const NO_ADDRESS_HINT: Readonly<Record<ExposeMode, string>> = {
  loadbalancer:
    "a cluster without a controller for Services of type LoadBalancer never assigns one: install one (MetalLB, the cloud's), or --expose nodeport",
  nodeport: "bun scripts/deploy.ts, then bun scripts/validate.ts --only intake-exposed",
  gateway: "see the conditions: kubectl -n NAMESPACE describe tlsroute intake, and the controller of the Gateway",
};

// ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────────

interface StageObjects {
  name: string;
  exposes?: readonly ExposeMode[];
  objects: KubernetesObject[];
}

/**
 * The stages with the intake exposed as chosen. Stages of the last deploy's mode stay in the list, with the reason to remove
 * their objects; those of other modes are dropped.
 */
export function withExposure<S extends StageObjects>(
  stages: readonly S[],
  { exposure, previous }: ExposureChange,
): (S & { closedBy?: string })[] {
  return stages.flatMap((stage): (S & { closedBy?: string }) | [] => {
    if (stage.exposes === undefined) {
      return { ...stage, objects: stage.objects.map((object) => withAnnotations(object, exposure)) };
    }
    if (exposure && stage.exposes.includes(exposure.mode)) {
      return { ...stage, objects: stage.objects.map((object) => exposedObject(object, exposure)) };
    }
    if (!previous || !stage.exposes.includes(previous)) return [];
    return { ...stage, closedBy: `--expose ${exposure?.mode ?? "none"}` };
  });
}

function withAnnotations(object: KubernetesObject, exposure: Exposure | undefined): KubernetesObject {
  const { kind, metadata } = object;
  if (!exposure || kind !== "Namespace" || metadata.name !== NAMESPACE) return object;
  const { mode, hosts, from, gateway } = exposure;
  const values = { [EXPOSE]: mode, [INTAKE_HOSTS]: hosts.join(","), [INTAKE_FROM]: from.join(",") };
  const set = Object.entries({ ...values, [INTAKE_GATEWAY]: gateway ?? "" }).filter(([, value]) => value !== "");
  return {
    ...object,
    metadata: { ...metadata, annotations: { ...metadata.annotations, ...Object.fromEntries(set) } },
  };
}

type Spec = Record<string, unknown>;

function exposedObject(object: KubernetesObject, { mode, hosts, from, gateway }: Exposure): KubernetesObject {
  const withSpec = (change: Spec) => ({ ...object, spec: { ...(object.spec as Spec), ...change } });
  switch (object.kind) {
    case "TLSRoute":
      return withSpec({ hostnames: hosts, parentRefs: [gatewayName(gateway ?? "")] });
    case "Service": {
      // Otherwise the address of a node takes the sender's place on the way to the pod.
      if (from.length === 0) return object;
      const ranges = mode === "loadbalancer" ? { loadBalancerSourceRanges: from } : {};
      return withSpec({ externalTrafficPolicy: "Local", ...ranges });
    }
    case "NetworkPolicy": {
      const [rule] = (object.spec as { ingress: { from?: unknown; ports: unknown }[] }).ingress;
      const { from: everyone, ports } = rule!;
      // The Gateway's pods may be in any namespace, and may have addresses of nodes.
      if (mode === "gateway") return withSpec({ ingress: [{ ports }] });
      const blocks = from.map((cidr) => ({ ipBlock: { cidr } }));
      return withSpec({ ingress: [{ from: blocks.length > 0 ? blocks : everyone, ports }] });
    }
    default:
      return object;
  }
}
