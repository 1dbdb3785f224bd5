/** What a log line says, in short: a person who looks at a run has no use for its thread and its logger. */
import { briefly, readLine } from "../clients/log-search.ts";
import { plainText } from "./html.ts";

/** Fields of our services and of Kafka that say what happened, the most telling first. */
const TELLING = ["message", "error", "reason", "detail", "cause"] as const;

/** Frames of a Java stack: where in Kafka's source it happened, not what. */
const STACK_FRAMES = /(?:\s+at [\w.$/@<>-]+\([^()\n]*\)(?: ~?\[[^\]\n]*\])?|\s+\.\.\. \d+ more)+/g;
/** Beyond it a message lists what it was about, as a fetch its partitions; what went wrong stands before that. */
const MAX_SAID_CHARACTERS = 300;

/** "warn kafka_send_failed: NOT_LEADER_FOR_PARTITION …"; a line that is no JSON as it is. */
export function inShort(line: string): string {
  const { level } = readLine(line);
  try {
    const fields = JSON.parse(line) as Record<string, unknown>;
    const said = TELLING.flatMap((name) =>
      typeof fields[name] === "string" && fields[name] !== "" ? [withoutTail(fields[name])] : [],
    );
    if (said.length === 0) return `${level} ${briefly({ line })}`;
    // Kafka's own lines all have the kind "log", which says nothing.
    const kind = typeof fields.event === "string" && fields.event !== "log" ? ` ${fields.event}` : "";
    return plainText(`${level}${kind}: ${[...new Set(said)].join("; ")}`).replaceAll("\n", " ");
  } catch {
    return line;
  }
}

function withoutTail(text: string): string {
  const said = text.replaceAll(STACK_FRAMES, "").trimEnd();
  return said.length > MAX_SAID_CHARACTERS ? `${said.slice(0, MAX_SAID_CHARACTERS)}…` : said;
}
