/** Reads the output of `bun test --reporter=junit`: counts by outcome, and the failures with their messages. */

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

export interface Failure {
  file: string;
  /** Its groups and its name, outermost first, joined by " > ". */
  test: string;
  /** Expected and received, over several lines; never empty. */
  message: string;
}

const ENTITIES: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

/** XML 1.0, section 4.6 (predefined entities) and 4.1 (character references). */
function unescapeXml(text: string): string {
  return text.replaceAll(/&(?:#(\d+)|#x([0-9a-f]+)|(\w+));/gi, (entity, decimal, hex, name) => {
    if (decimal) return String.fromCodePoint(Number(decimal));
    if (hex) return String.fromCodePoint(Number.parseInt(hex, 16));
    return ENTITIES[name] ?? entity;
  });
}

function attribute(attributes: string, name: string): string {
  return unescapeXml(new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "");
}

/** Counts of the outermost element; all 0 for any other text. */
export function countsOf(junit: string): Counts {
  const root = /<testsuites\b([^>]*)>/.exec(junit)?.[1] ?? "";
  const read = (name: string) => Number(attribute(root, name) || "0");
  const [tests, failures, skipped] = [read("tests"), read("failures") + read("errors"), read("skipped")];
  return { passed: tests - failures - skipped, failed: failures, skipped };
}

/** The failed tests, in the order in which they ran. */
export function failuresOf(junit: string): Failure[] {
  const failures: Failure[] = [];
  for (const [, attributes, body] of junit.matchAll(/<testcase\b([^>]*[^/])>([\s\S]*?)<\/testcase>/g)) {
    const failure = /<(?:failure|error)\b([^>]*)>/.exec(body!)?.[1];
    if (failure === undefined) continue;
    failures.push({
      file: attribute(attributes!, "file"),
      test: [attribute(attributes!, "classname"), attribute(attributes!, "name")].filter(Boolean).join(" > "),
      message: attribute(failure, "message") || attribute(failure, "type") || "failed without a message",
    });
  }
  return failures;
}

/** The closing line: passed and failed always, skipped only when there are any. */
export function summaryLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

/** As many as fit onto a screen or two. */
const SHOWN = { failures: 10, linesEach: 40 } as const;

/** The failures with their messages, for the end of a long output. */
export function failureLines(failures: readonly Failure[]): string[] {
  const lines = failures.slice(0, SHOWN.failures).flatMap(({ file, test, message }) => {
    const all = message.trimEnd().split("\n");
    const shown = all.slice(0, SHOWN.linesEach);
    const left = all.length - shown.length;
    return [
      `✗ ${file}: ${test}`,
      ...shown.map((line) => `    ${line}`),
      ...(left > 0 ? [`    … ${left} more lines`] : []),
    ];
  });
  const left = failures.length - SHOWN.failures;
  return left > 0 ? [...lines, `… and ${left} more failures`] : lines;
}
