/** `show`: the newest dead letters, each with its reason, its origin and its body. */
import { EXIT } from "../cli/errors.ts";
import { eachWithStatus, type SubCommand } from "./session.ts";
import { identityText, lineOf, type ReplayStatus, type StoredDeadLetter } from "./topic.ts";

/** Characters of a body that are printed. */
const SHOWN_BODY_CHARS = 160;

function statusText(status: ReplayStatus): string {
  if (status.kind === "valid") return `valid now: ${identityText(status.event)}`;
  return status.kind === "cut" ? "the body was truncated" : `still refused: ${status.reason}`;
}

function linesOf(letter: StoredDeadLetter, status: ReplayStatus): string[] {
  const body = lineOf(letter.body);
  const shown = body.length > SHOWN_BODY_CHARS ? `${body.slice(0, SHOWN_BODY_CHARS)}…` : body;
  return [
    `${new Date(letter.timestampMs).toISOString()} ${letter.partition}/${letter.offset} ${letter.reason}: ${letter.detail}`,
    `    from ${letter.origin}, refused by ${letter.service}; ${statusText(status)}`,
    `    ${shown}`,
  ];
}

export const show: SubCommand = async (session) => {
  const { report, limit } = session;
  let newest: { letter: StoredDeadLetter; outlook: ReplayStatus }[] = [];
  const trim = () => {
    newest = newest.sort((a, b) => b.letter.timestampMs - a.letter.timestampMs).slice(0, limit);
  };
  // The topic is read by partition: the newest are known at the end.
  await eachWithStatus(session, (letter, outlook) => {
    newest.push({ letter, outlook });
    if (newest.length > 2 * limit) trim();
  });
  trim();
  report.result({
    letters: newest.map(({ letter, outlook }) => ({ ...letter, body: lineOf(letter.body), outlook })),
  });
  for (const { letter, outlook } of newest) for (const line of linesOf(letter, outlook)) report.print(line);
  return EXIT.ok;
};
