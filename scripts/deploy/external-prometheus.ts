/** What becomes of autoscaling and dashboards with a Prometheus that other people run, and what such a Prometheus needs. */
import { withNamespaces } from "../clients/promql.ts";
import { type Cluster, KubectlError, type KubernetesObject } from "../cluster/cluster.ts";
import {
  type ExternalPrometheus,
  type ExternalStores,
  endpointOf,
  PROMETHEUS_SECRET,
  serviceOf,
} from "../cluster/external-stores.ts";
import { PIPELINE_NAMESPACES } from "../cluster/namespace.ts";
import { OPERATOR_API } from "./operator-rules.ts";
import { FILL_FROM } from "./secrets.ts";

/** Label of a namespace whose Prometheus may scrape the pipeline (k8s/network/allow-scrape-networkpolicy.yaml). */
export const SCRAPE_LABEL = "conveyor.dev/scrape";

/** True where clients of the external Prometheus need its Secret. */
export const hasSecret = (prometheus: ExternalPrometheus | undefined): boolean =>
  prometheus !== undefined && (prometheus.hasCa || prometheus.hasToken);

/** A query for a Prometheus with the metrics of the complete cluster. */
const scoped = (query: string) => withNamespaces(query, PIPELINE_NAMESPACES.join("|"));

// ── autoscaling ──────────────────────────────────────────────────────────────────────────────────────────────────

/** Name of what KEDA's queries are authenticated with. */
const SCALING = "processor-scaling";

interface Trigger {
  authenticationRef?: object;
  metadata: Record<string, string>;
}
interface ParameterSource {
  parameter: string;
}

/** True for the objects of KEDA's queries (k8s/processor/keda). */
export const isScaling = ({ kind, metadata }: KubernetesObject): boolean =>
  kind === "ScaledObject" || metadata.name === SCALING;

/**
 * An object of KEDA's queries for the external Prometheus; undefined for one that they do not need. KEDA reads the CA from the
 * ConfigMap, and the token from its Secret.
 * @param ca the CA's certificate; undefined where only the form matters
 */
export function adaptScaling(
  object: KubernetesObject,
  prometheus: ExternalPrometheus,
  ca: string | undefined,
): KubernetesObject | undefined {
  const { url, hasCa, hasToken } = prometheus;
  const copy = structuredClone(object);
  if (copy.kind === "ConfigMap") {
    if (!hasCa) return undefined;
    delete copy.metadata.annotations?.[FILL_FROM];
    copy.data = { ...(copy.data as object), "ca.crt": ca };
    return copy;
  }
  if (copy.kind === "ScaledObject") {
    for (const trigger of (copy.spec as { triggers: Trigger[] }).triggers) {
      trigger.metadata = { ...trigger.metadata, serverAddress: url, query: scoped(trigger.metadata.query!) };
      if (hasToken) trigger.metadata.authModes = "bearer";
      if (hasSecret(prometheus)) continue;
      delete trigger.metadata.authModes;
      delete trigger.authenticationRef;
    }
    return copy;
  }
  if (!hasSecret(prometheus)) return undefined;
  const { configMapTargetRef } = copy.spec as { configMapTargetRef: ParameterSource[] };
  // The header of a client stands for the method that KEDA demands with a CA; the token is one.
  const fromMap = hasToken ? configMapTargetRef.filter(({ parameter }) => parameter === "ca") : configMapTargetRef;
  copy.spec = {
    ...(hasCa && { configMapTargetRef: fromMap }),
    ...(hasToken && { secretTargetRef: [{ parameter: "bearerToken", name: PROMETHEUS_SECRET, key: "token" }] }),
  };
  return copy;
}

// ── dashboards ───────────────────────────────────────────────────────────────────────────────────────────────────

/** The dashboards with queries of the pipeline's namespaces alone. */
export function withScopedDashboards(object: KubernetesObject): KubernetesObject {
  const data = Object.entries(object.data as Record<string, string>).map(([file, text]) => {
    const dashboard = scopedQueries(JSON.parse(text), undefined);
    return [file, `${JSON.stringify(dashboard, undefined, 2)}\n`];
  });
  return { ...object, data: Object.fromEntries(data) };
}

/** A copy of a value of a dashboard. @param type of the data source that applies where the value names none */
function scopedQueries(value: unknown, type: string | undefined): unknown {
  if (Array.isArray(value)) return value.map((one) => scopedQueries(one, type));
  if (value === null || typeof value !== "object") return value;
  const own = (value as { datasource?: { type?: string } }).datasource?.type ?? type;
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => {
      const isQuery = name === "expr" && own === "prometheus" && typeof field === "string";
      return [name, isQuery ? scoped(field) : scopedQueries(field, own)];
    }),
  );
}

// ── preflight ────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * What keeps an external Prometheus from the pipeline's metrics, each with the way out.
 * @param namespace that of its Service; undefined where it is outside of the cluster or may not be read
 */
export function prometheusWarnings(
  apiVersions: ReadonlySet<string>,
  namespace: KubernetesObject | undefined,
): string[] {
  const warnings: string[] = [];
  if (!apiVersions.has(OPERATOR_API)) {
    warnings.push(
      `the cluster has no ${OPERATOR_API}: nothing tells the external Prometheus what to scrape; install prometheus-operator and deploy again, or give that Prometheus scrape jobs and rules like those of k8s/prometheus (docs/external-stores.md)`,
    );
  }
  if (namespace && namespace.metadata.labels?.[SCRAPE_LABEL] !== "true") {
    const { name } = namespace.metadata;
    warnings.push(
      `the network policies do not let the Prometheus of namespace ${name} scrape; kubectl label namespace ${name} ${SCRAPE_LABEL}=true`,
    );
  }
  return warnings;
}

/** The namespace of the external Prometheus' Service; undefined where it has none, or this account may not read it. */
export async function namespaceOfPrometheus(
  cluster: Cluster,
  { prometheus }: ExternalStores,
): Promise<KubernetesObject | undefined> {
  const service = prometheus && serviceOf(endpointOf(prometheus.url).host);
  if (!service) return undefined;
  return await cluster.get<KubernetesObject>("namespace", service.namespace).catch((error: unknown) => {
    if (error instanceof KubectlError) return undefined;
    throw error;
  });
}
