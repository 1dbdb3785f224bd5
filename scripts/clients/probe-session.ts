/**
 * Access of one command to the inside of a cluster: probe pods, one of each kind, started on first use, and one open
 * database. `close` removes everything, also after an interrupt.
 */

import { BY_ENVIRONMENT } from "../../services/protocol/kafka.ts";
import type { Probe, ProbeData, ProbeResult, ProbeSpec } from "../../services/protocol/probe.ts";
import { OperatorError } from "../cli/errors.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { definedOnly, type ExternalStores, kafkaAccessOf, readExternalStores } from "../cluster/external-stores.ts";
import { type OneOffPod, withPod } from "../cluster/one-off-pods.ts";
import { TelemetryStore } from "./influxdb.ts";

/** Results by the names of their probes, each with the data of its probe. */
export type ProbeResults<P extends Record<string, ProbeSpec>> = { [Name in keyof P]: ProbeResult<ProbeData<P[Name]>> };
export type RunProbes = <const P extends Record<string, ProbeSpec>>(probes: P) => Promise<ProbeResults<P>>;

/** Data of a probe that read `what`. @throws OperatorError when it failed */
export function readBy<Data>(result: ProbeResult<Data>, what: string): Data {
  if (!result.ok) throw new OperatorError(`${what} cannot be read: ${result.outcome} ${result.detail}`);
  return result.data;
}

/** Each probe has its own limit; this one is for the complete call. */
const PROBE_RUN_LIMIT_MS = 60_000;

/** Longer than validate, an audit or a replay takes; a run of drills gives its own length. */
const LIFETIME_SECONDS = 3600;

/** In-cluster addresses, as the workloads use them. */
export const HOSTS = {
  kafka: `kafka.${NAMESPACE}.svc`,
  influxdb: `influxdb.${NAMESPACE}.svc`,
  apiServer: "kubernetes.default.svc",
} as const;

export const KAFKA_CLIENT_PORT = 9092;
export const INFLUXDB_PORT = 8086;

/** Access to Kafka as the pod has it that the probe runs in: its brokers, its identity. */
export const KAFKA = { brokers: BY_ENVIRONMENT } as const;

/** Labels of the pods that are started for probes. */
const PROBE_PODS = {
  /** No network policy selects it. */
  unlabelled: {},
  /** The network policies of the setup job apply, and it has the administrator's certificate. */
  admin: { "app.kubernetes.io/name": "setup", "app.kubernetes.io/instance": "setup" },
} as const satisfies Record<string, Record<string, string>>;

export type ProbePod = keyof typeof PROBE_PODS;

interface HeldPod {
  name: Promise<string>;
  release: () => void;
  gone: Promise<void>;
}

export class ProbeSession implements AsyncDisposable {
  readonly cluster: Cluster;
  /** The services' image; it contains the probe program. */
  readonly image: string;
  readonly #held = new Map<ProbePod, HeldPod>();
  readonly #signal: AbortSignal;
  readonly #lifetimeSeconds: number;
  #store: Promise<TelemetryStore> | undefined;
  #stores: Promise<ExternalStores> | undefined;

  /** @param lifetimeSeconds of the probe pods: the kubelet ends those of a killed command then */
  constructor(cluster: Cluster, image: string, signal: AbortSignal, lifetimeSeconds = LIFETIME_SECONDS) {
    this.#lifetimeSeconds = lifetimeSeconds;
    this.cluster = cluster;
    this.image = image;
    this.#signal = signal;
  }

  /** Runs probes in a running pod of a workload: its network policies and certificates apply. */
  async probeIn<const P extends Record<string, ProbeSpec>>(workload: string, probes: P): Promise<ProbeResults<P>> {
    const [pod] = await this.cluster.runningPods(workload);
    if (!pod) throw new OperatorError(`no running pod of ${workload} to probe from`);
    return await this.#run(pod.metadata.name, probes);
  }

  /** Runs probes in a probe pod. */
  async probeFrom<const P extends Record<string, ProbeSpec>>(kind: ProbePod, probes: P): Promise<ProbeResults<P>> {
    return await this.#run(await this.#hold(kind), probes);
  }

  /** Name of a probe pod, for running another program in it. */
  podFor(kind: ProbePod): Promise<string> {
    return this.#hold(kind);
  }

  /** The database, opened once. */
  store(): Promise<TelemetryStore> {
    this.#store ??= TelemetryStore.open(this.cluster);
    return this.#store;
  }

  /** The external Kafka and InfluxDB of the deployed pipeline. */
  stores(): Promise<ExternalStores> {
    this.#stores ??= readExternalStores(this.cluster);
    return this.#stores;
  }

  async close(): Promise<void> {
    for (const held of this.#held.values()) held.release();
    await Promise.allSettled([...this.#held.values()].map((held) => held.gone));
    const store = await this.#store?.catch(() => undefined);
    await store?.close();
  }

  [Symbol.asyncDispose] = () => this.close();

  /** A probe pod that exists until `close`. */
  #hold(kind: ProbePod): Promise<string> {
    let held = this.#held.get(kind);
    if (!held) {
      const { promise: released, resolve: release } = Promise.withResolvers<void>();
      const { promise: name, resolve: ready, reject } = Promise.withResolvers<string>();
      const pod = async (): Promise<OneOffPod> => {
        const access = kafkaAccessOf(await this.stores(), [`${HOSTS.kafka}:${KAFKA_CLIENT_PORT}`]);
        const isAdmin = kind === "admin";
        return {
          prefix: `probe-${kind}`,
          image: this.image,
          labels: PROBE_PODS[kind],
          // Probes are executed in it.
          command: ["sleep", String(this.#lifetimeSeconds)],
          lifetimeSeconds: this.#lifetimeSeconds,
          environment: isAdmin ? definedOnly(access.environment) : {},
          secrets: isAdmin ? { "admin-tls": "/certs", ...access.secrets } : {},
        };
      };
      const run = async () =>
        await withPod(this.cluster, await pod(), this.#signal, async (podName) => {
          ready(podName);
          await released;
        });
      const gone = run().catch(reject);
      held = { name, release, gone: gone.then(() => undefined) };
      this.#held.set(kind, held);
    }
    return held.name;
  }

  async #run<P extends Record<string, ProbeSpec>>(pod: string, probes: P): Promise<ProbeResults<P>> {
    const request = Object.entries(probes).map(([id, probe]): Probe => ({ ...probe, id }));
    const { stdout, stderr, exitCode } = await this.cluster.exec(pod, ["bun", "/app/probe.js"], {
      input: JSON.stringify(request),
      timeoutMs: PROBE_RUN_LIMIT_MS,
      signal: this.#signal,
    });
    if (exitCode !== 0) {
      throw new OperatorError(`the probe in pod ${pod} failed (exit ${exitCode})`, {
        cause: new Error((stderr || stdout).trim().slice(0, 500) || "no output"),
      });
    }
    const results = Object.fromEntries((JSON.parse(stdout) as ProbeResult[]).map((result) => [result.id, result]));
    for (const { id } of request) {
      if (!results[id]) throw new OperatorError(`the probe in pod ${pod} has no result for "${id}"`);
    }
    return results as ProbeResults<P>;
  }
}
