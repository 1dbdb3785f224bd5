/** The part of kubectl that the local cluster needs to set itself up: its administrator, its own built kubectl. */
import { OperatorError } from "../cli/errors.ts";
import { capture, type RunResult } from "../cli/process.ts";
import { kubeconfigPath, LOCAL_CONTEXT } from "./layout.ts";
import { kubectlPath } from "./plan.ts";

/** One call: generous for a busy two-core machine, short enough that a dead API server is noticed. */
const CALL_LIMIT_MS = 60_000;
/** Owner of applied fields, the same as deploy's. */
const FIELD_MANAGER = "conveyor-deploy";

export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  [field: string]: unknown;
}

export interface KubectlOptions {
  input?: string;
  signal?: AbortSignal | undefined;
  timeoutMs?: number;
}

/** Runs kubectl and returns its result, whatever its exit code. */
export async function tryKubectl(args: readonly string[], options: KubectlOptions = {}): Promise<RunResult> {
  const location = ["--context", LOCAL_CONTEXT, "--kubeconfig", kubeconfigPath()];
  return await capture([kubectlPath(), ...location, ...args], {
    timeoutMs: CALL_LIMIT_MS,
    what: `kubectl ${args.slice(0, 4).join(" ")}`,
    ...options,
  });
}

/** Runs kubectl and returns its stdout. @throws OperatorError with its stderr when it fails */
export async function kubectl(args: readonly string[], options: KubectlOptions = {}): Promise<string> {
  const { stdout, stderr, exitCode } = await tryKubectl(args, options);
  if (exitCode !== 0) {
    throw new OperatorError(`kubectl ${args.slice(0, 6).join(" ")} failed (exit ${exitCode}): ${stderr.trim()}`);
  }
  return stdout;
}

/** A List of objects, as kubectl reads it from stdin. */
export const listOf = (items: readonly KubernetesObject[]): string =>
  JSON.stringify({ apiVersion: "v1", kind: "List", items });

/** Server-side apply. */
export async function apply(objects: readonly KubernetesObject[], signal?: AbortSignal): Promise<void> {
  if (objects.length === 0) return;
  const args = ["apply", "--server-side", "--field-manager", FIELD_MANAGER, "--force-conflicts", "-f", "-"];
  await kubectl(args, { input: listOf(objects), signal });
}
