/**
 * Requests between programs of the project, as JSON. A request type is declared once, by its fields, and the compiler
 * checks the values of the callers. Unknown and missing fields are rejected, since a caller may be newer than the image.
 */
import { shown } from "../domain/event.ts";

/** `accepts` is never set; it carries the type of the values. */
interface Field<T = unknown, Required = boolean> {
  isRequired: Required;
  choices?: readonly string[];
  readonly accepts?: T;
}
export const required = <T>(): Field<T, true> => ({ isRequired: true });
export const optional = <T>(): Field<T, false> => ({ isRequired: false });
export const oneOf = <const T extends readonly string[]>(choices: T): Field<T[number], true> => ({
  isRequired: true,
  choices,
});

/** The fields of an object. */
export type Shape = Readonly<Record<string, Field>>;
type Value<F> = F extends Field<infer T> ? T : never;
type RequiredKeys<S extends Shape> = { [K in keyof S]: S[K]["isRequired"] extends true ? K : never }[keyof S];
export type Shaped<S extends Shape> = { [K in RequiredKeys<S>]: Value<S[K]> } & {
  [K in Exclude<keyof S, RequiredKeys<S>>]?: Value<S[K]>;
};

/** @throws Error that names the field, the rule and the value; `prefix` comes before the names of fields */
export function checkFields(value: unknown, shape: Shape, prefix = ""): void {
  const given = (value ?? {}) as Record<string, unknown>;
  const reject = (name: string, rule: string) => new Error(`${prefix}${name}: ${rule}; got ${shown(given[name])}`);
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(shape, name)) throw reject(name, `is not a field (${Object.keys(shape).join(", ")})`);
  }
  for (const [name, { isRequired, choices }] of Object.entries(shape)) {
    if (isRequired && given[name] === undefined) throw reject(name, "is required");
    if (choices && !choices.some((choice) => choice === given[name])) {
      throw reject(name, `must be one of ${choices.join(", ")}`);
    }
  }
}

/** @throws Error that names the request and its text */
export function parseJson(request: string, name: string): unknown {
  try {
    return JSON.parse(request);
  } catch {
    throw new Error(`${name}: must be JSON; got ${shown(request)}`);
  }
}
