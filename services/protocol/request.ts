/**
 * Requests that one of the project's programs sends another as JSON: exactly the fields that the receiver knows, each
 * with its rule. A field that nobody reads would be a wish that nobody grants, and nobody would be told.
 */
import { shown } from "../domain/event.ts";

/** What is wrong with a value: "FIELD: RULE; got VALUE"; undefined when it may stay. */
export type Rule = (value: unknown, field: string) => string | undefined;

/** A rule for each field that a request of this type can have, and for no other. */
export type RulesOf<T> = { [Field in keyof T]-?: Rule };

const rule =
  (words: string, accepts: (value: unknown) => boolean): Rule =>
  (value, field) =>
    accepts(value) ? undefined : `${field}: ${words}; got ${shown(value)}`;

export const text = rule("must be a text that is not empty", (value) => typeof value === "string" && value !== "");
/** Any text, also none at all. */
export const anyText = rule("must be a text", (value) => typeof value === "string");
export const matching = (pattern: RegExp, words: string) =>
  rule(words, (value) => typeof value === "string" && pattern.test(value));
export const oneOf = (choices: readonly string[]) =>
  rule(`must be one of ${choices.join(", ")}`, (value) => typeof value === "string" && choices.includes(value));
export const integer = (least: number, most: number) =>
  rule(
    `must be a whole number from ${least} to ${most}`,
    (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
  );
/** Milliseconds since the epoch; a fraction is harmless. */
export const moment = rule(
  "must be milliseconds since the epoch",
  (value) => typeof value === "number" && value >= 0 && value <= Number.MAX_SAFE_INTEGER,
);
export const flag = rule("must be true or false", (value) => typeof value === "boolean");

/** A field that may be left out. */
export const optional =
  (given: Rule): Rule =>
  (value, field) =>
    value === undefined ? undefined : given(value, field);

/** A list of things that keep one rule each. */
export const listOf =
  (item: Rule): Rule =>
  (value, field) => {
    if (!Array.isArray(value)) return `${field}: must be a list; got ${shown(value)}`;
    for (const [index, given] of value.entries()) {
      const problem = item(given, `${field}[${index}]`);
      if (problem) return problem;
    }
    return undefined;
  };

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Texts by names that the sender chooses. */
export const texts: Rule = (value, field) => {
  if (!isObject(value)) return `${field}: must be an object; got ${shown(value)}`;
  const wrong = Object.entries(value).find(([, given]) => typeof given !== "string");
  return wrong && `${field}.${wrong[0]}: must be a text; got ${shown(wrong[1])}`;
};

/** An object with exactly these fields. */
export const fields =
  <T extends object>(rules: RulesOf<T>): Rule =>
  (value, field) => {
    if (!isObject(value)) return `${field || "request"}: must be an object; got ${shown(value)}`;
    const inner = (name: string) => (field ? `${field}.${name}` : name);
    const known = Object.keys(rules);
    for (const [name, given] of Object.entries(value)) {
      if (!Object.hasOwn(rules, name)) {
        return `${inner(name)}: is not a field (${known.join(", ") || "there is none"}); got ${shown(given)}`;
      }
    }
    for (const name of known) {
      const problem = rules[name as keyof T](value[name], inner(name));
      if (problem) return problem;
    }
    return undefined;
  };

/**
 * The value of a request's text.
 * @param name what a message calls it where it is wrong as a whole
 * @throws Error that names the field, the rule and the value
 */
export function parseRequest(request: string, name: string, given: Rule, prefix = name): unknown {
  let value: unknown;
  try {
    value = JSON.parse(request);
  } catch {
    throw new Error(`${name}: must be JSON; got ${shown(request)}`);
  }
  const problem = given(value, prefix);
  if (problem) throw new Error(problem);
  return value;
}
