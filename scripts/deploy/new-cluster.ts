/** A deploy that names no cluster: what this machine can create, and the choices where it can create none. */
import { createInterface } from "node:readline/promises";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { capture, must } from "../cli/process.ts";
import type { Report } from "../cli/report.ts";
import { compareVersions, findTool } from "../cli/tools.ts";
import { KIND_NAME } from "../cluster/namespace.ts";
import { engineWorks, kindEngine } from "../images/index.ts";
import { OTHER_WAYS } from "../local-cluster/index.ts";

/** kind pulls a node image of some 400 MB, and its node takes a minute to be Ready on a slow machine. */
const KIND_LIMIT_MS = 15 * 60_000;
const KIND_READY_SECONDS = 180;
/** From this version on the network of kind enforces NetworkPolicies (release notes of v0.24.0). */
const KIND_WITH_POLICIES = "0.24.0";

/** What decides which cluster this machine can create. */
export interface Machine {
  isLinux: boolean;
  isRoot: boolean;
  /** kind is installed, and the engine of its nodes works. */
  hasKind: boolean;
  /** The user can be asked. */
  isTerminal: boolean;
}

export type Creation = "local" | "kind";

/**
 * The cluster to create where none is named, and whether the user has to agree.
 * @param isAuto as npm start does: the local cluster is what it is for, so it is not asked for
 */
export function creationOn(
  { isLinux, isRoot, hasKind, isTerminal }: Machine,
  isAuto: boolean,
): { create: Creation; ask: boolean } | undefined {
  if (isLinux && isRoot && isAuto) return { create: "local", ask: false };
  // Without a terminal nobody can agree.
  if (!isTerminal) return undefined;
  if (isLinux && isRoot) return { create: "local", ask: true };
  return hasKind ? { create: "kind", ask: true } : undefined;
}

async function thisMachine(report: Report): Promise<Machine> {
  return {
    isLinux: process.platform === "linux",
    isRoot: process.getuid?.() === 0,
    hasKind: findTool("kind") !== undefined && (await engineWorks(kindEngine())),
    isTerminal: Boolean(process.stdin.isTTY) && !report.json,
  };
}

/** The error (exit 3) that names the three ways to a cluster. */
export const noCluster = (): OperatorError =>
  new OperatorError("no cluster is named, and none was created", {
    exitCode: EXIT.precondition,
    hint: [
      ...OTHER_WAYS,
      "the local cluster:    sudo npm start   (Linux as root; it lists the tools that it needs)",
    ].join("\n"),
  });

const QUESTIONS: Record<Creation, string> = {
  local: "Create the local cluster on this machine?",
  kind: `Create the kind cluster "${KIND_NAME}"?`,
};

/** The cluster that this machine creates, after the user agreed. @throws OperatorError (exit 3) with the choices */
export async function agreedCreation(report: Report, isAuto: boolean): Promise<Creation> {
  const possible = creationOn(await thisMachine(report), isAuto);
  if (!possible) throw noCluster();
  if (!possible.ask) return possible.create;
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(`No cluster is named. ${QUESTIONS[possible.create]} [y/N] `);
    if (!/^y(es)?$/i.test(answer.trim())) throw noCluster();
    return possible.create;
  } finally {
    prompt.close();
  }
}

/** What kind's version means for the isolation of the pipeline's pods. */
export function policyNote(version: string): { enforced: boolean; text: string } {
  const enforced = compareVersions(version, KIND_WITH_POLICIES) >= 0;
  return {
    enforced,
    text: enforced
      ? `kind ${version}: its network enforces NetworkPolicies`
      : `kind ${version}: its network does not enforce NetworkPolicies, so pods are not isolated and validate fails; kind ${KIND_WITH_POLICIES} or newer does`,
  };
}

/** Creates a kind cluster unless it exists; its context `kind-NAME` is then in the kubeconfig. */
export async function ensureKindCluster(name: string, report: Report, signal: AbortSignal): Promise<void> {
  const listed = await capture(["kind", "get", "clusters"], { signal });
  if (listed.exitCode !== 0) {
    throw new OperatorError(`kind cannot list its clusters: ${listed.stderr.trim()}`, {
      exitCode: EXIT.precondition,
      hint: `check that ${kindEngine()} runs`,
    });
  }
  if (listed.stdout.split("\n").includes(name)) return;
  const version = /\d+(\.\d+)+/.exec(await must(["kind", "version"], { signal }))?.[0] ?? "0";
  const note = policyNote(version);
  await report.step(`create kind cluster ${name}`, async (step) => {
    const create = ["kind", "create", "cluster", "--name", name, "--wait", `${KIND_READY_SECONDS}s`];
    await must(create, { signal, timeoutMs: KIND_LIMIT_MS });
    step.update(`context kind-${name}`);
  });
  if (note.enforced) report.info(note.text);
  else report.warn(note.text);
}
