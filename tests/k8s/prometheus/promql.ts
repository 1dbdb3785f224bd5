/** Metric names in PromQL: names that are neither functions nor keywords, outside braces and brackets. */
const KEYWORDS = new Set([
  ...["and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool"],
  ...["inf", "nan"],
]);

export function metricNamesIn(expression: string): string[] {
  const bare = expression
    // Label matchers and strings first: both may contain anything.
    .replaceAll(/\{[^{}]*\}/g, " ")
    .replaceAll(/"(?:[^"\\]|\\.)*"|'[^']*'/g, " ")
    .replaceAll(/\[[^\]]*\]/g, " ")
    .replaceAll(/\boffset\s+-?\w+/g, " ")
    // Lists of labels.
    .replaceAll(/\b(by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)/g, " ");
  const names = [...bare.matchAll(/[a-zA-Z_:][\w:]*(?!\w)(\s*\()?/g)]
    .filter(([, call]) => call === undefined)
    .map(([name]) => name.trim())
    .filter((name) => !KEYWORDS.has(name.toLowerCase()));
  return [...new Set(names)];
}
