/** A log line shortened for a report: level, event and message, without thread and logger. */
import { briefly, readLine } from "../clients/log-search.ts";
import { plainText } from "./html.ts";

/** Fields of our services and of Kafka with the message, the most important first. */
const MESSAGE_FIELDS = ["message", "error", "reason", "detail", "cause"] as const;

/** Frames of a Java stack trace. */
const STACK_FRAMES = /(?:\s+at [\w.$/@<>-]+\([^()\n]*\)(?: ~?\[[^\]\n]*\])?|\s+\.\.\. \d+ more)+/g;
/** Longer messages end with lists, such as the partitions of a fetch; the cause is before them. */
const MAX_MESSAGE_CHARACTERS = 300;

/** "warn kafka_send_failed: NOT_LEADER_FOR_PARTITION …"; a line that is not JSON is unchanged. */
export function summarizeLine(line: string): string {
  const { level } = readLine(line);
  try {
    const fields = JSON.parse(line) as Record<string, unknown>;
    const messages = MESSAGE_FIELDS.flatMap((name) =>
      typeof fields[name] === "string" && fields[name] !== "" ? [withoutStack(fields[name])] : [],
    );
    if (messages.length === 0) return `${level} ${briefly({ line })}`;
    // All lines of Kafka itself have the event "log".
    const event = typeof fields.event === "string" && fields.event !== "log" ? ` ${fields.event}` : "";
    return plainText(`${level}${event}: ${[...new Set(messages)].join("; ")}`).replaceAll("\n", " ");
  } catch {
    return line;
  }
}

function withoutStack(text: string): string {
  const message = text.replaceAll(STACK_FRAMES, "").trimEnd();
  return message.length > MAX_MESSAGE_CHARACTERS ? `${message.slice(0, MAX_MESSAGE_CHARACTERS)}…` : message;
}
