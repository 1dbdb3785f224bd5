/** `list`: dead letters counted by reason. */
import { printable } from "../../services/domain/printable.ts";
import { EXIT } from "../cli/errors.ts";
import { tableLines } from "../cli/report.ts";
import { eachWithStatus, type SubCommand } from "./session.ts";
import type { ReplayStatus, StoredDeadLetter } from "./topic.ts";

interface Group {
  reason: string;
  service: string;
  letters: number;
  newestMs: number;
  /** Records whose event is valid by the current rules. */
  valid: number;
  /** Why InfluxDB would refuse the newest again. */
  still_refused?: string;
  /** Detail of the newest record. */
  example: string;
}

/** Dead letters counted by reason and refusing service, the most frequent first. */
export class Tally {
  readonly #groups = new Map<string, Group>();

  add(deadLetter: StoredDeadLetter, status: ReplayStatus): void {
    const { reason, service } = deadLetter;
    const key = `${reason}\n${service}`;
    const group = this.#groups.get(key) ?? { reason, service, letters: 0, newestMs: 0, valid: 0, example: "" };
    this.#groups.set(key, group);
    group.letters++;
    if (status.kind === "valid") group.valid++;
    if (deadLetter.timestampMs >= group.newestMs) {
      if (status.kind === "refused" && reason === "refused_by_database") group.still_refused = status.detail;
      group.newestMs = deadLetter.timestampMs;
      group.example = deadLetter.detail;
    }
  }

  get groups(): Group[] {
    return [...this.#groups.values()].sort((a, b) => b.letters - a.letters || (a.reason < b.reason ? -1 : 1));
  }

  /** A table, one line per group; below it why InfluxDB would refuse events again. */
  lines(): string[] {
    const head = ["records", "valid now", "reason", "refused by", "newest", "detail of the newest"];
    // Reason, service and detail come from headers, which hold text of the sender.
    const rows = this.groups.map(({ letters, valid, reason, service, newestMs, example }) =>
      [
        String(letters),
        String(valid),
        reason,
        service,
        new Date(newestMs).toISOString().slice(0, 19).concat("Z"),
        example,
      ].map(printable),
    );
    const causes = this.groups
      .filter(({ still_refused }) => still_refused !== undefined)
      .map(
        ({ letters, valid, reason, still_refused }) => `${letters - valid} ${reason}, still refused: ${still_refused}`,
      );
    return [...tableLines(head, rows, ["records", "valid now"]), ...causes.map(printable)];
  }
}

export const list: SubCommand = async (session) => {
  const { report, filter } = session;
  const tally = new Tally();
  await eachWithStatus(session, (deadLetter, status) => tally.add(deadLetter, status));
  report.result({ since: new Date(filter.sinceMs).toISOString(), groups: tally.groups });
  for (const line of tally.groups.length > 0 ? tally.lines() : ["no dead letters"]) report.print(line);
  return EXIT.ok;
};
