/** Lines of a stream: of a program, a file or an HTTP response. */

/**
 * Splits a stream into lines, without their line ends; a last line without one counts. The source is read only as fast as
 * the lines are, and a character that is split over two chunks stays intact.
 */
export async function* linesOf(chunks: AsyncIterable<Uint8Array | string>): AsyncGenerator<string, void, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of chunks) {
    const parts = (rest + (typeof chunk === "string" ? chunk : decoder.decode(chunk, { stream: true }))).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
  rest += decoder.decode();
  if (rest !== "") yield rest;
}
