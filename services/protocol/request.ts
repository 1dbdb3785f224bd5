/**
 * Requests between programs of the project, as JSON. A request type is declared once, by its rules; the TypeScript type
 * follows from them. Unknown fields are rejected, since ignoring them hides mistakes of the caller.
 */
import { shown } from "../domain/event.ts";

/** Checks a value that must be a T. @returns "FIELD: RULE; got VALUE" for a wrong one, else undefined */
export interface Rule<T> {
  (value: unknown, field: string): string | undefined;
  /** Never set; carries the type. */
  readonly accepts?: T;
}
type Accepted<R> = R extends Rule<infer T> ? T : never;
/** The rule of each field of an object. */
export type Shape = Readonly<Record<string, Rule<unknown>>>;
type OptionalKeys<S extends Shape> = { [K in keyof S]: undefined extends Accepted<S[K]> ? K : never }[keyof S];
/** The objects that a shape describes. */
export type Shaped<S extends Shape> = { [K in Exclude<keyof S, OptionalKeys<S>>]: Accepted<S[K]> } & {
  [K in OptionalKeys<S>]?: Accepted<S[K]>;
};

const rule =
  <T>(description: string, accepts: (value: unknown) => boolean): Rule<T> =>
  (value, field) =>
    accepts(value) ? undefined : `${field}: ${description}; got ${shown(value)}`;
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const text = rule<string>("must be a non-empty string", (value) => typeof value === "string" && value !== "");
export const anyText = rule<string>("must be a string", (value) => typeof value === "string");
export const matching = (pattern: RegExp, description: string) =>
  rule<string>(description, (value) => typeof value === "string" && pattern.test(value));
export const oneOf = <const T extends readonly string[]>(choices: T) =>
  rule<T[number]>(`must be one of ${choices.join(", ")}`, (value) => choices.some((choice) => choice === value));
export const integer = (least: number, most: number) =>
  rule<number>(
    `must be an integer from ${least} to ${most}`,
    (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
  );
export const count = integer(0, Number.MAX_SAFE_INTEGER);
/** Milliseconds since the epoch; a fraction is allowed. */
export const moment = rule<number>(
  "must be milliseconds since the epoch",
  (value) => typeof value === "number" && value >= 0 && value <= Number.MAX_SAFE_INTEGER,
);
export const flag = rule<boolean>("must be true or false", (value) => typeof value === "boolean");

export const optional =
  <T>(given: Rule<T>): Rule<T | undefined> =>
  (value, field) =>
    value === undefined ? undefined : given(value, field);

export const listOf =
  <T>(item: Rule<T>): Rule<T[]> =>
  (value, field) => {
    if (!Array.isArray(value)) return `${field}: must be a list; got ${shown(value)}`;
    return firstProblem(value.map((given, index) => () => item(given, `${field}[${index}]`)));
  };

/** An object whose keys the caller chooses. */
export const mapOf =
  <T>(item: Rule<T>): Rule<Record<string, T>> =>
  (value, field) => {
    if (!isObject(value)) return `${field}: must be an object; got ${shown(value)}`;
    return firstProblem(
      Object.entries(value).map(
        ([name, given]) =>
          () =>
            item(given, `${field}.${name}`),
      ),
    );
  };

/** An object with exactly these fields. */
export const fields =
  <S extends Shape>(shape: S): Rule<Shaped<S>> =>
  (value, field) => {
    if (!isObject(value)) return `${field || "request"}: must be an object; got ${shown(value)}`;
    const inner = (name: string) => (field ? `${field}.${name}` : name);
    const known = Object.keys(shape);
    const unknown = Object.keys(value).find((name) => !Object.hasOwn(shape, name));
    if (unknown !== undefined) {
      return `${inner(unknown)}: is not a field (${known.join(", ") || "there is none"}); got ${shown(value[unknown])}`;
    }
    return firstProblem(known.map((name) => () => shape[name]!(value[name], inner(name))));
  };

function firstProblem(checks: readonly (() => string | undefined)[]): string | undefined {
  for (const check of checks) {
    const problem = check();
    if (problem) return problem;
  }
  return undefined;
}

/**
 * Parses a request.
 * @param name of the request in messages about its JSON; `prefix` before the names of its fields
 * @throws Error that names the field, the rule and the value
 */
export function parseRequest<T>(request: string, name: string, given: Rule<T>, prefix = name): T {
  let value: unknown;
  try {
    value = JSON.parse(request);
  } catch {
    throw new Error(`${name}: must be JSON; got ${shown(request)}`);
  }
  const problem = given(value, prefix);
  if (problem) throw new Error(problem);
  return value as T;
}
