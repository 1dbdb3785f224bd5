/** Text of others (senders, servers) for a terminal, a log line or an error message. */

/**
 * Control and format characters (escape sequences, line breaks, text direction), line separators and unpaired
 * surrogates: they move a terminal's cursor, forge a line, or change what a reader sees.
 */
export const UNPRINTABLE = String.raw`[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]`;
const unprintable = new RegExp(UNPRINTABLE, "gu");

/** A character as in JSON: "\u001b", in UTF-16 units. */
export const escapeCharacter = (character: string): string =>
  character.replaceAll(/[\s\S]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** The text on one line, with escapes as in JSON: a JSON document without indentation keeps its meaning. */
export const printable = (text: string): string => text.replaceAll(unprintable, escapeCharacter);
