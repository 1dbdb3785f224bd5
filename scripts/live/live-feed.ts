/** What the live page of drills is told, from the observer and from the runner of the drills. */
import { type PodState, WATCHED } from "../recording/cluster-watch.ts";
import type { Observer } from "../recording/observer.ts";
import type { DrillResult, Ledger, LogLine, OperatorCommand, PhaseName } from "../recording/result.ts";
import { summarizeLine } from "../report/log-summary.ts";
import type { LivePage } from "./live-page.ts";
import { type LiveAlert, type LiveDrill, type LivePod, nextPhase } from "./live-state.ts";

/** Told by the observer: rows, marks, and pods whenever one of them changed. */
export interface FeedSource {
  onRow: Observer["onRow"];
  onMark: Observer["onMark"];
  pods(): readonly PodState[];
}

/** The observer as a source. */
export const sourceOf = (observer: Observer): FeedSource => ({
  onRow: observer.onRow,
  onMark: observer.onMark,
  pods: () => observer.watch.pods.all(),
});

const livePod = ({ name, workload, ready, ending, restarts }: PodState): LivePod => ({
  name,
  workload,
  state: ending ? "ending" : ready ? "ready" : "not ready",
  restarts,
});

const order = (pod: LivePod) => `${String(WATCHED.indexOf(pod.workload as never)).padStart(2, "0")} ${pod.name}`;

/** Lines of some minutes, also in a flood; older ones are not asked for again. */
const MAX_KEYS = 5000;
/** Lines of one pod that are alike but for their numbers, told per drill; what tells them apart stands in front. */
const MAX_ALIKE = 2;
const MAX_KIND_CHARACTERS = 160;
const keyOf = ({ timeMs, pod, line }: LogLine) => `${timeMs} ${pod} ${line}`;

/** Leads what the observer and the runner say to the page. */
export class LiveFeed {
  readonly #ends: (() => void)[];
  readonly #lines = new Set<string>();
  readonly #kinds = new Map<string, number>();
  #pods = "";
  #alerts = "";

  constructor(
    private readonly page: Pick<LivePage, "update">,
    source: FeedSource,
    private readonly now: () => number = Date.now,
  ) {
    const podsNow = (timeMs: number) => {
      const pods = source
        .pods()
        .map(livePod)
        .toSorted((a, b) => order(a).localeCompare(order(b)));
      const text = JSON.stringify(pods);
      if (text === this.#pods) return;
      this.#pods = text;
      page.update({ timeMs, pods });
    };
    this.#ends = [
      source.onRow((timeMs, row) => {
        podsNow(timeMs);
        page.update({ timeMs, row });
      }),
      source.onMark((mark) => {
        page.update({ timeMs: this.now(), marksAdded: [mark] });
        // Marks of pods tell a change at once, rows only at their next tick.
        podsNow(this.now());
      }),
    ];
  }

  drillStarted(drill: LiveDrill): void {
    this.#kinds.clear();
    this.page.update({ timeMs: this.now(), drill });
  }

  /** A beat of the runner has ended; the next one begins. */
  beatEnded(name: PhaseName): void {
    const beat = nextPhase(name);
    if (beat) this.page.update({ timeMs: this.now(), beat });
  }

  /** Counts of the drill's own events. */
  counts(ledger: Partial<Ledger>): void {
    this.page.update({ timeMs: this.now(), ledger });
  }

  command(command: OperatorCommand): void {
    this.page.update({ timeMs: this.now(), commandsAdded: [command] });
  }

  /** Lines that the page has already are left out: they are asked for with an overlap, and again after a drill. */
  lines(lines: readonly LogLine[]): void {
    const fresh = lines.filter((line) => !this.#lines.has(keyOf(line)) && this.#isTelling(line));
    for (const line of fresh) this.#lines.add(keyOf(line));
    for (const key of this.#lines) {
      if (this.#lines.size <= MAX_KEYS) break;
      this.#lines.delete(key);
    }
    if (fresh.length > 0) this.page.update({ timeMs: this.now(), linesAdded: fresh });
  }

  /** A broker that is away is complained about hundreds of times; a person reads it twice. */
  #isTelling({ pod, line }: LogLine): boolean {
    const kind = `${pod} ${summarizeLine(line).replaceAll(/\d+/g, "")}`.slice(0, MAX_KIND_CHARACTERS);
    const times = (this.#kinds.get(kind) ?? 0) + 1;
    this.#kinds.set(kind, times);
    return times <= MAX_ALIKE;
  }

  alerts(alerts: readonly LiveAlert[]): void {
    const text = JSON.stringify(alerts);
    if (text === this.#alerts) return;
    this.#alerts = text;
    this.page.update({ timeMs: this.now(), alerts });
  }

  drillEnded({ name, title, repeat, verdict, recovery }: DrillResult): void {
    this.page.update({ timeMs: this.now(), finished: { name, title, repeat, verdict, recovery } });
  }

  close(): void {
    for (const end of this.#ends) end();
  }
}
