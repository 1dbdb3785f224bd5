/**
 * Every overlay and optional part of k8s/ against an API server: its strict validation, by dry runs in namespaces that exist
 * for this run only, and kubeconform with the schemas that the server publishes.
 */
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { parseAllDocuments } from "yaml";
import { capture, type RunResult } from "../cli/process.ts";
import type { Report } from "../cli/report.ts";
import { ensurePart, GO_TOOL, type GoBuild, goBuild, goRecipe, type Part } from "../local-cluster/index.ts";

const VERSION = "0.8.0";
const build = {
  module: join(import.meta.dir, "kubeconform"),
  packages: ["github.com/yannh/kubeconform/cmd/kubeconform"],
  cgo: false,
} satisfies Omit<GoBuild, "out">;

const KUBECONFORM: Part = {
  name: "kubeconform",
  version: VERSION,
  recipe: goRecipe(build),
  requires: [GO_TOOL],
  async build(out, context) {
    await goBuild({ ...build, out: join(out, "kubeconform") }, context);
  },
};

/** Some 200 objects; a busy two-core machine takes a minute. */
const DRY_RUN_LIMIT_MS = 300_000;
const KUBECONFORM_LIMIT_MS = 120_000;

interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  [field: string]: unknown;
}

/** Runs kubectl on the cluster and returns its result, whatever its exit code. */
type Kubectl = (
  args: readonly string[],
  options?: { input?: string; timeoutMs?: number },
) => Promise<Pick<RunResult, "stdout" | "stderr" | "exitCode">>;

const K8S = join(import.meta.dir, "../../k8s");
/** Builds that contain every object once at least. ServiceMonitors and TLSRoutes are left out: the server has no such kinds. */
export const OVERLAYS: Readonly<Record<string, { overlay: string; components: readonly string[] }>> = {
  small: { overlay: "overlays/small", components: [] },
  standard: { overlay: "overlays/standard", components: [] },
  large: { overlay: "overlays/large", components: [] },
  "small with KEDA, Loki, Grafana and a load balancer": {
    overlay: "overlays/small",
    components: ["processor/keda", "logging", "grafana", "producer/expose/loadbalancer"],
  },
  "small with VictoriaLogs and a node port, in size large": {
    overlay: "overlays/small",
    components: ["logging/victorialogs", "producer/expose/nodeport", "sizes/large"],
  },
};

interface OverlayFindings {
  overlays: { name: string; objects: number }[];
  /** Objects of all overlays; equal ones are checked once. */
  checked: number;
  findings: string[];
}

/**
 * Checks the overlays; stores nothing in the cluster but two empty namespaces, which are deleted at the end.
 * @throws OperatorError when kubeconform cannot be built, or the cluster cannot be read
 */
export async function overlayFindings(kubectl: Kubectl, report: Report): Promise<OverlayFindings> {
  const program = join(await ensurePart(KUBECONFORM, report), "kubeconform");
  const folder = await realpath(await mkdtemp(join(tmpdir(), "conveyor-overlays-")));
  try {
    const overlays: OverlayFindings["overlays"] = [];
    const distinct = new Map<string, KubernetesObject>();
    for (const [name, { overlay, components }] of Object.entries(OVERLAYS)) {
      const objects = await built(kubectl, join(folder, "build"), overlay, components);
      overlays.push({ name, objects: objects.length });
      for (const object of objects) distinct.set(JSON.stringify(object), object);
    }
    const objects = [...distinct.values()];
    const findings = [
      ...(await refusedBy(kubectl, objects)),
      ...(await invalidFor(program, join(folder, "schemas"), await documentsOf(kubectl, objects), objects)),
    ];
    return { overlays, checked: objects.length, findings };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The output of a call. @throws Error with stderr when it fails */
async function output(kubectl: Kubectl, args: readonly string[], input?: string): Promise<string> {
  const { stdout, stderr, exitCode } = await kubectl(args, input === undefined ? {} : { input });
  if (exitCode !== 0)
    throw new Error(`kubectl ${args.slice(0, 3).join(" ")} failed (exit ${exitCode}): ${stderr.trim()}`);
  return stdout;
}

async function built(
  kubectl: Kubectl,
  folder: string,
  overlay: string,
  components: readonly string[],
): Promise<KubernetesObject[]> {
  await mkdir(folder, { recursive: true });
  const path = (name: string) => relative(folder, join(K8S, name));
  const kustomization = { resources: [path(overlay)], components: components.map(path) };
  await writeFile(join(folder, "kustomization.yaml"), JSON.stringify(kustomization));
  const text = await output(kubectl, ["kustomize", folder]);
  return [...parseAllDocuments(text, { version: "1.1" })].map((document) => document.toJS() as KubernetesObject);
}

// ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────

const listOf = (items: readonly KubernetesObject[]) => JSON.stringify({ apiVersion: "v1", kind: "List", items });

/** What a strict server-side dry run objects to, warnings too. */
async function refusedBy(kubectl: Kubectl, objects: readonly KubernetesObject[]): Promise<string[]> {
  const suffix = randomBytes(3).toString("hex");
  // Objects of a deployed pipeline have fields that cannot change; in new namespaces every object is new.
  const renamed = (name: string) => `${name}-conformance-${suffix}`;
  const names = new Map(
    objects.filter(({ kind }) => kind === "Namespace").map(({ metadata }) => [metadata.name, renamed(metadata.name)]),
  );
  const namespaces = objects
    .filter(
      ({ kind }, index) =>
        kind === "Namespace" &&
        objects.findIndex((one) => one.metadata.name === objects[index]!.metadata.name) === index,
    )
    .map((object) => ({
      ...object,
      metadata: { name: renamed(object.metadata.name), labels: object.metadata.labels ?? {} },
    }));
  const moved = objects.map(({ metadata, ...rest }) => ({
    ...rest,
    metadata: {
      ...metadata,
      ...(metadata.namespace ? { namespace: names.get(metadata.namespace) ?? metadata.namespace } : {}),
    },
  })) as KubernetesObject[];
  try {
    await output(kubectl, ["create", "-f", "-"], listOf(namespaces));
    const args = ["apply", "--server-side", "--field-manager=conveyor-conformance", "--force-conflicts"];
    const { exitCode, stdout, stderr } = await kubectl(
      [...args, "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-"],
      { input: listOf(moved), timeoutMs: DRY_RUN_LIMIT_MS },
    );
    const accepted = stdout.split("\n").filter(Boolean).length;
    const lines = stderr.split("\n").filter(Boolean);
    const silent = lines.length === 0 && (exitCode !== 0 || accepted !== moved.length);
    return silent ? [`the server accepted ${accepted} of ${moved.length} objects (exit ${exitCode})`] : lines;
  } finally {
    await kubectl(["delete", "namespace", ...names.values(), "--ignore-not-found", "--wait=false"]);
  }
}

// ── kubeconform ──────────────────────────────────────────────────────────────────────────────────────────────────

/** A document of `/openapi/v3`: the schemas of one group and version. */
export interface OpenApi {
  components: { schemas: Record<string, Record<string, unknown>> };
}

/** The server's documents of the versions that the objects use. */
async function documentsOf(kubectl: Kubectl, objects: readonly KubernetesObject[]): Promise<OpenApi[]> {
  const versions = [...new Set(objects.map(({ apiVersion }) => apiVersion))];
  const paths = versions.map((version) => `/openapi/v3/${version.includes("/") ? "apis" : "api"}/${version}`);
  return await Promise.all(
    paths.map(async (path) => JSON.parse(await output(kubectl, ["get", "--raw", path])) as OpenApi),
  );
}

/**
 * JSON schemas of kubeconform by file name, GROUP-VERSION-KIND.json; the core group is called by its version. An object with
 * named fields has no others.
 */
export function schemasOf(documents: readonly OpenApi[]): Record<string, string> {
  const files: Record<string, string> = {};
  for (const { components } of documents) {
    const strict = closed(components) as OpenApi["components"];
    for (const [name, schema] of Object.entries(strict.schemas)) {
      const kinds = schema["x-kubernetes-group-version-kind"] as
        | { group: string; version: string; kind: string }[]
        | undefined;
      for (const { group, version, kind } of kinds ?? []) {
        const file = `${group || version}-${version}-${kind.toLowerCase()}.json`;
        files[file] = JSON.stringify({ $ref: `#/components/schemas/${name}`, components: strict });
      }
    }
  }
  return files;
}

/** The schema without room for other fields, in each of its parts. */
function closed(part: unknown, isNames = false): unknown {
  if (Array.isArray(part)) return part.map((one) => closed(one));
  if (part === null || typeof part !== "object") return part;
  const entries = Object.entries(part).map(([key, value]) => [
    key,
    // The keys below are names of fields and of schemas.
    closed(value, !isNames && (key === "properties" || key === "schemas")),
  ]);
  const copy = Object.fromEntries(entries) as Record<string, unknown>;
  const isOpen = "additionalProperties" in copy || copy["x-kubernetes-preserve-unknown-fields"] === true;
  return !isNames && copy.properties && !isOpen ? { ...copy, additionalProperties: false } : copy;
}

/** What kubeconform objects to. */
async function invalidFor(
  program: string,
  folder: string,
  documents: readonly OpenApi[],
  objects: readonly KubernetesObject[],
): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  for (const [name, text] of Object.entries(schemasOf(documents))) await writeFile(join(folder, name), text);
  const input = join(folder, "objects.yaml");
  await writeFile(input, objects.map((object) => JSON.stringify(object)).join("\n---\n"));
  const location = join(folder, "{{.Group}}-{{.ResourceAPIVersion}}-{{.ResourceKind}}.json");
  const { exitCode, stdout, stderr } = await capture(
    [program, "-strict", "-schema-location", location, "-output", "json", "-summary", input],
    { timeoutMs: KUBECONFORM_LIMIT_MS, what: "kubeconform" },
  );
  const result = parseResult(stdout) ?? { resources: [], summary: { valid: 0, invalid: 0, errors: 0, skipped: 0 } };
  const found = result.resources.map(({ kind, name, msg }) => `kubeconform: ${kind}/${name}: ${msg}`);
  const isComplete = exitCode === 0 && result.summary.valid === objects.length;
  if (found.length > 0 || isComplete) return found;
  return [`kubeconform: ${result.summary.valid} of ${objects.length} valid (exit ${exitCode}) ${stderr.trim()}`];
}

interface KubeconformResult {
  resources: { kind: string; name: string; msg: string }[];
  summary: { valid: number; invalid: number; errors: number; skipped: number };
}

function parseResult(text: string): KubeconformResult | undefined {
  try {
    return JSON.parse(text) as KubeconformResult;
  } catch {
    return undefined;
  }
}
