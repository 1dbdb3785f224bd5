/**
 * The end of an input that is streamed into a producer's stdin: one line with a token and the number of lines before it. A
 * broken connection cannot be distinguished from the end of a file; only this line shows that every line has arrived.
 */

/** Environment variable with the token, which no line of the input begins with. */
export const INPUT_END_TOKEN = "INPUT_END_TOKEN";

/** @param lines lines that are not blank */
export const inputEndLine = (token: string, lines: number): string => `${token} ${lines}\n`;

/** The number of lines that an end line announces; undefined for a line of the input. */
export function announcedLines(line: Uint8Array, token: string): number | undefined {
  // Compared first: almost every line begins with a brace.
  if (line[0] !== token.charCodeAt(0)) return undefined;
  const [found, lines, ...rest] = new TextDecoder().decode(line).split(" ");
  return found === token && rest.length === 0 && /^\d{1,15}$/.test(lines ?? "") ? Number(lines) : undefined;
}
