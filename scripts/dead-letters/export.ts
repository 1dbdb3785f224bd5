/** `export`: bodies of dead letters, one per line. */
import { UNREADABLE_REASON } from "../../services/domain/dead-letter.ts";
import { printable } from "../../services/domain/printable.ts";
import { EXIT } from "../cli/errors.ts";
import { eachWithStatus, type SubCommand } from "./session.ts";
import { lineOf } from "./topic.ts";

/** Exact for a file or a pipe; a terminal must not receive a sender's control sequences. */
export const lineFor = (body: Uint8Array, output: { isTTY?: boolean }): string =>
  output.isTTY ? printable(lineOf(body)) : lineOf(body);

export const exportBodies: SubCommand = async (session) => {
  const { report } = session;
  const bodies: string[] = [];
  await eachWithStatus(session, (deadLetter, status) => {
    if (deadLetter.reason === UNREADABLE_REASON) {
      report.warn(`${deadLetter.partition}/${deadLetter.offset}: skipped, it is a batch (show --json has its bytes)`);
    } else if (status.kind === "cut" || deadLetter.originalBytes > deadLetter.body.length) {
      report.warn(`${deadLetter.partition}/${deadLetter.offset}: skipped, its body was truncated`);
    } else if (report.json) bodies.push(lineOf(deadLetter.body));
    else process.stdout.write(`${lineFor(deadLetter.body, process.stdout)}\n`);
  });
  report.result({ bodies });
  return EXIT.ok;
};
