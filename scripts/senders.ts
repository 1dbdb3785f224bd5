/**
 * The senders of the intake: each with its own token, the sources that it may write, and its limits.
 *
 *   bun scripts/senders.ts add plant-a --sources 'plant-a-*,belt-7' --requests-per-second 20   prints its token, once
 *   bun scripts/senders.ts change plant-a --series 20000   its rights or limits; the token stays
 *   bun scripts/senders.ts list
 *   bun scripts/senders.ts rotate plant-a               a new token; those before stay valid
 *   bun scripts/senders.ts revoke plant-a --previous    ends the rotation: only the newest token stays valid
 *   bun scripts/senders.ts revoke plant-a
 *
 * The Secret producer-intake holds digests of the tokens. The running producers follow it without a restart; each command
 * waits until all of them do.
 */
import { NAME_PATTERN, NAME_RULE } from "../services/domain/event.ts";
import {
  DEFAULT_MOST_SERIES,
  DEFAULT_MOST_SOURCES,
  isPattern,
  LIMIT_RANGES,
  MAX_TOKENS_PER_SENDER,
  newToken,
  type SenderEntry,
  SHARED_SENDERS,
  sha256,
} from "../services/protocol/senders.ts";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { tableLines } from "./cli/report.ts";
import { awaitSenders, readSenderList, type SenderList, writeSenderList } from "./clients/senders.ts";
import type { Cluster } from "./cluster/cluster.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";

const limitFlag = (name: keyof typeof LIMIT_RANGES, description: string) =>
  ({ type: "number", min: LIMIT_RANGES[name][0], max: LIMIT_RANGES[name][1], description }) as const;

const FLAGS = {
  ...CLUSTER_FLAGS,
  sources: {
    type: "string",
    multiple: true,
    valueName: "PATTERN,…",
    description: "sources (of version 1: conveyors) that it may write: names, or prefixes with * (default: all)",
  },
  "requests-per-second": limitFlag("requests_per_second", "most requests to one producer (default: no limit)"),
  "bytes-per-second": limitFlag("bytes_per_second", "most bytes of bodies to one producer (default: no limit)"),
  "most-sources": limitFlag("most_sources", `most sources in use (default: ${DEFAULT_MOST_SOURCES})`),
  series: limitFlag("most_series", `most series, measurement and tags, in use (default: ${DEFAULT_MOST_SERIES})`),
  previous: { type: "boolean", description: "revoke: all tokens of the sender but the newest" },
} as const;

type Context = CommandContext<typeof FLAGS>;

/** Each action by its name: the senders after it, and the token that it has made. */
const CHANGES: Readonly<
  Record<string, (name: string, senders: readonly SenderEntry[], flags: Context["flags"]) => Change>
> = { add, change, rotate, revoke };

interface Change {
  senders: SenderEntry[];
  done: string;
  token?: string;
}

function add(name: string, senders: readonly SenderEntry[], flags: Context["flags"]): Change {
  if (senders.some((sender) => sender.name === name)) {
    throw new OperatorError(`sender ${name} exists already`, {
      exitCode: EXIT.precondition,
      hint: `a new token: bun scripts/senders.ts rotate ${name}; other rights or limits: bun scripts/senders.ts change ${name}`,
    });
  }
  const token = newToken();
  const limits = { mostSources: DEFAULT_MOST_SOURCES, mostSeries: DEFAULT_MOST_SERIES };
  const fresh = { name, digests: [sha256(token)], isPlain: false, sources: ["*"], limits };
  return { senders: [...senders, withRights(fresh, flags)], done: `${name} may send`, token };
}

function change(name: string, senders: readonly SenderEntry[], flags: Context["flags"]): Change {
  const sender = existing(name, senders);
  return { senders: replaced(senders, withRights(sender, flags)), done: `${name} has these rights and limits` };
}

/** The sender with the rights and limits that are given. */
function withRights(sender: SenderEntry, flags: Context["flags"]): SenderEntry {
  const sources = flags.sources.flatMap((text) => text.split(","));
  const wrong = sources.find((pattern) => !isPattern(pattern));
  if (wrong !== undefined) {
    const rule = "must be names, or prefixes with * at the end, separated by commas";
    throw new OperatorError(`--sources: ${rule}; got "${wrong}"`, { exitCode: EXIT.usage });
  }
  const { limits } = sender;
  return {
    ...sender,
    sources: sources.length > 0 ? sources : sender.sources,
    limits: {
      requestsPerSecond: flags["requests-per-second"] ?? limits.requestsPerSecond,
      bytesPerSecond: flags["bytes-per-second"] ?? limits.bytesPerSecond,
      mostSources: flags["most-sources"] ?? limits.mostSources,
      mostSeries: flags.series ?? limits.mostSeries,
    },
  };
}

function revoke(name: string, senders: readonly SenderEntry[], flags: Context["flags"]): Change {
  const sender = existing(name, senders);
  if (!flags.previous) return { senders: senders.filter((one) => one !== sender), done: `${name} is refused` };
  if (sender.digests.length === 1) {
    throw new OperatorError(`sender ${name} has only one token`, {
      exitCode: EXIT.precondition,
      hint: `without --previous, it is refused altogether`,
    });
  }
  const kept = { ...sender, digests: sender.digests.slice(-1) };
  return { senders: replaced(senders, kept), done: `only the newest token of ${name} is valid` };
}

function rotate(name: string, senders: readonly SenderEntry[]): Change {
  const sender = existing(name, senders);
  const token = newToken();
  // All stay: the newest one may be a token that was lost before its sender had it.
  if (sender.digests.length === MAX_TOKENS_PER_SENDER) {
    throw new OperatorError(`sender ${name} has ${MAX_TOKENS_PER_SENDER} valid tokens`, {
      exitCode: EXIT.precondition,
      hint: `give it the newest one, then: bun scripts/senders.ts revoke ${name} --previous`,
    });
  }
  const done = `${name} has a new token; those before are valid until: bun scripts/senders.ts revoke ${name} --previous`;
  const digests = [...sender.digests, sha256(token)];
  return { senders: replaced(senders, { ...sender, digests }), done, token };
}

const replaced = (senders: readonly SenderEntry[], sender: SenderEntry): SenderEntry[] =>
  senders.map((one) => (one.name === sender.name ? sender : one));

function existing(name: string, senders: readonly SenderEntry[]): SenderEntry {
  const found = senders.find((sender) => sender.name === name);
  if (found) return found;
  const known = senders.map((sender) => sender.name).join(", ") || "none";
  throw new OperatorError(`there is no sender ${name}; known: ${known}`, { exitCode: EXIT.precondition });
}

/** @throws OperatorError (exit 2) for a flag of another action, and for a name that no sender may have */
function checkArguments({ positionals: [action, name], flags }: Pick<Context, "positionals" | "flags">): void {
  const usage = (message: string) => new OperatorError(message, { exitCode: EXIT.usage });
  if (action === "list") {
    if (name !== undefined) throw usage(`unexpected argument "${name}"`);
  } else if (name === undefined) throw usage("missing argument NAME");
  else if (!NAME_PATTERN.test(name)) throw usage(`NAME: ${NAME_RULE}; got "${name}"`);
  else if ((SHARED_SENDERS as readonly string[]).includes(name))
    throw usage(`NAME: must not be ${SHARED_SENDERS.join(" or ")}, the names of the shared tokens`);
  const limits = ["requests-per-second", "bytes-per-second", "most-sources", "series"] as const;
  const given = limits.find((flag) => flags[flag] !== undefined) ?? (flags.sources.length > 0 ? "sources" : undefined);
  if (given && action !== "add" && action !== "change") throw usage(`--${given}: only for add and change`);
  if (action === "change" && !given) throw usage("change: needs --sources or a limit");
  if (action !== "revoke" && flags.previous) throw usage("--previous: only for revoke");
}

async function main(context: Context): Promise<void> {
  const { flags, report, signal } = context;
  checkArguments(context);
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  report.info(`target: ${cluster.describe()}`);
  await runOn(cluster, context);
}

/** Lists or changes the senders of a cluster's pipeline. */
export async function runOn(cluster: Cluster, { flags, positionals, report, signal }: Context): Promise<void> {
  const [action = "", name] = positionals;
  const list = await readSenderList(cluster);
  if (action === "list") printList(list, report);
  else await apply(CHANGES[action]!(name!, list.senders, flags), list, cluster, { name: name!, report, signal });
}

async function apply(
  { senders, done, token }: Change,
  { secret }: SenderList,
  cluster: Cluster,
  { name, report, signal }: Pick<Context, "report" | "signal"> & { name: string },
): Promise<void> {
  const revision = await writeSenderList(cluster, { senders, secret }, signal);
  const document = { sender: name, ...(token === undefined ? {} : { token }) };
  // Before the wait: the token cannot be read again.
  if (token !== undefined) report.print(token);
  report.result(document);
  try {
    const producers = await report.step("every producer uses the list", async (step) => {
      const count = await awaitSenders(cluster, revision, { signal, onState: (state) => step.update(state) });
      step.update(`${count} of ${count}`);
      return count;
    });
    report.result({ ...document, producers });
    report.info(producers > 0 ? done : `${done}, once a producer runs: none does`);
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    const { message, hint, exitCode, cause } = error;
    throw new OperatorError(`the list is stored, but ${message}`, { hint, exitCode, cause, document });
  }
}

function printList({ senders }: SenderList, report: Context["report"]): void {
  report.result({
    senders: senders.map(({ name, sources, limits, digests, isPlain }) => ({
      name,
      sources,
      requests_per_second: limits.requestsPerSecond,
      bytes_per_second: limits.bytesPerSecond,
      most_sources: limits.mostSources,
      most_series: limits.mostSeries,
      tokens: digests.length,
      plain_tokens: isPlain,
    })),
  });
  const rows = senders.map(({ name, sources, limits, digests, isPlain }) => [
    name,
    `${digests.length}${isPlain ? " (plain)" : ""}`,
    String(limits.requestsPerSecond ?? "-"),
    String(limits.bytesPerSecond ?? "-"),
    String(limits.mostSources),
    String(limits.mostSeries),
    sources.join(","),
  ]);
  const numbers = ["requests/s", "bytes/s", "most sources", "most series"];
  for (const line of tableLines(["sender", "tokens", ...numbers, "sources"], rows, numbers)) report.print(line);
  if (senders.length === 0) report.info("no sender has its own token: bun scripts/senders.ts add NAME");
  if (senders.some(({ isPlain }) => isPlain)) {
    report.warn("plain: the Secret holds the token itself; the next change of any sender replaces it by its digest");
  }
}

export const command = defineCommand({
  name: "scripts/senders.ts",
  summary: "senders with their own tokens: adds, lists and revokes them, and changes their tokens",
  usage: [
    "add NAME [--sources PATTERN,…] [--requests-per-second N] [--bytes-per-second N] [--most-sources N] [--series N]",
    "change NAME [the same flags]",
    "list",
    "rotate NAME",
    "revoke NAME [--previous]",
  ],
  positionals: [
    { name: "ACTION", description: "what to do", required: true, choices: ["list", ...Object.keys(CHANGES)] },
    { name: "NAME", description: "the sender; its events of line protocol have this name as their source" },
  ],
  flags: FLAGS,
  examples: [
    ["bun scripts/senders.ts add plant-a --sources 'plant-a-*'", "prints the token of plant-a, once"],
    ["bun scripts/senders.ts add telegraf --requests-per-second 20 --series 5000", "with limits"],
    ["bun scripts/senders.ts change telegraf --series 20000", "a limit; its token stays"],
    ["bun scripts/senders.ts rotate plant-a", "prints a new token; those before stay valid"],
    ["bun scripts/senders.ts revoke plant-a --previous", "when plant-a uses the newest token"],
    ["bun scripts/senders.ts revoke plant-a", "its tokens are refused within seconds"],
  ],
  notes: [
    "Each change waits until every running producer uses it. A token is printed once and kept as a digest only.",
    "Rates and bounds hold in each producer: with three of them, a sender may reach three times its rate.",
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
