/** `show`: the newest dead letters, each with its reason, its origin and its body. */
import { UNREADABLE_REASON } from "../../services/domain/dead-letter.ts";
import { printable } from "../../services/domain/printable.ts";
import { EXIT } from "../cli/errors.ts";
import { eachWithStatus, type SubCommand } from "./session.ts";
import { lineOf, type ReplayStatus, type StoredDeadLetter } from "./topic.ts";

/** Characters of a body that are printed. */
const SHOWN_BODY_CHARS = 160;

function statusText(status: ReplayStatus, detail: string): string {
  if (status.kind === "valid") return `valid now: ${status.event.identity}`;
  if (status.kind === "cut") return "the body was truncated";
  return `still refused: ${status.reason}${status.detail === detail ? "" : ` (${status.detail})`}`;
}

export function linesOf(deadLetter: StoredDeadLetter, status: ReplayStatus): string[] {
  const isBatch = deadLetter.reason === UNREADABLE_REASON;
  const body = isBatch ? `${deadLetter.body.length} bytes; --json has them as body_base64` : lineOf(deadLetter.body);
  const shown = body.length > SHOWN_BODY_CHARS ? `${body.slice(0, SHOWN_BODY_CHARS)}…` : body;
  // Detail and body hold text of the sender.
  return [
    `${new Date(deadLetter.timestampMs).toISOString()} ${deadLetter.partition}/${deadLetter.offset} ${deadLetter.reason}: ${deadLetter.detail}`,
    `    from ${deadLetter.origin}, refused by ${deadLetter.service}; ${statusText(status, deadLetter.detail)}`,
    `    ${shown}`,
  ].map(printable);
}

export const show: SubCommand = async (session) => {
  const { report, limit } = session;
  let newest: { deadLetter: StoredDeadLetter; outlook: ReplayStatus }[] = [];
  const trim = () => {
    newest = newest.sort((a, b) => b.deadLetter.timestampMs - a.deadLetter.timestampMs).slice(0, limit);
  };
  // The topic is read by partition: the newest are known at the end.
  await eachWithStatus(session, (deadLetter, outlook) => {
    newest.push({ deadLetter, outlook });
    if (newest.length > 2 * limit) trim();
  });
  trim();
  report.result({
    letters: newest.map(({ deadLetter, outlook }) => ({
      ...deadLetter,
      body: lineOf(deadLetter.body),
      // The bytes of a batch are no text.
      ...(deadLetter.reason === UNREADABLE_REASON
        ? { body_base64: Buffer.from(deadLetter.body).toString("base64") }
        : {}),
      outlook,
    })),
  });
  for (const { deadLetter, outlook } of newest) for (const line of linesOf(deadLetter, outlook)) report.print(line);
  return EXIT.ok;
};
