/**
 * The events that were refused: counts them by reason, shows them, hands their bodies out, and puts back in what is
 * valid by now.
 *
 *   bun scripts/dead-letters.ts list                                   how many of each reason, and what to do about them
 *   bun scripts/dead-letters.ts show --reason out_of_range --limit 5   single letters, the newest first
 *   bun scripts/dead-letters.ts export --reason wrong_type | jq -c '.load_kg |= tonumber' | bun scripts/ingest.ts -
 *   bun scripts/dead-letters.ts replay --reason refused_by_database    sends them again, and looks that they are stored
 *
 * Letters stay where they are (30 days). Replaying is safe to repeat: what stands in InfluxDB is not sent again, and an
 * event that is sent twice rewrites its own point.
 */
import { REASONS, serializeEvent, type TelemetryEvent } from "../services/domain/event.ts";
import { checkRunFlag } from "./audit/run-flag.ts";
import { runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { waitFor } from "./cli/wait.ts";
import { ProbeSession } from "./clients/probe-session.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import {
  type DeadLetterFilter,
  eachDeadLetter,
  identityText,
  lineOf,
  type ReplayStatus,
  replayStatusOf,
  type StoredDeadLetter,
  storedAmong,
} from "./dead-letters/topic.ts";
import { ingest } from "./ingest/ingest.ts";
import { localTarget } from "./local-cluster/index.ts";

/** The default of --since: a day's letters are a day's work. */
const DEFAULT_SINCE_MS = 86_400_000;
/** Events sent again by one call; they are held in memory. What is stored is not sent again, so a second call goes on. */
const MAX_REPLAYED = 100_000;
/** What Kafka has acknowledged is stored within a second; a processor that is catching up needs longer. */
const STORED_LIMIT_MS = 60_000;
/** Each look is a query over the time that the events span. */
const STORED_LOOK_MS = 1000;
/** Of a body that is shown. */
const SHOWN_BODY_CHARS = 160;

interface Group {
  reason: string;
  service: string;
  letters: number;
  newestMs: number;
  /** Letters whose event the rules of now accept. */
  valid: number;
  example: string;
}

/** Letters counted by reason and by who refused them, the most frequent first. */
export class Tally {
  readonly #groups = new Map<string, Group>();

  add(letter: StoredDeadLetter, outlook: ReplayStatus): void {
    const key = `${letter.reason}\n${letter.service}`;
    let group = this.#groups.get(key);
    if (!group) {
      const { reason, service } = letter;
      group = { reason, service, letters: 0, newestMs: 0, valid: 0, example: "" };
      this.#groups.set(key, group);
    }
    group.letters++;
    if (outlook.kind === "valid") group.valid++;
    if (letter.timestampMs >= group.newestMs) {
      group.newestMs = letter.timestampMs;
      group.example = letter.detail;
    }
  }

  get groups(): Group[] {
    return [...this.#groups.values()].sort((a, b) => b.letters - a.letters || (a.reason < b.reason ? -1 : 1));
  }

  /** A table for a person. */
  lines(): string[] {
    const head = ["letters", "valid now", "reason", "refused by", "newest", "the newest one's detail"];
    const rows = this.groups.map(({ letters, valid, reason, service, newestMs, example }) => [
      String(letters),
      String(valid),
      reason,
      service,
      new Date(newestMs).toISOString().slice(0, 19).concat("Z"),
      example,
    ]);
    const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
    return [head, ...rows].map((row) =>
      row
        .map((cell, column) => (column < 2 ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
        .join("  ")
        .trimEnd(),
    );
  }
}

function outlookText(outlook: ReplayStatus): string {
  if (outlook.kind === "valid") return `valid now: ${identityText(outlook.event)}`;
  return outlook.kind === "cut" ? "only its beginning was kept" : `still refused: ${outlook.reason}`;
}

/** Two lines for one letter: why and from where, then its body. */
function letterLines(letter: StoredDeadLetter, outlook: ReplayStatus): string[] {
  const body = lineOf(letter.body);
  const shown = body.length > SHOWN_BODY_CHARS ? `${body.slice(0, SHOWN_BODY_CHARS)}…` : body;
  return [
    `${new Date(letter.timestampMs).toISOString()} ${letter.partition}/${letter.offset} ${letter.reason}: ${letter.detail}`,
    `    from ${letter.origin}, refused by ${letter.service}; ${outlookText(outlook)}`,
    `    ${shown}`,
  ];
}

async function* ndjson(events: readonly TelemetryEvent[]): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for (const event of events) yield encoder.encode(`${serializeEvent(event)}\n`);
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/dead-letters.ts",
      summary: "the refused events: counts, shows, exports them, and puts back in what is valid by now",
      usage: ["list", "show [--limit 20]", "export", "replay [--dry-run]"],
      positionals: [
        { name: "ACTION", description: "what to do", required: true, choices: ["list", "show", "export", "replay"] },
      ],
      flags: {
        ...CLUSTER_FLAGS,
        since: { type: "duration", default: DEFAULT_SINCE_MS, description: "letters written so long ago or less" },
        reason: {
          type: "string",
          multiple: true,
          choices: REASONS,
          valueName: "REASON",
          description: "only letters with this reason",
        },
        run: {
          type: "string",
          valueName: "RUN",
          description: "only events of this run, or read by this producer's run",
        },
        limit: { type: "number", default: 20, min: 1, max: 10_000, description: "show: the newest so many" },
        "dry-run": { type: "boolean", description: "replay: say what would be sent, send nothing" },
      },
      examples: [
        ["bun scripts/dead-letters.ts list --since 1h", "how many of each reason"],
        ["bun scripts/dead-letters.ts show --reason out_of_range", "each with its detail, its origin and its body"],
        ["bun scripts/dead-letters.ts export --reason wrong_type > wrong.ndjson", "bodies, one a line, to be mended"],
        [
          "bun scripts/dead-letters.ts replay --reason refused_by_database",
          "sends what is valid now and not yet stored",
        ],
      ],
      notes: [
        "replay exits 5 when an event that it sent did not reach InfluxDB; it stands in the dead-letter topic again, or waits.",
        "Letters that are still refused have to be mended: export, mend, bun scripts/ingest.ts.",
      ],
    },
    async ({ flags, positionals, report, signal }) => {
      checkRunFlag(flags.run);
      const action = positionals[0] as "list" | "show" | "export" | "replay";
      if (flags["dry-run"] && action !== "replay") {
        throw new OperatorError(`--dry-run: belongs to replay; ${action} changes nothing`, { exitCode: EXIT.usage });
      }
      const cluster = await selectCluster(flags, localTarget);
      await requireReachable(cluster, signal);
      report.info(`target: ${cluster.describe()}`);
      const image = await deployedServicesImage(cluster);
      const context = new ProbeSession(cluster, image, signal);
      const filter: DeadLetterFilter = { sinceMs: Date.now() - flags.since, reasons: flags.reason, run: flags.run };
      const tally = new Tally();
      const read = (visit: (letter: StoredDeadLetter, outlook: ReplayStatus) => void) =>
        eachDeadLetter(context, filter, signal, (letter) => {
          const outlook = replayStatusOf(letter);
          tally.add(letter, outlook);
          visit(letter, outlook);
        });
      try {
        switch (action) {
          case "list": {
            await read(() => {});
            report.result({ since: new Date(filter.sinceMs).toISOString(), groups: tally.groups });
            if (tally.groups.length === 0) report.print("no dead letters");
            else for (const line of tally.lines()) report.print(line);
            return EXIT.ok;
          }
          case "show": {
            // Pages come by partition: the newest are known at the end only.
            let newest: { letter: StoredDeadLetter; outlook: ReplayStatus }[] = [];
            const trim = () => {
              newest = newest.sort((a, b) => b.letter.timestampMs - a.letter.timestampMs).slice(0, flags.limit);
            };
            await read((letter, outlook) => {
              newest.push({ letter, outlook });
              if (newest.length > 2 * flags.limit) trim();
            });
            trim();
            report.result({
              letters: newest.map(({ letter, outlook }) => ({ ...letter, body: lineOf(letter.body), outlook })),
            });
            for (const { letter, outlook } of newest)
              for (const line of letterLines(letter, outlook)) report.print(line);
            return EXIT.ok;
          }
          case "export": {
            const lines: string[] = [];
            await read((letter, outlook) => {
              if (outlook.kind === "cut" || letter.originalBytes > letter.body.length) {
                report.warn(`${letter.partition}/${letter.offset}: left out, only its beginning was kept`);
              } else if (report.json) lines.push(lineOf(letter.body));
              else process.stdout.write(`${lineOf(letter.body)}\n`);
            });
            report.result({ bodies: lines });
            return EXIT.ok;
          }
          case "replay":
            return await replay();
        }
      } finally {
        await context.close();
      }

      async function replay() {
        const events = new Map<string, TelemetryEvent>();
        let refused = 0;
        let beyond = 0;
        await report.step("read the dead letters", async (step) => {
          await read((_, outlook) => {
            if (outlook.kind !== "valid") refused++;
            else if (events.size < MAX_REPLAYED) events.set(identityText(outlook.event), outlook.event);
            else beyond++;
          });
          step.update(`${events.size + beyond} valid now, ${refused} still refused`);
        });
        const store = await context.store();
        const before = await storedAmong(store, [...events.values()]);
        const missing = [...events].filter(([identity]) => !before.has(identity)).map(([, event]) => event);
        const account = { valid: events.size, already_stored: before.size, still_refused: refused, not_read: beyond };
        if (flags["dry-run"] || missing.length === 0) {
          report.result({ ...account, sent: 0, stored: 0, would_send: missing.length });
          report.print(
            `${missing.length} would be sent; ${before.size} are stored already; ${refused} are still refused`,
          );
          return EXIT.ok;
        }
        await report.step("send them again", async (step) => {
          const sent = await ingest(cluster, ndjson(missing), { image, signal });
          step.update(`${sent.acknowledged} acknowledged, ${sent.refused} refused`);
        });
        const stored = await report.step("look for them in InfluxDB", async (step) => {
          let found = new Set<string>();
          await waitFor(
            async () => {
              found = await storedAmong(store, missing);
              step.update(`${found.size} of ${missing.length}`);
              return found.size === missing.length
                ? { done: true, value: true }
                : { done: false, state: `${found.size} of ${missing.length} are stored` };
            },
            { what: "the events to be stored", limitMs: STORED_LIMIT_MS, intervalMs: STORED_LOOK_MS, signal },
          ).catch((error: unknown) => {
            // What is not stored by then is the result, not a failure of this command.
            if (!(error instanceof OperatorError) || error.exitCode !== EXIT.timeout) throw error;
          });
          return found;
        });
        const notStored = missing.map(identityText).filter((identity) => !stored.has(identity));
        report.result({ ...account, sent: missing.length, stored: stored.size, not_stored: notStored });
        report.print(
          `${missing.length} sent, ${stored.size} stored; ${before.size} were stored already; ${refused} are still refused`,
        );
        if (beyond > 0) report.print(`${beyond} more wait: run this again`);
        for (const identity of notStored.slice(0, 10)) report.print(`not stored: ${identity}`);
        return notStored.length === 0 ? EXIT.ok : EXIT.violations;
      }
    },
  );
}
