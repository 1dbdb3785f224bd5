/** A generator pod with an open load, and the outcomes that it reports. */
import { type LoadStage, totalSeconds } from "../../services/domain/load-stages.ts";
import type {
  ConveyorLedger,
  GeneratorLine,
  GeneratorSecond,
  LoadSummary,
} from "../../services/protocol/load-generator.ts";
import { OperatorError } from "../cli/errors.ts";
import { pause } from "../cli/wait.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { podLog } from "../cluster/one-off-pods.ts";
import { type GeneratorOptions, GeneratorPod } from "./generator-pod.ts";

/** After the last stage the generator waits for its last answers (30 s and a repeat) before it prints its ledger. */
const LEDGER_LIMIT_MS = 60_000;
/** After a signal the generator prints its ledger within a second. */
const STOP_LIMIT_MS = 4000;

/** The outcomes of a load, complete once there is a summary. */
export interface LoadOutcomes {
  summary: LoadSummary | undefined;
  ledger: Map<string, ConveyorLedger>;
  seconds: GeneratorSecond[];
}

export const noOutcomes = (): LoadOutcomes => ({ summary: undefined, ledger: new Map(), seconds: [] });

function addLine(outcomes: LoadOutcomes, line: GeneratorLine): void {
  if ("second" in line) outcomes.seconds.push(line.second);
  else if ("ledger" in line) outcomes.ledger.set(line.ledger.conveyor, line.ledger);
  else if ("summary" in line) outcomes.summary = line.summary;
}

export class LoadPod {
  private constructor(
    private readonly cluster: Cluster,
    private readonly pod: GeneratorPod,
    readonly outcomes: LoadOutcomes,
  ) {}

  /** @throws OperatorError when the pod does not start. */
  static async start(
    cluster: Cluster,
    options: GeneratorOptions,
    signal: AbortSignal,
    onLine?: (line: GeneratorLine) => void,
  ): Promise<LoadPod> {
    const outcomes = noOutcomes();
    const pod = await GeneratorPod.start(cluster, options, signal, (line) => {
      addLine(outcomes, line);
      onLine?.(line);
    });
    return new LoadPod(cluster, pod, outcomes);
  }

  /**
   * Waits for the summary, at most as long as the stages and their last answers take.
   * @throws OperatorError when the pod ends without it; the signal's reason when that is aborted.
   */
  async finished(stages: readonly LoadStage[], signal: AbortSignal): Promise<LoadSummary> {
    const { pod, outcomes } = this;
    const limitMs = totalSeconds(stages) * 1000 + LEDGER_LIMIT_MS;
    const over = new AbortController();
    await Promise.race([pod.ended, pause(limitMs, AbortSignal.any([signal, over.signal]))]);
    over.abort();
    if (outcomes.summary) return outcomes.summary;
    throw new OperatorError(
      pod.hasEnded
        ? `pod ${pod.name} ended without its ledger`
        : `pod ${pod.name} printed no ledger within ${Math.round(limitMs / 1000)} s`,
      { cause: new Error(await podLog(this.cluster, pod.name, { lines: 5 })) },
    );
  }

  /** Ends the load and waits a moment for the ledger; no effect when it has ended. */
  async stop(): Promise<void> {
    this.pod.terminate();
    await Promise.race([this.pod.ended, pause(STOP_LIMIT_MS)]);
  }

  async remove(): Promise<void> {
    await this.pod.remove();
  }
}
