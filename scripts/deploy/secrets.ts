/**
 * How the Secrets of k8s/ get their content. A manifest holds none; its annotation says where each key comes from:
 *
 *   conveyor.dev/fill-from: "KEY=FILE,…"            a file of certs/; anew at each deploy, so that renewals arrive
 *   conveyor.dev/generate:  "KEY=GENERATOR,…"       made once, then kept as it stands in the cluster
 *   conveyor.dev/filled-by: "WHO"                   by somebody in the cluster; deploy only makes the empty Secret
 *
 * A ConfigMap with the first of them is filled too: a CA's certificate is no secret.
 *
 * Generators: `random-hex-32` (32 random bytes), `kafka-cluster-id`, `literal:TEXT`. This module reads neither files
 * nor the cluster: both are handed in.
 */
import { randomBytes } from "node:crypto";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { KubernetesObject } from "../cluster/cluster.ts";

export const FILL_FROM = "conveyor.dev/fill-from";
export const GENERATE = "conveyor.dev/generate";
export const FILLED_BY = "conveyor.dev/filled-by";

export interface SecretSources {
  /** Content of a file of the certificates' folder; undefined when it is not there. */
  file(name: string): Promise<string | undefined>;
  /** Decoded entries of a Secret that stands in the cluster; empty or undefined when it is not there. */
  live(secret: string): Promise<Record<string, string> | undefined>;
  /** For tests; random bytes of the system otherwise. */
  random?(bytes: number): Buffer;
}

type SecretObject = KubernetesObject & { data?: Record<string, string> };

/** True for what fillSecrets fills: every Secret, and a ConfigMap that says so. */
const isFilled = ({ kind, metadata }: KubernetesObject) =>
  kind === "Secret" || (kind === "ConfigMap" && metadata.annotations?.[FILL_FROM] !== undefined);

/** One entry of an annotation: `KEY=SOURCE`. */
export interface SecretEntry {
  key: string;
  source: string;
}

/** What the annotations of a Secret, or of a ConfigMap that is filled, say. @throws Error for one that says nothing, or several things at once. */
export function recipeOf(secret: KubernetesObject): {
  how: "fill-from" | "generate" | "filled-by";
  entries: SecretEntry[];
} {
  const annotations = secret.metadata.annotations ?? {};
  const said = [FILL_FROM, GENERATE, FILLED_BY].filter((name) => annotations[name] !== undefined);
  const where = `${secret.kind}/${secret.metadata.name}`;
  if (said.length !== 1) {
    throw new Error(
      `${where}: must have one of ${FILL_FROM}, ${GENERATE}, ${FILLED_BY}; has ${said.join(", ") || "none"}`,
    );
  }
  const [name] = said as [string];
  if (name === FILLED_BY) return { how: "filled-by", entries: [] };
  const entries = annotations[name]!.split(",").map((entry) => {
    const match = /^\s*([-._a-zA-Z0-9]+)=(.+?)\s*$/.exec(entry);
    if (!match) throw new Error(`${where}: ${name} must be KEY=SOURCE, separated by commas; got "${entry}"`);
    return { key: match[1]!, source: match[2]! };
  });
  return { how: name === FILL_FROM ? "fill-from" : "generate", entries };
}

/**
 * Copies of the objects, with the Secrets, and the ConfigMaps that ask for it, filled; everything else as it is.
 * A key that was generated before keeps its value, so that filling twice gives the same.
 * @throws OperatorError (exit 3) that names every missing file at once.
 */
export async function fillSecrets(
  objects: readonly KubernetesObject[],
  sources: SecretSources,
): Promise<KubernetesObject[]> {
  const missing: string[] = [];
  const filled: KubernetesObject[] = [];
  for (const object of objects) {
    if (!isFilled(object)) {
      filled.push(object);
      continue;
    }
    const { how, entries } = recipeOf(object);
    if (how === "filled-by") {
      // Without `data`: a server-side apply then leaves alone what somebody else owns in it.
      filled.push(object);
      continue;
    }
    const live = how === "generate" ? ((await sources.live(object.metadata.name)) ?? {}) : {};
    const data: Record<string, string> = {};
    for (const { key, source } of entries) {
      const value = how === "generate" ? live[key] || generate(source, sources.random) : await sources.file(source);
      if (value === undefined) missing.push(`${source} (for ${object.metadata.name})`);
      else data[key] = object.kind === "Secret" ? Buffer.from(value, "utf8").toString("base64") : value;
    }
    // What a ConfigMap's manifest says itself stays; no manifest of a Secret holds a value.
    filled.push({ ...object, data: { ...(object.data as Record<string, string> | undefined), ...data } });
  }
  if (missing.length > 0) {
    throw new OperatorError(`certificates are missing: ${missing.join(", ")}`, {
      exitCode: EXIT.precondition,
      hint: "bun scripts/generate-certs.ts",
    });
  }
  return filled;
}

/** Decoded content of the filled Secrets among the objects, by name: what withHashes wants. */
export function contentsOf(objects: readonly KubernetesObject[]): Record<string, Record<string, string>> {
  const secrets = objects.filter(
    (object): object is SecretObject => object.kind === "Secret" && object.data !== undefined,
  );
  return Object.fromEntries(
    secrets.map(({ metadata, data }) => [
      metadata.name,
      Object.fromEntries(
        Object.entries(data ?? {}).map(([key, value]) => [key, Buffer.from(value, "base64").toString("utf8")]),
      ),
    ]),
  );
}

/** A new value. @throws Error for a generator that is not known. */
export function generate(generator: string, random: (bytes: number) => Buffer = randomBytes): string {
  if (generator.startsWith("literal:")) return generator.slice("literal:".length);
  switch (generator) {
    case "random-hex-32":
      return random(32).toString("hex");
    case "kafka-cluster-id": {
      // As Kafka writes its ids: 16 bytes in URL-safe base64. It makes none that a command line takes for a flag.
      const id = random(16).toString("base64url");
      return id.startsWith("-") ? `A${id.slice(1)}` : id;
    }
    default:
      throw new Error(`generator must be random-hex-32, kafka-cluster-id or literal:TEXT; got "${generator}"`);
  }
}
