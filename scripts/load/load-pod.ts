/** The load generator's pod (services/tools/load-generator.ts): started, followed line by line, stopped, and its account read. */
import { formatStages, type LoadStage, totalSeconds } from "../../services/domain/load-stages.ts";
import type { ConveyorLedger, LoadSummary, SecondReport } from "../../services/tools/open-load.ts";
import { OperatorError } from "../cli/errors.ts";
import { pause } from "../cli/wait.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { type OneOffPod, podLog, type StartedPod, startPod } from "../cluster/one-off-pods.ts";

/** After the last stage the pod waits for its last answers (30 s and a retry) before it tells its account. */
const ACCOUNT_LIMIT_MS = 60_000;
/** After a signal it has a second to tell its account; the rest is the way of the signal and of the lines. */
const STOP_LIMIT_MS = 4000;
/** The pod ends itself so long after its last stage, whatever became of the command. */
const LIFETIME_SLACK_SECONDS = 180;

export type GeneratorSecond = SecondReport & { targets: number; cpu_cores: number };

export interface LoadPodOptions {
  image: string;
  stages: readonly LoadStage[];
  run: string;
  /** Conveyors are PREFIX-1 to PREFIX-<conveyors>. */
  conveyorPrefix: string;
  conveyors: number;
}

/** What one line of the pod says, or undefined for a log line and for half a line. */
export type GeneratorLine =
  | { stage: { t: number; index: number } & LoadStage }
  | { second: GeneratorSecond }
  | { ledger: ConveyorLedger }
  | { summary: LoadSummary };

export function parseGeneratorLine(line: string): GeneratorLine | undefined {
  if (!/^\{"(?:stage|second|ledger|summary)":/.test(line)) return undefined;
  try {
    return JSON.parse(line) as GeneratorLine;
  } catch {
    return undefined;
  }
}

export function loadPod(options: LoadPodOptions): OneOffPod {
  return {
    prefix: "load-generator",
    image: options.image,
    labels: {
      "app.kubernetes.io/name": "load-generator",
      "app.kubernetes.io/instance": "load-generator",
      "app.kubernetes.io/component": "load-generator",
      "app.kubernetes.io/part-of": "conveyor",
    },
    command: ["bun", "/app/load-generator.js"],
    environment: {
      STAGES: formatStages(options.stages),
      RUN_ID: options.run,
      CONVEYOR_PREFIX: options.conveyorPrefix,
      CONVEYORS: String(options.conveyors),
      TARGET_HOST: `producer-headless.${NAMESPACE}.svc.cluster.local`,
      TARGET_PORT: "8443",
      TARGET_SERVER_NAME: `producer.${NAMESPACE}.svc`,
      TARGET_CA: "/certs/ca.crt",
      INTAKE_TOKEN_FILE: "/secrets/producer-intake/token",
      // Bun's own bound on requests at a time lies below ours.
      BUN_CONFIG_MAX_HTTP_REQUESTS: "1000",
    },
    secrets: {
      "producer-tls": { folder: "/certs", keys: ["ca.crt"] },
      "producer-intake": { folder: "/secrets/producer-intake", keys: ["token"] },
    },
    lifetimeSeconds: Math.ceil(totalSeconds(options.stages)) + LIFETIME_SLACK_SECONDS,
  };
}

/** The account of a load, whole or as far as it came. */
export interface LoadOutcomes {
  /** Absent when the pod ended without it. */
  summary: LoadSummary | undefined;
  ledger: Map<string, ConveyorLedger>;
  seconds: GeneratorSecond[];
}

export class LoadPod {
  readonly account: LoadOutcomes = { summary: undefined, ledger: new Map(), seconds: [] };
  readonly #cluster: Cluster;
  readonly #pod: StartedPod;
  readonly #stop = new AbortController();
  readonly #following: Promise<void>;
  readonly #onLine: ((line: GeneratorLine) => void) | undefined;

  private constructor(cluster: Cluster, pod: StartedPod, onLine?: (line: GeneratorLine) => void) {
    this.#cluster = cluster;
    this.#pod = pod;
    this.#onLine = onLine;
    this.#following = this.#follow();
  }

  /** @throws OperatorError when the pod does not start. */
  static async start(
    cluster: Cluster,
    options: LoadPodOptions,
    signal: AbortSignal,
    onLine?: (line: GeneratorLine) => void,
  ): Promise<LoadPod> {
    return new LoadPod(cluster, await startPod(cluster, loadPod(options), signal), onLine);
  }

  get name(): string {
    return this.#pod.name;
  }

  /**
   * Waits for the account, at most as long as the stages and their last answers take.
   * @throws OperatorError when the pod ends without it; the signal's reason when that is aborted.
   */
  async finished(stages: readonly LoadStage[], signal: AbortSignal): Promise<LoadSummary> {
    const limitMs = totalSeconds(stages) * 1000 + ACCOUNT_LIMIT_MS;
    const startedAt = performance.now();
    while (this.account.summary === undefined) {
      if (performance.now() - startedAt > limitMs) {
        throw new OperatorError(`pod ${this.name} did not tell its account within ${Math.round(limitMs / 1000)} s`);
      }
      await Promise.race([this.#following, pause(1000, signal)]);
      if (this.#hasEnded && this.account.summary === undefined) {
        throw new OperatorError(`pod ${this.name} ended without its account`, {
          cause: new Error(await podLog(this.#cluster, this.name, { lines: 5 })),
        });
      }
    }
    return this.account.summary;
  }

  /** Ends the load now and waits a moment for the account. Harmless when it has ended. */
  async stop(): Promise<void> {
    if (this.account.summary || this.#hasEnded) return;
    // The program is process 1; its own handler ends the load and prints the account.
    void this.#cluster.exec(this.name, ["sh", "-c", "kill -TERM 1"], { timeoutMs: STOP_LIMIT_MS }).catch(() => {});
    const startedAt = performance.now();
    while (!this.account.summary && !this.#hasEnded && performance.now() - startedAt < STOP_LIMIT_MS) await pause(50);
  }

  /** Takes the pod away. */
  async remove(): Promise<void> {
    this.#stop.abort();
    await Promise.all([this.#pod.remove(), this.#following]);
  }

  #hasEnded = false;

  async #follow(): Promise<void> {
    for await (const line of this.#cluster.follow(this.name, parseGeneratorLine, this.#stop.signal)) {
      this.#take(line);
      if (this.account.summary) break;
    }
    this.#hasEnded = true;
  }

  #take(line: GeneratorLine): void {
    const { account } = this;
    if ("second" in line) account.seconds.push(line.second);
    else if ("ledger" in line) account.ledger.set(line.ledger.conveyor, line.ledger);
    else if ("summary" in line) account.summary = line.summary;
    this.#onLine?.(line);
  }
}
