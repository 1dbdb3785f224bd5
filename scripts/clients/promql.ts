/** PromQL for a Prometheus that has the metrics of the complete cluster: every selector gets the pipeline's namespaces. */

/**
 * Tokens of PromQL. In the order of the alternatives: texts with names that are no metrics (strings, ranges, lists of labels,
 * `offset`, operators, functions), then selectors: matchers without a name, and a name with or without matchers.
 */
const TOKEN =
  /"(?:[^"\\]|\\.)*"|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\b(?:\s*\([^()]*\))?|\boffset\s+-?\w+|(?<![\w.:])(?:and|or|unless|bool|atan2|inf|nan)(?![\w:])|[a-z_]\w*(?=\s*(?:\(|(?:by|without)\b))|(\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\})|(?<![\w.])([a-z_:][\w:]*)(\s*\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\})?/gi;
/** The series of pending and firing alerts. Alerts on sums have no namespace. */
const ALERTS = "ALERTS";

/**
 * An expression whose selectors require the namespaces. Recorded series (with a colon) have lost that label, and a selector
 * that names a namespace keeps it.
 * @param namespaces alternatives of a regular expression
 */
export function withNamespaces(expression: string, namespaces: string): string {
  const scoped = (matchers: string | undefined, name?: string): string => {
    if (matchers && /[{,]\s*namespace\s*[=!]/.test(matchers)) return matchers;
    const others = matchers?.trim().slice(1, -1).trim().replace(/,$/, "");
    const allowed = name === ALERTS ? `${namespaces}|` : namespaces;
    return `{${others ? `${others}, ` : ""}namespace=~"${allowed}"}`;
  };
  return expression.replaceAll(
    TOKEN,
    (token, bare: string | undefined, name: string | undefined, matchers: string | undefined) => {
      if (bare !== undefined) return scoped(bare);
      return name === undefined || name.includes(":") ? token : name + scoped(matchers, name);
    },
  );
}
