/** Times as files of others have them: counts since 1970, RFC 3339, dates and times of day in a time zone. */
import { UnreadableError } from "./unreadable-error.ts";

/** A time as an event of version 2 has it. */
interface EventTime {
  time: number | string;
  precision: "ms" | "us" | "ns";
}

/**
 * Reads a time; undefined when the text is none, or none that exists.
 * @param series rows of which the times follow each other: they decide about an hour that occurs twice
 */
export type TimeReader = (text: string, series?: string) => EventTime | undefined;

/** Digits of the fraction of a second, by unit. */
const EPOCH_UNITS = { s: 0, ms: 3, us: 6, ns: 9 } as const;
type EpochUnit = keyof typeof EPOCH_UNITS;
const isEpochUnit = (format: string): format is EpochUnit => Object.hasOwn(EPOCH_UNITS, format);

const EPOCH_TEXT = /^(\d{1,19})(?:[.,](\d{1,9}))?$/;

/** @param fraction digits of the fraction of a second */
function eventTime(seconds: number, fraction: string): EventTime {
  const digits = fraction.replace(/0+$/, "").length;
  // Nanoseconds are above 2^53: as text.
  if (digits > 6) return { time: `${seconds}${fraction.padEnd(9, "0").slice(0, 9)}`, precision: "ns" };
  const [precision, width] = digits > 3 ? (["us", 6] as const) : (["ms", 3] as const);
  return { time: seconds * 10 ** width + Number(fraction.padEnd(width, "0").slice(0, width)), precision };
}

const epochReader =
  (unit: EpochUnit): TimeReader =>
  (text) => {
    const [, whole, fraction = ""] = EPOCH_TEXT.exec(text) ?? [];
    if (whole === undefined) return undefined;
    const digits = EPOCH_UNITS[unit];
    const padded = whole.padStart(digits + 1, "0");
    const below = padded.slice(padded.length - digits, padded.length) + fraction;
    if (below.replace(/0+$/, "").length > 9) return undefined;
    return eventTime(Number(padded.slice(0, padded.length - digits)), below);
  };

interface WallTime {
  /** The date and time of day as if it were UTC. */
  ms: number;
  /** Digits of the fraction of a second. */
  fraction: string;
}

function wallTime(parts: Partial<Record<string, string>>): WallTime | undefined {
  const { year, month, day, hour = "0", minute = "0", second = "0", fraction = "", half } = parts;
  const hours = half === undefined ? Number(hour) : (Number(hour) % 12) + (/^p/i.test(half) ? 12 : 0);
  if (hours > 23 || Number(minute) > 59 || Number(second) > 59 || (half !== undefined && !isHalfDayHour(hour)))
    return undefined;
  const ms = Date.UTC(Number(year), Number(month) - 1, Number(day), hours, Number(minute), Number(second));
  const date = new Date(ms);
  // A day that the month does not have becomes one of the next month.
  const isReal = date.getUTCMonth() === Number(month) - 1 && date.getUTCDate() === Number(day);
  return isReal ? { ms, fraction } : undefined;
}

const isHalfDayHour = (hour: string) => Number(hour) >= 1 && Number(hour) <= 12;

const RFC_3339 =
  /^(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d)[Tt ](?<hour>\d\d):(?<minute>\d\d):(?<second>\d\d)(?:[.,](?<fraction>\d{1,9}))?(?:[Zz]| ?(?<sign>[+-])(?<offsetHours>\d\d):?(?<offsetMinutes>\d\d))$/;

const readRfc3339: TimeReader = (text) => {
  const groups = RFC_3339.exec(text)?.groups;
  const wall = groups && wallTime(groups);
  if (!wall) return undefined;
  const { sign, offsetHours = "0", offsetMinutes = "0" } = groups;
  const offsetMs = (Number(offsetHours) * 60 + Number(offsetMinutes)) * 60_000 * (sign === "-" ? -1 : 1);
  return eventTime((wall.ms - offsetMs) / 1000, wall.fraction);
};

/** What the letters of a format stand for. A fraction may follow the seconds; digits of a month, day or hour may be one. */
const TOKENS: Readonly<Record<string, string>> = {
  YYYY: "(?<year>\\d{4})",
  MM: "(?<month>\\d{1,2})",
  DD: "(?<day>\\d{1,2})",
  HH: "(?<hour>\\d{1,2})",
  hh: "(?<hour>\\d{1,2})",
  mm: "(?<minute>\\d\\d)",
  ss: "(?<second>\\d\\d)(?:[.,](?<fraction>\\d{1,9}))?",
  A: "(?<half>[AaPp]\\.?[Mm]\\.?)",
};
const TOKEN = /YYYY|MM|DD|HH|hh|mm|ss|A/g;
const LOCAL_FORMAT = "YYYY-MM-DD HH:mm:ss";
const TIME_FORMAT_RULE =
  'must be s, ms, us, ns, rfc3339, or a text of YYYY MM DD HH (or hh with A for AM and PM) mm ss, for example "DD.MM.YYYY HH:mm:ss"';

function patternOf(format: string): RegExp {
  const literal = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll(/[ T]/g, "[ T]");
  let source = "";
  let at = 0;
  for (const { 0: token, index } of format.matchAll(TOKEN)) {
    source += literal(format.slice(at, index)) + TOKENS[token]!;
    at = index + token.length;
  }
  const used: readonly string[] = format.match(TOKEN) ?? [];
  const isComplete = ["YYYY", "MM", "DD"].every((token) => used.includes(token));
  if (!isComplete || new Set(used).size !== used.length || (used.includes("HH") && used.includes("hh"))) {
    throw new UnreadableError(`time format: ${TIME_FORMAT_RULE}; got ${JSON.stringify(format)}`, "--help has examples");
  }
  return new RegExp(`^${source}${literal(format.slice(at))}$`);
}

/** Transitions of today's zones are at quarters of an hour, so the offset is the same within one. */
const QUARTER_MS = 900_000;
/** Quarters of a hundred days; a longer file computes some again. */
const MAX_CACHED = 10_000;
/** Rows of one series may be out of order by this much. */
const DISORDER_MS = 60_000;
/** More than any offset from UTC, and less than between two changes of a zone. */
const DAY_MS = 86_400_000;

/** Instants of a zone's wall clock. In autumn an hour occurs twice; in spring one does not exist. */
export class WallClock {
  readonly #format: Intl.DateTimeFormat;
  /** Offsets from UTC that a wall time can have, by quarter of an hour, ascending by the instant. */
  readonly #offsets = new Map<number, number[]>();
  /** The last instant of each series in an hour that occurs twice, and of all rows. */
  readonly #lastMs = new Map<string, number>();
  #previousMs = 0;
  #isAscending = true;
  /** Times that occurred twice. */
  ambiguous = 0;

  /** @throws UnreadableError for an unknown zone */
  constructor(zone: string) {
    try {
      const number = "numeric";
      this.#format = new Intl.DateTimeFormat("en-US", {
        timeZone: zone,
        hourCycle: "h23",
        year: number,
        month: number,
        day: number,
        hour: number,
        minute: number,
        second: number,
      });
    } catch {
      const rule = "must be a name of the IANA time zones, or UTC";
      throw new UnreadableError(`time zone: ${rule}; got ${JSON.stringify(zone)}`, "for example Europe/Berlin");
    }
  }

  /**
   * The instant of a wall time. Of one that occurs twice it is the first, unless the series is already behind it: then it
   * is the second. Where times descend, the other way round.
   * @returns undefined for a time that the clock skips
   */
  instantMs(wallMs: number, series = ""): number | undefined {
    const instants = this.#offsetsAt(wallMs).map((offset) => wallMs - offset);
    const chosen = instants.length > 1 ? this.#nextOf(instants, series) : instants[0];
    if (chosen !== undefined && chosen !== this.#previousMs) {
      this.#isAscending = chosen > this.#previousMs;
      this.#previousMs = chosen;
    }
    return chosen;
  }

  #nextOf(instants: readonly number[], series: string): number {
    this.ambiguous++;
    const last = this.#lastMs.get(series);
    const sign = this.#isAscending ? 1 : -1;
    const ordered = this.#isAscending ? instants : instants.toReversed();
    const follows = (instant: number) =>
      last === undefined || (instant !== last && (instant - last) * sign > -DISORDER_MS);
    const chosen = ordered.find(follows) ?? ordered.at(-1)!;
    if (this.#lastMs.size >= MAX_CACHED) this.#lastMs.clear();
    this.#lastMs.set(series, chosen);
    return chosen;
  }

  #offsetsAt(wallMs: number): number[] {
    const quarter = Math.floor(wallMs / QUARTER_MS);
    let found = this.#offsets.get(quarter);
    if (!found) {
      const start = quarter * QUARTER_MS;
      const possible = new Set([this.#offsetMs(start - DAY_MS), this.#offsetMs(start + DAY_MS)]);
      found = [...possible].filter((offset) => this.#offsetMs(start - offset) === offset).sort((a, b) => b - a);
      if (this.#offsets.size >= MAX_CACHED) this.#offsets.clear();
      this.#offsets.set(quarter, found);
    }
    return found;
  }

  #offsetMs(instantMs: number): number {
    const parts = Object.fromEntries(
      this.#format.formatToParts(instantMs).map(({ type, value }) => [type, Number(value)]),
    ) as Record<string, number>;
    const { year, month, day, hour, minute, second } = parts as Record<string, number>;
    return Date.UTC(year!, month! - 1, day, hour, minute, second) - instantMs;
  }
}

function localReader(format: string, clock: WallClock): TimeReader {
  const pattern = patternOf(format);
  return (text, series) => {
    const groups = pattern.exec(text)?.groups;
    const wall = groups && wallTime(groups);
    const instant = wall && clock.instantMs(wall.ms, series);
    return instant === undefined ? undefined : eventTime(instant / 1000, wall!.fraction);
  };
}

/** The format of a time; undefined when it is not certain. */
function timeFormatOf(text: string): string | undefined {
  if (RFC_3339.test(text)) return "rfc3339";
  const digits = /^(\d+)(?:\.\d+)?$/.exec(text)?.[1]?.length;
  const unit =
    digits === undefined ? undefined : ({ 10: "s", 13: "ms", 16: "us", 19: "ns" } as Record<number, string>)[digits];
  if (unit) return unit;
  if (patternOf(LOCAL_FORMAT).test(text)) return LOCAL_FORMAT;
  return patternOf("YYYY-MM-DD HH:mm").test(text) ? "YYYY-MM-DD HH:mm" : undefined;
}

/**
 * How the times of a file are read.
 * @param format undefined: found from the example
 * @param example a time of the file
 * @throws UnreadableError that names what has to be given
 */
export function timeReader(
  format: string | undefined,
  zone: string | undefined,
  example: string,
): { format: string; read: TimeReader; clock?: WallClock } {
  const found = format ?? timeFormatOf(example);
  if (found === undefined) {
    throw new UnreadableError(
      `time: its format is not recognised; got ${JSON.stringify(example)}`,
      `--time-format ${TIME_FORMAT_RULE}`,
    );
  }
  if (isEpochUnit(found)) return { format: found, read: epochReader(found) };
  if (found === "rfc3339") return { format: found, read: readRfc3339 };
  patternOf(found);
  if (zone === undefined) {
    throw new UnreadableError(
      `time: it has no time zone; got ${JSON.stringify(example)}`,
      "--time-zone must name the zone of the clock, for example Europe/Berlin or UTC",
    );
  }
  const clock = new WallClock(zone);
  return { format: found, read: localReader(found, clock), clock };
}
