/**
 * Pods and replica counts of the pipeline and their changes, from watches of the API server. Times are the times of
 * receipt on this machine.
 */

import { isAbort } from "../cli/errors.ts";
import { type Cluster, isReady, type KubernetesObject, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import type { MarkKind } from "./recording.ts";
import { SCALED_WORKLOADS, type ScaledWorkload, type ScalingEvent } from "./result.ts";

/** Workloads whose pods are watched, by app.kubernetes.io/name. */
export const WATCHED = ["producer", "processor", "kafka", "influxdb", "lag-exporter", "prometheus"] as const;
export type Watched = (typeof WATCHED)[number];

/** A pod of a watched workload. */
export interface PodState {
  name: string;
  uid: string;
  workload: Watched;
  /** Empty until the pod has one. */
  address: string;
  ready: boolean;
  /** Being deleted. */
  ending: boolean;
  restarts: number;
}

export interface ClusterWatchHandlers {
  onScale?: (change: ScalingEvent) => void;
  /** A pod became Ready. */
  onReady?: (pod: PodState, timeMs: number) => void;
  /** An event that charts mark. */
  onMark?: (kind: MarkKind, subject: string, text: string, timeMs: number) => void;
  /** A watch has ended for good. */
  onLost?: (error: unknown) => void;
}

type Scalable = KubernetesObject & { spec: { replicas?: number } };

const WORKLOAD_KINDS: Record<ScaledWorkload, string> = { producer: "statefulsets", processor: "deployments" };

/** The state of pods, from the events of their watch. */
export class PodLedger {
  readonly #pods = new Map<string, PodState>();
  #synced = false;

  constructor(private readonly handlers: ClusterWatchHandlers = {}) {}

  /** All existing pods; a pod that is not listed any more was deleted. */
  sync(pods: readonly Pod[], timeMs: number): void {
    const there = new Set(pods.map(({ metadata }) => metadata.uid));
    for (const [uid] of this.#pods) if (!there.has(uid)) this.#remove(uid, timeMs);
    for (const pod of pods) this.change(pod, timeMs);
    this.#synced = true;
  }

  change(pod: Pod, timeMs: number): void {
    const state = stateOf(pod);
    if (!state) return;
    const before = this.#pods.get(state.uid);
    this.#pods.set(state.uid, state);
    if (!this.#synced) return;
    const subject = `pod/${state.name}`;
    const mark = (text: string) => this.handlers.onMark?.("pod", subject, text, timeMs);
    if (!before) mark(`${state.name} was created`);
    if (state.restarts > (before?.restarts ?? 0)) mark(`${state.name}: its container was restarted`);
    if (state.ending && !before?.ending) mark(`${state.name} is being deleted`);
    if (state.ready && !before?.ready) {
      mark(`${state.name} is Ready`);
      this.handlers.onReady?.(state, timeMs);
    } else if (!state.ready && before?.ready && !state.ending) mark(`${state.name} is no longer Ready`);
  }

  delete(pod: Pod, timeMs: number): void {
    this.#remove(pod.metadata.uid ?? "", timeMs);
  }

  #remove(uid: string, timeMs: number): void {
    const state = this.#pods.get(uid);
    if (!state) return;
    this.#pods.delete(uid);
    this.handlers.onMark?.("pod", `pod/${state.name}`, `${state.name} was deleted`, timeMs);
  }

  /** Pods of a workload that are not being deleted. */
  of(workload: Watched): PodState[] {
    return [...this.#pods.values()].filter((pod) => pod.workload === workload && !pod.ending);
  }

  /** Every pod, also those that are being deleted. */
  all(): PodState[] {
    return [...this.#pods.values()];
  }

  ready(workload: Watched): number {
    return this.of(workload).filter(({ ready }) => ready).length;
  }

  readyAddresses(workload: Watched): string[] {
    return this.of(workload).flatMap(({ ready, address }) => (ready ? [address] : []));
  }
}

function stateOf(pod: Pod): PodState | undefined {
  const workload = pod.metadata.labels?.["app.kubernetes.io/name"] as Watched | undefined;
  if (!workload || !WATCHED.includes(workload) || !pod.metadata.uid) return undefined;
  const ending = Boolean(pod.metadata.deletionTimestamp);
  return {
    name: pod.metadata.name,
    uid: pod.metadata.uid,
    workload,
    address: pod.status.podIP ?? "",
    // A pod that is being deleted accepts no work, whatever its last probe returned.
    ready: !ending && isReady(pod),
    ending,
    restarts: pod.status.containerStatuses?.reduce((sum, { restartCount }) => sum + restartCount, 0) ?? 0,
  };
}

export class ClusterWatch {
  readonly pods: PodLedger;
  readonly #desired = new Map<ScaledWorkload, number>();
  readonly #stop = new AbortController();
  readonly #work: Promise<void>[];

  /** Begins to watch, until the signal. */
  constructor(
    cluster: Cluster,
    private readonly handlers: ClusterWatchHandlers,
    signal: AbortSignal,
  ) {
    this.pods = new PodLedger(handlers);
    const ended = AbortSignal.any([signal, this.#stop.signal]);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.synced = promise;
    const open = new Set<string>(["pods", ...SCALED_WORKLOADS]);
    const synced = (name: string) => {
      open.delete(name);
      if (open.size === 0) resolve();
    };
    ended.addEventListener("abort", () => resolve(), { once: true });
    this.#work = [
      this.#watchPods(cluster, ended, () => synced("pods")),
      ...SCALED_WORKLOADS.map((workload) => this.#watchScale(cluster, workload, ended, () => synced(workload))),
    ].map((work) =>
      work.catch((error) => {
        if (!isAbort(error) && !ended.aborted) handlers.onLost?.(error);
        resolve();
      }),
    );
  }

  /** Resolves when the present state is known. */
  readonly synced: Promise<void>;

  /** Replicas in the spec of the workload; null: not known. */
  desired(workload: ScaledWorkload): number | null {
    return this.#desired.get(workload) ?? null;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#work);
  }

  async #watchPods(cluster: Cluster, signal: AbortSignal, synced: () => void): Promise<void> {
    for await (const event of cluster.watch<Pod>(`/api/v1/namespaces/${NAMESPACE}/pods`, signal)) {
      const now = Date.now();
      if (event.type === "SYNC") {
        this.pods.sync(event.objects, now);
        synced();
      } else if (event.type === "DELETED") this.pods.delete(event.object, now);
      else this.pods.change(event.object, now);
    }
  }

  async #watchScale(
    cluster: Cluster,
    workload: ScaledWorkload,
    signal: AbortSignal,
    synced: () => void,
  ): Promise<void> {
    const field = encodeURIComponent(`metadata.name=${workload}`);
    const path = `/apis/apps/v1/namespaces/${NAMESPACE}/${WORKLOAD_KINDS[workload]}?fieldSelector=${field}`;
    for await (const event of cluster.watch<Scalable>(path, signal)) {
      const objects = event.type === "SYNC" ? event.objects : event.type === "DELETED" ? [] : [event.object];
      for (const { spec } of objects) this.#scaled(workload, spec.replicas ?? 1, Date.now());
      if (event.type === "SYNC") synced();
    }
  }

  #scaled(workload: ScaledWorkload, to: number, timeMs: number): void {
    const from = this.#desired.get(workload);
    this.#desired.set(workload, to);
    if (from === undefined || from === to) return;
    this.handlers.onMark?.("scale", workload, `${workload} ${from} → ${to}`, timeMs);
    this.handlers.onScale?.({ timeMs, workload, from, to });
  }
}
