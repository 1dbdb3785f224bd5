/**
 * The cluster that a command works on. Only this file starts kubectl on a cluster: every call names the context (and the
 * kubeconfig of the local cluster), so that a changed current context cannot redirect a command.
 */
import { isDeepStrictEqual } from "node:util";
import { type TextLineOptions, textLines } from "../../services/domain/ndjson.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { type Child, capture, start } from "../cli/process.ts";
import { pause } from "../cli/wait.ts";
import { NAMESPACE } from "./namespace.ts";

export { NAMESPACE };

/** Owner of the fields that deploy applies (server-side apply). */
const FIELD_MANAGER = "conveyor-deploy";

/** One kubectl call: generous for a busy two-core machine, short enough that a dead API server is noticed. */
const KUBECTL_LIMIT_MS = 60_000;
/** Pause before an ended watch is started again. */
const WATCH_RETRY_MS = 1000;
/** Consecutive failures that end a watch: an API server recovers within a minute or not at all. */
const MAX_WATCH_FAILURES = 60;
/** The server ends a watch after this time, so that a dead connection is noticed. */
const WATCH_SECONDS = 1800;
/** Pause before an ended log stream is opened again. */
const FOLLOW_RETRY_MS = 300;
/** kubectl port-forward prints its local port within a second, on a busy machine within ten. */
const PORT_FORWARD_LIMIT_MS = 45_000;

export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    generation?: number;
    resourceVersion?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    ownerReferences?: { kind: string; name: string }[];
    deletionTimestamp?: string;
    creationTimestamp?: string;
  };
  // Kind-specific parts are read where they are needed.
  [field: string]: unknown;
}

export interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
}

/** A Deployment, StatefulSet or DaemonSet. */
export interface Workload extends KubernetesObject {
  spec: { replicas?: number; template: { spec: { containers: { image: string }[] } } };
  status?: {
    observedGeneration?: number;
    replicas?: number;
    updatedReplicas?: number;
    readyReplicas?: number;
    availableReplicas?: number;
    currentRevision?: string;
    updateRevision?: string;
    // A DaemonSet counts nodes.
    desiredNumberScheduled?: number;
    updatedNumberScheduled?: number;
    numberReady?: number;
  };
}

/** Whether the pod's readiness probe succeeds; of a pod that is being deleted it may still do so. */
export const isReady = ({ status }: Pick<Pod, "status">): boolean =>
  status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;

export interface Pod extends KubernetesObject {
  spec: {
    nodeName?: string;
    containers: { name: string; image: string; securityContext?: Record<string, unknown> }[];
    securityContext?: Record<string, unknown>;
  };
  status: {
    phase: string;
    podIP?: string;
    reason?: string;
    conditions?: Condition[];
    containerStatuses?: {
      name: string;
      ready: boolean;
      restartCount: number;
      imageID: string;
      containerID?: string;
      state: {
        waiting?: { reason?: string; message?: string };
        running?: object;
        terminated?: { reason?: string; exitCode: number; message?: string };
      };
      lastState?: { terminated?: { reason?: string; exitCode: number } };
    }[];
  };
}

export interface KubectlResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

export interface KubectlOptions {
  input?: string | Uint8Array;
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Return the result of a failed call instead of throwing. */
  allowFailure?: boolean;
}

export interface LinesOptions extends TextLineOptions {
  /** Written to stdin. */
  input?: string;
  /** Without it the call runs until it ends or the signal is aborted. */
  timeoutMs?: number;
  /** Throw a KubectlError when the call fails, instead of ending. */
  mustSucceed?: boolean;
}

/** A failed kubectl call; for `exec` the exit code is the command's. */
export class KubectlError extends OperatorError {
  constructor(
    args: readonly string[],
    readonly result: Pick<KubectlResult, "exitCode" | "stderr">,
  ) {
    super(`${commandOf(args)} failed (exit ${result.exitCode}): ${result.stderr.trim()}`);
    this.name = "KubectlError";
  }

  /** The API server does not have the kind. kubectl reports it by its message only. */
  get isUnknownKind(): boolean {
    return UNKNOWN_KIND.test(this.result.stderr);
  }
}

const UNKNOWN_KIND = /doesn't have a resource type|could not find the requested resource/;

/** Events of a watch: the existing objects, then each change; after a reconnect all objects again. */
export type WatchEvent<T extends KubernetesObject> =
  | { type: "SYNC"; objects: T[] }
  | { type: "ADDED" | "MODIFIED" | "DELETED"; object: T };

export interface PortForward extends AsyncDisposable {
  /** Port on 127.0.0.1. */
  port: number;
  close(): Promise<void>;
}

export interface AppliedObject {
  ref: string;
  change: "created" | "changed" | "unchanged" | "removed";
}

export interface ClusterLocation {
  context: string;
  /** Absent: the default of kubectl (KUBECONFIG, ~/.kube/config). */
  kubeconfig?: string;
  /** True for the cluster of scripts/local-cluster.ts. */
  isLocal: boolean;
  /** UID of the namespace kube-system that the cluster must have: a context's name may lead to another cluster tomorrow. */
  clusterId?: string | undefined;
}

/** "Kind/name" of an object, with its namespace unless it is the pipeline's. */
export function refOf(object: KubernetesObject): string {
  const { name, namespace } = object.metadata;
  return `${object.kind}/${name}${namespace && namespace !== NAMESPACE ? ` (${namespace})` : ""}`;
}

export class Cluster implements ClusterLocation {
  readonly context: string;
  readonly kubeconfig: string | undefined;
  readonly isLocal: boolean;
  readonly clusterId: string | undefined;
  readonly #command: string;

  constructor(location: ClusterLocation, command = "kubectl") {
    this.context = location.context;
    this.kubeconfig = location.kubeconfig;
    this.isLocal = location.isLocal;
    this.clusterId = location.clusterId;
    this.#command = command;
  }

  /** The line that a command prints before it changes anything. */
  describe(): string {
    const where = this.isLocal ? "the local cluster" : "an existing cluster";
    return `context ${this.context} (${where}), namespace ${NAMESPACE}`;
  }

  /** The complete command line of a call. */
  #commandLine(args: readonly string[]): string[] {
    const location = ["--context", this.context];
    if (this.kubeconfig) location.push("--kubeconfig", this.kubeconfig);
    return [this.#command, ...location, ...args];
  }

  /** Starts kubectl for a stream; disposing the child ends it. */
  #start(args: readonly string[], options: Parameters<typeof start>[1] = {}): Child {
    return start(this.#commandLine(args), { ...options, what: commandOf(args) });
  }

  /**
   * Runs kubectl.
   * @throws KubectlError when it fails (unless allowFailure), OperatorError (exit 4) when it exceeds its limit
   */
  async kubectl(args: readonly string[], options: KubectlOptions = {}): Promise<KubectlResult> {
    const { allowFailure, timeoutMs = KUBECTL_LIMIT_MS, ...rest } = options;
    const what = commandOf(args);
    const result = await capture(this.#commandLine(args), { ...rest, timeoutMs, what }).catch((error: unknown) => {
      if (!(error instanceof OperatorError) || error.exitCode !== EXIT.timeout) throw error;
      const hint = this.isLocal
        ? "bun scripts/local-cluster.ts status"
        : `kubectl --context ${this.context} get --raw /readyz`;
      throw new OperatorError(`${what} did not answer within ${timeoutMs / 1000} s`, { exitCode: EXIT.timeout, hint });
    });
    if (result.exitCode !== 0 && !allowFailure) throw new KubectlError(args, result);
    return result;
  }

  /** The parsed answer of a call with `-o json`. */
  async json<T>(args: readonly string[], options: KubectlOptions = {}): Promise<T> {
    const { stdout } = await this.kubectl([...args, "-o", "json"], options);
    return JSON.parse(stdout) as T;
  }

  /** One object, or undefined when it does not exist. */
  async get<T extends KubernetesObject>(kind: string, name: string, namespace = NAMESPACE): Promise<T | undefined> {
    const { stdout } = await this.kubectl(["get", kind, name, "-n", namespace, "--ignore-not-found", "-o", "json"]);
    return stdout.trim() === "" ? undefined : (JSON.parse(stdout) as T);
  }

  /** Objects of a kind in the pipeline's namespace, by label selector. */
  async list<T extends KubernetesObject>(kind: string, selector?: string, namespace = NAMESPACE): Promise<T[]> {
    const args = ["get", kind, "-n", namespace, ...(selector ? ["-l", selector] : [])];
    return (await this.json<{ items: T[] }>(args)).items;
  }

  /** Objects of a kind in a namespace; none when the API server does not have the kind. */
  async listIfServed(kind: string, namespace: string, signal: AbortSignal): Promise<KubernetesObject[]> {
    try {
      return (await this.json<{ items: KubernetesObject[] }>(["get", kind, "-n", namespace], { signal })).items;
    } catch (error) {
      if (error instanceof KubectlError && error.isUnknownKind) return [];
      throw error;
    }
  }

  /** Running pods of one workload, without those that are being deleted. */
  async runningPods(name: string): Promise<Pod[]> {
    return (await this.pods(name)).filter(({ status }) => status.phase === "Running");
  }

  /** Pods of one workload by its app.kubernetes.io/name, without those that are being deleted. */
  async pods(name: string, namespace = NAMESPACE): Promise<Pod[]> {
    const pods = await this.list<Pod>("pods", `app.kubernetes.io/name=${name}`, namespace);
    return pods.filter((pod) => !pod.metadata.deletionTimestamp);
  }

  /**
   * Server-side apply of objects, with the change of each. `dryRun`: the server validates and stores nothing.
   * @throws OperatorError with the server's message; the objects before the rejected one may have been applied
   */
  async apply(
    objects: readonly KubernetesObject[],
    options: { dryRun?: boolean; signal?: AbortSignal } = {},
  ): Promise<AppliedObject[]> {
    if (objects.length === 0) return [];
    const input = listOf(objects);
    const before = new Map((await this.existing(objects, options.signal)).map((object) => [keyOf(object), object]));
    const args = [
      "apply",
      "--server-side",
      "--field-manager",
      FIELD_MANAGER,
      "--force-conflicts",
      "-f",
      "-",
      "-o",
      "json",
    ];
    if (options.dryRun) args.push("--dry-run=server");
    const { stdout } = await this.kubectl(args, { input, signal: options.signal });
    const after = parseList(stdout);
    return after.map((object) => {
      const old = before.get(keyOf(object));
      const change = !old ? "created" : sameContent(old, object) ? "unchanged" : "changed";
      return { ref: refOf(object), change };
    });
  }

  /** Deletes objects in one call and waits until they no longer exist; those that do not exist are ignored. */
  async delete(
    objects: readonly KubernetesObject[],
    options: { timeoutMs: number; signal: AbortSignal },
  ): Promise<void> {
    if (objects.length === 0) return;
    const items = objects.map(({ apiVersion, kind, metadata: { name, namespace } }) => ({
      apiVersion,
      kind,
      metadata: { name, namespace },
    }));
    await this.kubectl(["delete", "-f", "-", "--ignore-not-found"], { ...options, input: listOf(items) });
  }

  /**
   * Reads those of the objects that exist in the cluster, in one call.
   * @throws OperatorError when the cluster cannot be read, or has no such kind
   */
  async existing(objects: readonly KubernetesObject[], signal?: AbortSignal): Promise<KubernetesObject[]> {
    if (objects.length === 0) return [];
    const { stdout, exitCode, stderr } = await this.kubectl(["get", "-f", "-", "--ignore-not-found", "-o", "json"], {
      input: listOf(objects),
      allowFailure: true,
      signal,
    });
    if (exitCode !== 0 && !/not found|NotFound/.test(stderr)) {
      throw new OperatorError(`the cluster could not be read: ${stderr.trim()}`);
    }
    return parseList(stdout);
  }

  /**
   * Runs a command in a pod's container.
   * @returns the command's result, also when it fails
   */
  async exec(
    pod: string,
    command: readonly string[],
    options: KubectlOptions & { container?: string; namespace?: string } = {},
  ): Promise<KubectlResult> {
    const args = ["exec", pod, "-n", options.namespace ?? NAMESPACE];
    if (options.container) args.push("-c", options.container);
    if (options.input !== undefined) args.push("-i");
    return await this.kubectl([...args, "--", ...command], { ...options, allowFailure: true });
  }

  /**
   * Lines of stdout while the call runs. The generator ends with the call; leaving the loop or aborting the signal ends the
   * call.
   * @throws with mustSucceed: KubectlError when the call fails, OperatorError (exit 4) when it exceeds its limit
   */
  async *lines(
    args: readonly string[],
    signal: AbortSignal,
    options: LinesOptions = {},
  ): AsyncGenerator<string, void, void> {
    if (signal.aborted) return;
    const { mustSucceed, maxBytes, skipCutEnd, ...rest } = options;
    await using child = this.#start(args, { ...rest, signal });
    yield* textLines(child.stdout, { maxBytes, skipCutEnd });
    if (!mustSucceed || signal.aborted) return;
    const exitCode = await child.exited;
    if (exitCode !== 0) throw new KubectlError(args, { exitCode, stderr: child.stderr });
  }

  /**
   * Streams `input` into the stdin of a pod's container and closes it. A chunk is read when the pipe has taken the one
   * before, so that the container's backpressure reaches the source. `isSent` is false when the call ended before the
   * input; that the container has read everything, only the container can confirm.
   */
  async attach(
    pod: string,
    input: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<Pick<KubectlResult, "exitCode" | "stderr"> & { isSent: boolean }> {
    const args = ["attach", pod, "-n", NAMESPACE, "-i", "--quiet"];
    await using child = this.#start(args, { stdin: "pipe", stdout: "ignore", signal });
    const chunks = input[Symbol.asyncIterator]();
    // The end of the call is noticed also while the source is silent. A race with its promise would retain every chunk.
    let onEnd = () => {};
    let hasEnded = false;
    void child.exited
      .catch(() => {})
      .then(() => {
        hasEnded = true;
        onEnd();
      });
    let isSent = false;
    while (!isSent) {
      const next = await new Promise<IteratorResult<Uint8Array> | undefined>((resolve, reject) => {
        onEnd = () => resolve(undefined);
        if (hasEnded) onEnd();
        else chunks.next().then(resolve, reject);
      });
      signal.throwIfAborted();
      if (next?.done) isSent = true;
      else if (!next || !(await child.write(next.value))) break;
    }
    // Not awaited: a source that waits for its next chunk returns after that chunk only.
    if (!isSent) void chunks.return?.();
    child.closeInput();
    const exitCode = await child.exited;
    signal.throwIfAborted();
    return { exitCode, stderr: child.stderr, isSent };
  }

  /**
   * Log of a pod's container, parsed line by line, across restarts and broken connections; each line once. Ends when the
   * pod has ended or was deleted, or with the signal. A pod of the same name that replaces it is another pod.
   * @param parse returns undefined for lines to skip
   */
  async *follow<T>(
    pod: string,
    parse: (line: string) => T | undefined,
    signal: AbortSignal,
    namespace = NAMESPACE,
  ): AsyncGenerator<T, void, void> {
    let uid: string | undefined;
    // The server's --since-time has a resolution of a second: what it repeats is skipped by the time of each line.
    const last = { time: "", lines: 0 };
    while (!signal.aborted) {
      // When the API server does not answer, the pod may exist: the next round checks again.
      const live = await this.get<Pod>("pod", pod, namespace).catch(() => "unknown" as const);
      let hasEnded = false;
      if (live !== "unknown") {
        uid ??= live?.metadata.uid;
        if (!live || live.metadata.uid !== uid) return;
        hasEnded = live.status.phase === "Succeeded" || live.status.phase === "Failed";
      }
      const args = ["logs", "--follow", pod, "-n", namespace, "--timestamps", "--tail=-1"];
      if (last.time) args.push(`--since-time=${last.time}`);
      let linesAtLast = 0;
      for await (const line of this.lines(args, signal, { skipCutEnd: !hasEnded })) {
        const [, time, text] = LOG_LINE.exec(line) ?? [];
        if (time === undefined || time < last.time) continue;
        if (time > last.time) {
          Object.assign(last, { time, lines: 0 });
          linesAtLast = 0;
        }
        if (++linesAtLast <= last.lines) continue;
        last.lines = linesAtLast;
        const parsed = parse(text!);
        if (parsed !== undefined) yield parsed;
      }
      if (hasEnded) return;
      await pause(FOLLOW_RETRY_MS, signal).catch(() => {});
    }
  }

  /**
   * Objects of an API path and their changes, for example `/api/v1/namespaces/conveyor/pods`, until the signal. After a
   * reconnect all objects are reported again (SYNC).
   * @throws OperatorError when the API server does not answer for a minute.
   */
  async *watch<T extends KubernetesObject>(
    path: string,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent<T>, void, void> {
    const and = path.includes("?") ? "&" : "?";
    for (let failures = 0; !signal.aborted; ) {
      try {
        const { stdout } = await this.kubectl(["get", "--raw", path], { signal });
        const list = JSON.parse(stdout) as { metadata: { resourceVersion: string }; items: T[] };
        yield { type: "SYNC", objects: list.items };
        const query = `watch=1&resourceVersion=${list.metadata.resourceVersion}&timeoutSeconds=${WATCH_SECONDS}`;
        for await (const line of this.lines(["get", "--raw", `${path}${and}${query}`], signal)) {
          const event = JSON.parse(line) as { type: string; object: T };
          // "ERROR": the version is too old, or the server shuts down.
          if (event.type === "ERROR") break;
          failures = 0;
          yield event as WatchEvent<T>;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (++failures >= MAX_WATCH_FAILURES) {
          throw new OperatorError(`${path} cannot be watched: the API server does not answer`, {
            exitCode: EXIT.timeout,
            cause: error,
          });
        }
      }
      await pause(WATCH_RETRY_MS, signal).catch(() => {});
    }
  }

  /** Forwards a local port on 127.0.0.1 to a pod, service or workload until it is closed. */
  async portForward(target: string, port: number, namespace = NAMESPACE): Promise<PortForward> {
    const child = this.#start(["port-forward", "-n", namespace, "--address", "127.0.0.1", target, `:${port}`]);
    const limit = setTimeout(() => void child.stop(), PORT_FORWARD_LIMIT_MS);
    try {
      const lines = textLines(child.stdout);
      for (let next = await lines.next(); !next.done; next = await lines.next()) {
        const match = /127\.0\.0\.1:(\d+) ->/.exec(next.value);
        if (!match) continue;
        // Keep reading: port-forward prints a line per connection and would block on a full pipe.
        void (async () => {
          while (!(await lines.next()).done) {}
        })().catch(() => {});
        const close = () => child.stop();
        return { port: Number(match[1]), close, [Symbol.asyncDispose]: close };
      }
    } finally {
      clearTimeout(limit);
    }
    await child.stop();
    const reason = child.stderr.trim() || "no answer";
    throw new OperatorError(`port-forward to ${target} port ${port} did not start: ${reason}`);
  }
}

/** Name of a call in messages: its first arguments. */
const commandOf = (args: readonly string[]) => `kubectl ${args.slice(0, 6).join(" ")}`;

/** A line of `kubectl logs --timestamps`; the kubelet's own messages have no time. Times have a fixed width. */
const LOG_LINE = /^(\d{4}-\d\d-\d\dT\S+) (.*)$/s;

/** Identity of an object, independent of its API version. */
export const keyOf = (object: KubernetesObject) =>
  `${object.apiVersion.split("/")[0]}|${object.kind}|${object.metadata.namespace ?? ""}|${object.metadata.name}`;

/** The objects as input of kubectl. */
export const listOf = (items: readonly KubernetesObject[]): string =>
  JSON.stringify({ apiVersion: "v1", kind: "List", items });

/** Objects of a kubectl answer: one object, a List, or nothing. */
function parseList(text: string): KubernetesObject[] {
  if (text.trim() === "") return [];
  const parsed = JSON.parse(text) as KubernetesObject & { items?: KubernetesObject[] };
  return parsed.kind === "List" ? (parsed.items ?? []) : [parsed];
}

/**
 * Whether an apply left the content of an object unchanged: labels, annotations and everything but the status. The
 * resource version does not show it: it also changes with the ownership of fields, and does not change in a dry run.
 */
export function sameContent(before: KubernetesObject, after: KubernetesObject): boolean {
  return isDeepStrictEqual(contentOf(before), contentOf(after));
}

function contentOf(object: KubernetesObject): unknown {
  const { status: _status, ...rest } = object;
  const { name, namespace, labels, annotations } = object.metadata;
  return { ...rest, metadata: { name, namespace, labels, annotations } };
}

/** Every API of the server, those of operators included, as `group/version`. */
export async function apiVersionsOf(cluster: Cluster, signal?: AbortSignal): Promise<Set<string>> {
  const { stdout } = await cluster.kubectl(["api-versions"], { signal });
  return new Set(stdout.split("\n").filter(Boolean));
}
