/** The pod of the load generator (services/tools/load-generator.ts): started, followed line by line, stopped, removed. */
import { formatStages, type LoadStage, totalSeconds } from "../../services/domain/load-stages.ts";
import { type GeneratorLine, type LoadEvents, parseGeneratorLine } from "../../services/protocol/load-generator.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { type OneOffPod, type StartedPod, startPod } from "../cluster/one-off-pods.ts";

/** The pod ends this long after its last stage, also when the command was killed. */
const LIFETIME_SLACK_SECONDS = 180;
/** A busy machine takes some seconds for an exec. */
const SIGNAL_LIMIT_MS = 30_000;

export interface GeneratorOptions {
  image: string;
  stages: readonly LoadStage[];
  /** Names the events. */
  run: string;
  events: LoadEvents;
  /** Label of the pod: the run's folder. */
  folder: string;
  /**
   * open: on schedule, over all producers in turn, conveyors PREFIX-1 to PREFIX-<conveyors>.
   * ordered: one batch per conveyor at a time, repeated until acknowledged, through the producers' Service.
   */
  schedule:
    | { kind: "open"; conveyorPrefix: string; conveyors: number }
    | { kind: "ordered"; conveyors: readonly string[] };
}

function scheduleVariables({ schedule }: GeneratorOptions): Record<string, string> {
  const { kind } = schedule;
  if (kind === "ordered") {
    return {
      SCHEDULE: kind,
      CONVEYOR_NAMES: schedule.conveyors.join(","),
      TARGET_HOST: `producer.${NAMESPACE}.svc`,
    };
  }
  return {
    SCHEDULE: kind,
    CONVEYOR_PREFIX: schedule.conveyorPrefix,
    CONVEYORS: String(schedule.conveyors),
    TARGET_HOST: `producer-headless.${NAMESPACE}.svc`,
  };
}

function generatorPod(options: GeneratorOptions): OneOffPod {
  return {
    prefix: "load-generator",
    image: options.image,
    labels: {
      "app.kubernetes.io/name": "load-generator",
      "app.kubernetes.io/instance": "load-generator",
      "app.kubernetes.io/component": "load-generator",
      "app.kubernetes.io/part-of": "conveyor",
      "conveyor.dev/run": options.folder,
    },
    command: ["bun", "/app/load-generator.js"],
    environment: {
      STAGES: formatStages(options.stages),
      RUN_ID: options.run,
      EVENTS: options.events,
      ...scheduleVariables(options),
      TARGET_PORT: "8443",
      TARGET_SERVER_NAME: `producer.${NAMESPACE}.svc`,
      TARGET_CA: "/certs/ca.crt",
      INTAKE_TOKEN_FILE: "/secrets/producer-intake/token",
      // Bun's default limit on concurrent requests is below the generator's.
      BUN_CONFIG_MAX_HTTP_REQUESTS: "1000",
    },
    secrets: {
      "producer-tls": { folder: "/certs", keys: ["ca.crt"] },
      "producer-intake": { folder: "/secrets/producer-intake", keys: ["token"] },
    },
    lifetimeSeconds: Math.ceil(totalSeconds(options.stages)) + LIFETIME_SLACK_SECONDS,
  };
}

export class GeneratorPod {
  /** Resolves after the generator's last line, or when the pod has ended without it. */
  readonly ended: Promise<void>;
  #hasEnded = false;
  readonly #removed = new AbortController();

  private constructor(
    private readonly cluster: Cluster,
    private readonly pod: StartedPod,
    onLine: (line: GeneratorLine) => void,
  ) {
    this.ended = this.#follow(onLine);
  }

  /** @throws OperatorError when the pod does not start. */
  static async start(
    cluster: Cluster,
    options: GeneratorOptions,
    signal: AbortSignal,
    onLine: (line: GeneratorLine) => void,
  ): Promise<GeneratorPod> {
    return new GeneratorPod(cluster, await startPod(cluster, generatorPod(options), signal), onLine);
  }

  get name(): string {
    return this.pod.name;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Ends the load; the generator prints its last lines. */
  terminate(): void {
    if (this.#hasEnded) return;
    // The generator is process 1 of its container.
    void this.cluster.exec(this.name, ["sh", "-c", "kill -TERM 1"], { timeoutMs: SIGNAL_LIMIT_MS }).catch(() => {});
  }

  /** Deletes the pod; idempotent. */
  async remove(): Promise<void> {
    this.#removed.abort();
    await Promise.all([this.pod.remove(), this.ended]);
  }

  async #follow(onLine: (line: GeneratorLine) => void): Promise<void> {
    for await (const line of this.cluster.follow(this.name, parseGeneratorLine, this.#removed.signal)) {
      onLine(line);
      if ("summary" in line || "done" in line) break;
    }
    this.#hasEnded = true;
  }
}
