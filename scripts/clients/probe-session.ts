/**
 * What the checks of validate share: the cluster, one probe pod of each kind made on first use, and one open database.
 * Everything opened here is closed by `close`, also after an interrupt.
 */

import { OperatorError } from "../cli/errors.ts";
import { type Cluster, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { type OneOffPod, withPod } from "../cluster/one-off-pods.ts";
import { TelemetryStore } from "./influxdb.ts";

/** A probe as services/tools/probe.ts understands it: an id, a kind and its fields. */
export interface Probe {
  id: string;
  kind: string;
  [field: string]: unknown;
}

export interface ProbeResult {
  id: string;
  ok: boolean;
  /** "ok", "handshake_ok", "refused:…", "timeout", an error code of Kafka, … */
  outcome: string;
  detail: string;
  duration_ms: number;
  data?: unknown;
}

/** A probe run has a limit of its own per probe; this one is for the whole exec. */
const PROBE_RUN_LIMIT_MS = 60_000;

/** In-cluster addresses, as the workloads use them. */
export const HOSTS = {
  kafka: `kafka.${NAMESPACE}.svc.cluster.local`,
  kafkaBroker: (ordinal: number) => `kafka-${ordinal}.kafka-headless.${NAMESPACE}.svc.cluster.local`,
  influxdb: `influxdb.${NAMESPACE}.svc.cluster.local`,
  apiServer: "kubernetes.default.svc.cluster.local",
} as const;

export const KAFKA_CLIENT_PORT = 9092;
export const INFLUXDB_PORT = 8086;

/** Kafka as a probe's clients reach it, with the certificate that the pod itself has. */
export const BROKERS = [`${HOSTS.kafka}:${KAFKA_CLIENT_PORT}`];
export const OWN_TLS = { ca: "/certs/ca.crt", cert: "/certs/tls.crt", key: "/certs/tls.key" };

/** Pods that validate starts for probes, by what they are allowed. */
const PROBE_PODS = {
  /** No label: nothing allows it anything. */
  unlabelled: {},
  /** Stands where the setup job stands, with the administrator's certificate. */
  admin: { "app.kubernetes.io/name": "setup", "app.kubernetes.io/instance": "setup" },
} as const satisfies Record<string, Record<string, string>>;

export type ProbePod = keyof typeof PROBE_PODS;

interface HeldPod {
  name: Promise<string>;
  release: () => void;
  gone: Promise<void>;
}

export class ProbeSession {
  readonly cluster: Cluster;
  /** The services' image, which carries the probe program. */
  readonly image: string;
  readonly #held = new Map<ProbePod, HeldPod>();
  readonly #signal: AbortSignal;
  #store: Promise<TelemetryStore> | undefined;

  constructor(cluster: Cluster, image: string, signal: AbortSignal) {
    this.cluster = cluster;
    this.image = image;
    this.#signal = signal;
  }

  /** Runs probes inside a running pod of a workload; the pod's own network policies and certificates apply. */
  async probeIn(workload: string, probes: readonly Probe[]): Promise<Map<string, ProbeResult>> {
    const pods = await this.cluster.pods(workload);
    const pod = pods.find((candidate) => candidate.status.phase === "Running");
    if (!pod) throw new OperatorError(`no running pod of ${workload} to probe from`);
    return await this.#run(pod.metadata.name, probes);
  }

  /** Runs probes in a pod made for it. */
  async probeFrom(kind: ProbePod, probes: readonly Probe[]): Promise<Map<string, ProbeResult>> {
    return await this.#run(await this.#hold(kind), probes);
  }

  /** Name of the pod made for probes of that kind, for running another program in it. */
  podFor(kind: ProbePod): Promise<string> {
    return this.#hold(kind);
  }

  /** The database, opened once. */
  store(): Promise<TelemetryStore> {
    this.#store ??= TelemetryStore.open(this.cluster);
    return this.#store;
  }

  async podsOf(workload: string): Promise<Pod[]> {
    return await this.cluster.pods(workload);
  }

  async close(): Promise<void> {
    for (const held of this.#held.values()) held.release();
    await Promise.allSettled([...this.#held.values()].map((held) => held.gone));
    const store = await this.#store?.catch(() => undefined);
    await store?.close();
  }

  /** A probe pod that stays until `close`. */
  #hold(kind: ProbePod): Promise<string> {
    let held = this.#held.get(kind);
    if (!held) {
      const { promise: released, resolve: release } = Promise.withResolvers<void>();
      const { promise: name, resolve: ready, reject } = Promise.withResolvers<string>();
      const pod: OneOffPod = {
        prefix: `probe-${kind}`,
        image: this.image,
        labels: PROBE_PODS[kind],
        // Waits for its end; the probes are executed in it. The limit is the pod's own activeDeadlineSeconds.
        command: ["sleep", "3600"],
        ...(kind === "admin" ? { secrets: { "admin-tls": "/certs" } } : {}),
      };
      const gone = withPod(this.cluster, pod, this.#signal, async (podName) => {
        ready(podName);
        await released;
      }).catch(reject);
      held = { name, release, gone: gone.then(() => undefined) };
      this.#held.set(kind, held);
    }
    return held.name;
  }

  async #run(pod: string, probes: readonly Probe[]): Promise<Map<string, ProbeResult>> {
    const { stdout, stderr, exitCode } = await this.cluster.exec(pod, ["bun", "/app/probe.js"], {
      input: JSON.stringify(probes),
      timeoutMs: PROBE_RUN_LIMIT_MS,
      signal: this.#signal,
    });
    const text = stdout.trim();
    if (!text.startsWith("[")) {
      throw new OperatorError(`the probe in pod ${pod} gave no result (exit ${exitCode})`, {
        cause: new Error((stderr || stdout).trim().slice(0, 500) || "no output"),
      });
    }
    const results = new Map((JSON.parse(text) as ProbeResult[]).map((result) => [result.id, result]));
    for (const probe of probes) {
      if (!results.has(probe.id)) throw new OperatorError(`the probe in pod ${pod} left out "${probe.id}"`);
    }
    return results;
  }
}
