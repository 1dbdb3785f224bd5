/** `export`: bodies of dead letters, one per line. */
import { EXIT } from "../cli/errors.ts";
import { eachWithStatus, type SubCommand } from "./session.ts";
import { lineOf } from "./topic.ts";

export const exportBodies: SubCommand = async (session) => {
  const { report } = session;
  const bodies: string[] = [];
  await eachWithStatus(session, (letter, status) => {
    if (status.kind === "cut" || letter.originalBytes > letter.body.length) {
      report.warn(`${letter.partition}/${letter.offset}: skipped, its body was truncated`);
    } else if (report.json) bodies.push(lineOf(letter.body));
    else process.stdout.write(`${lineOf(letter.body)}\n`);
  });
  report.result({ bodies });
  return EXIT.ok;
};
