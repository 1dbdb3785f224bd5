/**
 * What each sender of senders.json has used of its limits in this producer: requests and bytes in token buckets, and the
 * names of its sources and series. Shared tokens have no limits, so nothing of them is kept.
 */
import type { Sender } from "./intake-senders.ts";

/**
 * A bucket holds this many seconds of its rate: clients collect points and write them together, Telegraf every ten
 * seconds. The mean over a longer time is the rate.
 */
const BURST_SECONDS = 10;
/**
 * A name is in use for one to two of these after its last event, as a series of InfluxDB is in the shards of the days
 * that have points of it.
 */
const USE_PERIOD_MS = 24 * 3_600_000;
/** Names of all senders together, as hashes: some 30 MB of the pod's 384 MiB. */
const MAX_NAMES_IN_USE = 200_000;

/** The bound that a new name would exceed. */
interface Exceeded {
  bound: "sources" | "series";
  /** The new name. */
  name: string;
  /** "the sender has its most series (10000) in use". */
  rule: string;
}

/** Names in use of one sender and their bound, for metrics. */
interface UsageReport {
  sender: string;
  kind: Exceeded["bound"];
  names: number;
  most: number;
}

class TokenBucket {
  #level: number | undefined;
  #atMs = 0;

  /** Milliseconds until the bucket holds the cost, at most all that it can hold; 0: now. */
  waitMs(cost: number, perSecond: number, nowMs: number): number {
    const capacity = perSecond * BURST_SECONDS;
    const refilled = (this.#level ?? capacity) + ((nowMs - this.#atMs) * perSecond) / 1000;
    this.#level = Math.min(capacity, refilled);
    this.#atMs = nowMs;
    return Math.max(0, ((Math.min(cost, capacity) - this.#level) * 1000) / perSecond);
  }

  /** After waitMs(); a cost above the capacity leaves a debt. */
  take(cost: number): void {
    this.#level = (this.#level ?? 0) - cost;
  }
}

/** Names in use, as hashes of 53 bits: two of 100,000 are equal with a probability of one in a million. */
class NamesInUse {
  #current = new Set<number>();
  #previous = new Set<number>();
  #sinceMs: number;

  constructor(nowMs: number) {
    this.#sinceMs = nowMs;
  }

  get size(): number {
    return this.#current.size + this.#previous.size;
  }

  /** Drops the names that have not been used for a period. */
  expire(nowMs: number): void {
    const periods = Math.floor((nowMs - this.#sinceMs) / USE_PERIOD_MS);
    if (periods < 1) return;
    this.#previous = periods === 1 ? this.#current : new Set();
    this.#current = new Set();
    this.#sinceMs += periods * USE_PERIOD_MS;
  }

  /** Marks a name as used. "new": it was not in use before; "full": it is not, and there is no room for it. */
  use(hash: number, hasRoom: (size: number) => boolean): "known" | "new" | "full" {
    if (this.#current.has(hash)) return "known";
    const isKnown = this.#previous.delete(hash);
    if (!isKnown && !hasRoom(this.size)) return "full";
    this.#current.add(hash);
    return isKnown ? "known" : "new";
  }

  remove(hash: number): void {
    this.#current.delete(hash);
  }
}

const hashOf = (name: string) => Number(BigInt(Bun.hash(name)) >> 11n);

class Usage {
  readonly requests = new TokenBucket();
  readonly bytes = new TokenBucket();
  readonly sources: NamesInUse;
  readonly series: NamesInUse;

  constructor(nowMs: number) {
    this.sources = new NamesInUse(nowMs);
    this.series = new NamesInUse(nowMs);
  }
}

/** Names of one request that are taken back when the request is refused. */
export interface Admission {
  /** Counts source and series of an event as used, or names the bound that they would exceed: neither is then counted. */
  add(source: string | undefined, series: string | undefined): Exceeded | undefined;
  /** The events of this request are not taken after all. */
  cancel(): void;
}

const WITHOUT_LIMITS: Admission = { add: () => undefined, cancel() {} };

export class SenderUsage {
  readonly #usages = new Map<string, Usage>();

  constructor(private readonly now: () => number = () => performance.now()) {}

  #of(sender: Sender): Usage {
    let usage = this.#usages.get(sender.name);
    if (!usage) {
      usage = new Usage(this.now());
      this.#usages.set(sender.name, usage);
    }
    return usage;
  }

  /**
   * Takes a request of so many bytes from the sender's rates. Returns how long the sender must wait in milliseconds;
   * 0: it was taken.
   */
  takeRequest(sender: Sender, bytes: number): number {
    const { requestsPerSecond, bytesPerSecond } = sender.limits ?? {};
    if (requestsPerSecond === undefined && bytesPerSecond === undefined) return 0;
    const usage = this.#of(sender);
    const nowMs = this.now();
    const waitMs = Math.max(
      requestsPerSecond === undefined ? 0 : usage.requests.waitMs(1, requestsPerSecond, nowMs),
      bytesPerSecond === undefined ? 0 : usage.bytes.waitMs(bytes, bytesPerSecond, nowMs),
    );
    if (waitMs > 0) return waitMs;
    usage.requests.take(1);
    usage.bytes.take(bytes);
    return 0;
  }

  /**
   * For a request that was taken with so many bytes. The function takes a total that is known later, as received or after
   * decompression: what exceeds the greatest total so far counts, also when the request is then refused.
   */
  charge(sender: Sender, takenBytes: number): (totalBytes: number) => void {
    if (sender.limits?.bytesPerSecond === undefined) return () => {};
    const { bytes } = this.#of(sender);
    let charged = takenBytes;
    return (totalBytes) => {
      if (totalBytes <= charged) return;
      bytes.take(totalBytes - charged);
      charged = totalBytes;
    };
  }

  /** For the events of one request. */
  admission(sender: Sender): Admission {
    const { limits } = sender;
    if (!limits) return WITHOUT_LIMITS;
    const { sources, series } = this.#of(sender);
    const nowMs = this.now();
    const added: [NamesInUse, number][] = [];
    const use = (names: NamesInUse, name: string, most: number) => {
      const hash = hashOf(name);
      const outcome = names.use(hash, (size) => size < most && this.#namesInUse() < MAX_NAMES_IN_USE);
      if (outcome === "new") added.push([names, hash]);
      return outcome;
    };
    for (const names of [sources, series]) names.expire(nowMs);
    const exceeded = (bound: Exceeded["bound"], name: string, { size }: NamesInUse, most: number): Exceeded => ({
      bound,
      name,
      rule:
        size < most
          ? `all senders together have the most sources and series (${MAX_NAMES_IN_USE}) in use`
          : `sender ${sender.name} has its most ${bound} (${most}) in use`,
    });
    return {
      add(source, line) {
        const before = added.length;
        if (source !== undefined && use(sources, source, limits.mostSources) === "full")
          return exceeded("sources", source, sources, limits.mostSources);
        if (line !== undefined && use(series, line, limits.mostSeries) === "full") {
          for (const [names, hash] of added.splice(before)) names.remove(hash);
          return exceeded("series", line, series, limits.mostSeries);
        }
        return undefined;
      },
      cancel() {
        for (const [names, hash] of added.splice(0)) names.remove(hash);
      },
    };
  }

  #namesInUse(): number {
    let names = 0;
    for (const { sources, series } of this.#usages.values()) names += sources.size + series.size;
    return names;
  }

  /** What the senders use; forgets those that are no longer listed. */
  report(listed: readonly Sender[]): UsageReport[] {
    const names = new Set(listed.map(({ name }) => name));
    for (const name of this.#usages.keys()) if (!names.has(name)) this.#usages.delete(name);
    const nowMs = this.now();
    return listed.flatMap((sender) => {
      if (!sender.limits) return [];
      const { sources, series } = this.#of(sender);
      for (const used of [sources, series]) used.expire(nowMs);
      const { mostSources, mostSeries } = sender.limits;
      return [
        { sender: sender.name, kind: "sources", names: sources.size, most: mostSources },
        { sender: sender.name, kind: "series", names: series.size, most: mostSeries },
      ] as const;
    });
  }
}
