/**
 * The senders that the intake accepts: entries of the Secret producer-intake, mounted as files of one folder.
 *
 *   token            may write every conveyor
 *   token-previous   the same; keeps senders working while `token` is changed
 *   senders.json     { "plant-a": { "tokens": ["…"], "conveyors": ["plant-a-*", "belt-7"] } }: may write these conveyors
 *
 * The kubelet replaces the files while the pod runs, so they are read again and again: a changed token needs no restart.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { NAME_PATTERN, NAME_RULE, shown } from "../domain/event.ts";
import type { Logger } from "../runtime/log.ts";

/** The kubelet itself needs up to a minute to replace the files. */
const REREAD_MS = 5000;
/** Every request is compared with every token. */
const MAX_SENDERS = 100;
/** Two overlap during a rotation. */
const MAX_TOKENS_PER_SENDER = 4;
const MAX_PATTERNS_PER_SENDER = 100;
/** Shorter tokens can be guessed. */
const MIN_TOKEN_CHARS = 16;

export interface Sender {
  /** "token", "token-previous", or a name of senders.json. */
  name: string;
  /** Names of conveyors, or prefixes that end with "*"; undefined: all. */
  conveyors?: readonly string[];
}

interface Entry {
  digest: Buffer;
  sender: Sender;
}

const digest = (text: string) => createHash("sha256").update(text).digest();

/** @param conveyor undefined: none, which every sender may name */
export const mayWrite = ({ conveyors }: Sender, conveyor: string | undefined): boolean =>
  conveyors === undefined ||
  conveyor === undefined ||
  conveyors.some((pattern) =>
    pattern.endsWith("*") ? conveyor.startsWith(pattern.slice(0, -1)) : conveyor === pattern,
  );

export class IntakeSenders {
  readonly #files: readonly string[];
  #shared: Entry[] = [];
  #listed: Entry[] = [];
  #text = "";
  #readAt = Number.NEGATIVE_INFINITY;

  /** @param tokenFile not empty; its folder has the other files. */
  constructor(
    tokenFile: string,
    private readonly log: Logger,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.#files = [tokenFile, ...["token-previous", "senders.json"].map((name) => join(dirname(tokenFile), name))];
    this.#refresh();
  }

  /** The sender with this token. Compares it with every token, so that the time does not depend on the token. */
  find(token: string): Sender | undefined {
    if (this.now() - this.#readAt >= REREAD_MS) this.#refresh();
    const wanted = digest(token);
    let found: Sender | undefined;
    for (const { digest: known, sender } of [...this.#shared, ...this.#listed]) {
      if (timingSafeEqual(known, wanted)) found = sender;
    }
    return found;
  }

  /** Reads the files. A faulty one changes nothing: it must not lock out the senders of the others. */
  #refresh(): void {
    this.#readAt = this.now();
    const texts = this.#files.map((file) => readOptional(file).trim());
    const text = JSON.stringify(texts);
    if (text === this.#text) return;
    this.#text = text;
    const [token = "", previous = "", senders = ""] = texts;
    if (token !== "") this.#shared = sharedEntries(token, previous);
    else this.log.error("intake_senders_invalid", { error: "token: must not be empty" });
    try {
      this.#listed = listedEntries(senders, this.#shared);
    } catch (error) {
      this.log.error("intake_senders_invalid", { error });
    }
    const names = [...this.#shared, ...this.#listed].map(({ sender }) => sender.name);
    this.log.info("intake_senders", { senders: [...new Set(names)] });
  }
}

function readOptional(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function sharedEntries(token: string, previous: string): Entry[] {
  const entries = [{ digest: digest(token), sender: { name: "token" } }];
  if (previous === "" || previous === token) return entries;
  return [...entries, { digest: digest(previous), sender: { name: "token-previous" } }];
}

/** @throws Error that names the invalid field, and no token */
function listedEntries(text: string, shared: readonly Entry[]): Entry[] {
  if (text === "") return [];
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    // The message of the parser would repeat a part of the text, which holds tokens.
    throw new Error("senders.json: must be JSON");
  }
  if (!isRecord(list)) throw new Error("senders.json: must be an object of senders by name");
  const named = Object.entries(list);
  if (named.length > MAX_SENDERS)
    throw new Error(`senders.json: must have at most ${MAX_SENDERS}; got ${named.length}`);
  const entries = named.flatMap(([name, rights]) => entriesOf(name, rights));
  const known = new Set(shared.map((entry) => entry.digest.toString("hex")));
  for (const { digest: one, sender } of entries) {
    const hex = one.toString("hex");
    if (known.has(hex)) throw new Error(`senders.json, ${sender.name}: a token must differ from every other one`);
    known.add(hex);
  }
  return entries;
}

function entriesOf(name: string, rights: unknown): Entry[] {
  const where = `senders.json, ${shown(name)}`;
  if (!NAME_PATTERN.test(name)) throw new Error(`${where}: a name ${NAME_RULE}`);
  const { tokens, conveyors } = isRecord(rights) ? rights : {};
  if (!isList(tokens, MAX_TOKENS_PER_SENDER, (token) => /^\S+$/.test(token) && token.length >= MIN_TOKEN_CHARS)) {
    const rule = `${MIN_TOKEN_CHARS} characters without whitespace`;
    throw new Error(`${where}: tokens must be a list of 1 to ${MAX_TOKENS_PER_SENDER}, each at least ${rule}`);
  }
  if (!isList(conveyors, MAX_PATTERNS_PER_SENDER, isPattern)) {
    const rule = `names of conveyors, or prefixes with * at the end; got ${shown(conveyors)}`;
    throw new Error(`${where}: conveyors must be a list of 1 to ${MAX_PATTERNS_PER_SENDER} ${rule}`);
  }
  return tokens.map((token) => ({ digest: digest(token), sender: { name, conveyors } }));
}

const isPattern = (text: string) => text === "*" || NAME_PATTERN.test(text.replace(/\*$/, ""));

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isList = (value: unknown, most: number, isValid: (text: string) => boolean): value is string[] =>
  Array.isArray(value) &&
  value.length >= 1 &&
  value.length <= most &&
  value.every((one) => typeof one === "string" && isValid(one));
