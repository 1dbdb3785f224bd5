/**
 * The senders that the intake accepts: entries of the Secret producer-intake, mounted as files of one folder.
 *
 *   token            may write every source, without limits
 *   token-previous   the same; keeps senders working while `token` is changed
 *   senders.json     senders with their own tokens, sources and limits (protocol/senders.ts)
 *
 * The kubelet replaces the files while the pod runs, so they are read again and again: a changed token needs no restart.
 */
import { timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  readSenders,
  revisionOf,
  SENDERS_FILE,
  type SenderEntry,
  type SenderLimits,
  type SendersInUse,
  SHARED_SENDERS,
  sha256,
} from "../protocol/senders.ts";
import type { Logger } from "../runtime/log.ts";

/** The kubelet itself needs up to a minute to replace the files. */
const REREAD_MS = 5000;

export interface Sender {
  /** "token", "token-previous", or a name of senders.json. */
  name: string;
  /** Names of sources, or prefixes that end with "*"; undefined: all. */
  sources?: readonly string[];
  /** Undefined: none. */
  limits?: SenderLimits;
}

interface Entry {
  digest: Buffer;
  sender: Sender;
}

/** @param source undefined: none, which every sender may name */
export const mayWrite = ({ sources }: Sender, source: string | undefined): boolean =>
  sources === undefined ||
  source === undefined ||
  sources.some((pattern) => (pattern.endsWith("*") ? source.startsWith(pattern.slice(0, -1)) : source === pattern));

export class IntakeSenders {
  readonly #files: readonly string[];
  #shared: Entry[] = [];
  #listed: Entry[] = [];
  #text = "";
  #revision = revisionOf("");
  #problem: string | undefined;
  #readAt = Number.NEGATIVE_INFINITY;

  /** @param tokenFile not empty; its folder has the other files. */
  constructor(
    tokenFile: string,
    private readonly log: Logger,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.#files = [tokenFile, ...["token-previous", SENDERS_FILE].map((name) => join(dirname(tokenFile), name))];
    this.#refresh();
  }

  /** The sender with this token. Compares it with every token, so that the time does not depend on the token. */
  find(token: string): Sender | undefined {
    this.#refreshIfDue();
    const wanted = Buffer.from(sha256(token), "hex");
    let found: Sender | undefined;
    for (const { digest: known, sender } of [...this.#shared, ...this.#listed]) {
      if (timingSafeEqual(known, wanted)) found = sender;
    }
    return found;
  }

  /** The senders that have limits. */
  listed(): Sender[] {
    this.#refreshIfDue();
    return [...new Set(this.#listed.map(({ sender }) => sender))];
  }

  /** What is in use; scripts/senders.ts waits for its own change. */
  inUse(): SendersInUse {
    this.#refreshIfDue();
    return { revision: this.#revision, senders: this.#names(), problem: this.#problem };
  }

  #names(): string[] {
    return [...new Set([...this.#shared, ...this.#listed].map(({ sender }) => sender.name))];
  }

  #refreshIfDue(): void {
    if (this.now() - this.#readAt >= REREAD_MS) this.#refresh();
  }

  /** Reads the files. A faulty one changes nothing: it must not lock out the senders of the others. */
  #refresh(): void {
    this.#readAt = this.now();
    let texts: string[];
    try {
      texts = this.#files.map((file) => readOptional(file).trim());
    } catch (error) {
      // The senders that were read before stay: a disk error must not refuse all of them.
      const problem = (error as Error).message;
      if (problem !== this.#problem) this.log.error("intake_senders_invalid", { error });
      this.#problem = problem;
      this.#text = "";
      return;
    }
    const text = JSON.stringify(texts);
    if (text === this.#text) return;
    this.#text = text;
    const [token = "", previous = "", senders = ""] = texts;
    if (token !== "") this.#shared = sharedEntries(token, previous);
    else this.log.error("intake_senders_invalid", { error: "token: must not be empty" });
    try {
      const entries = readSenders(senders);
      this.#listed = listedEntries(entries, this.#shared);
      this.#revision = revisionOf(senders);
      this.#problem = undefined;
      const plain = entries.filter(({ isPlain }) => isPlain).map(({ name }) => name);
      if (plain.length > 0) {
        const hint = "keep digests: bun scripts/senders.ts rotate NAME replaces the plain tokens of every sender";
        this.log.warn("intake_plain_tokens", { senders: plain, hint });
      }
    } catch (error) {
      this.#problem = (error as Error).message;
      this.log.error("intake_senders_invalid", { error });
    }
    this.log.info("intake_senders", { senders: this.#names() });
  }
}

/** "" for a file that does not exist. @throws Error when it cannot be read */
function readOptional(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}

function sharedEntries(...tokens: string[]): Entry[] {
  const entries = tokens.map((token, index) => ({
    digest: Buffer.from(sha256(token), "hex"),
    sender: { name: SHARED_SENDERS[index]! },
  }));
  const [token, previous] = tokens;
  return previous === "" || previous === token ? entries.slice(0, 1) : entries;
}

/** @throws Error that names a sender with a shared token */
function listedEntries(entries: readonly SenderEntry[], shared: readonly Entry[]): Entry[] {
  const known = new Set(shared.map(({ digest }) => digest.toString("hex")));
  return entries.flatMap(({ name, digests, sources, limits }) => {
    const sender = { name, sources, limits };
    return digests.map((digest) => {
      if (known.has(digest)) throw new Error(`${SENDERS_FILE}, ${name}: a token must differ from every other one`);
      return { digest: Buffer.from(digest, "hex"), sender };
    });
  });
}
