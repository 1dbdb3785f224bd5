/** `export`: bodies of dead letters, one per line. */
import { EXIT } from "../cli/errors.ts";
import { eachWithStatus, type SubCommand } from "./session.ts";
import { lineOf } from "./topic.ts";

export const exportBodies: SubCommand = async (session) => {
  const { report } = session;
  const bodies: string[] = [];
  await eachWithStatus(session, (deadLetter, status) => {
    if (status.kind === "cut" || deadLetter.originalBytes > deadLetter.body.length) {
      report.warn(`${deadLetter.partition}/${deadLetter.offset}: skipped, its body was truncated`);
    } else if (report.json) bodies.push(lineOf(deadLetter.body));
    else process.stdout.write(`${lineOf(deadLetter.body)}\n`);
  });
  report.result({ bodies });
  return EXIT.ok;
};
