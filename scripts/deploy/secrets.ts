/**
 * Contents of the Secrets of k8s/. A manifest holds no value; an annotation names the source of each key:
 *
 *   conveyor.dev/fill-from: "KEY=FILE,…"            a file of certs/, read at each deploy, so that renewals are applied
 *   conveyor.dev/generate:  "KEY=GENERATOR,…"       generated once; afterwards the value in the cluster is kept
 *   conveyor.dev/filled-by: "WHO"                   a program in the cluster; deploy only creates the empty Secret
 *
 * A ConfigMap with fill-from is filled too: a CA's certificate is public.
 *
 * Generators: `random-hex-32` (32 random bytes), `kafka-cluster-id`, `literal:TEXT`. This module reads neither files nor
 * the cluster; its caller passes functions that do.
 */
import { randomBytes } from "node:crypto";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { KubernetesObject } from "../cluster/cluster.ts";

export const FILL_FROM = "conveyor.dev/fill-from";
const GENERATE = "conveyor.dev/generate";
export const FILLED_BY = "conveyor.dev/filled-by";
/** A Secret with the values of an external server (external.ts): nothing is filled. */
export const WITH_VALUES = "conveyor.dev/with-values";

export interface SecretSources {
  /** Content of a file in the folder of certificates; undefined when it does not exist. */
  file(name: string): Promise<string | undefined>;
  /** Decoded entries of a Secret in the cluster; empty or undefined when it does not exist. */
  live(secret: string): Promise<Record<string, string> | undefined>;
  /** Default: random bytes of the system. */
  random?(bytes: number): Buffer;
}

type SecretObject = KubernetesObject & { data?: Record<string, string> };

/** True for objects that fillSecrets fills: every Secret, and a ConfigMap with the annotation. */
const isFilled = ({ kind, metadata }: KubernetesObject) =>
  (kind === "Secret" && metadata.annotations?.[WITH_VALUES] === undefined) ||
  (kind === "ConfigMap" && metadata.annotations?.[FILL_FROM] !== undefined);

/** One entry of an annotation: `KEY=SOURCE`. */
export interface SecretEntry {
  key: string;
  source: string;
}

/** The sources that the annotations of a Secret or ConfigMap name. @throws Error unless exactly one annotation is set. */
export function recipeOf(secret: KubernetesObject): {
  how: "fill-from" | "generate" | "filled-by" | "with-values";
  entries: SecretEntry[];
} {
  const annotations = secret.metadata.annotations ?? {};
  const present = [FILL_FROM, GENERATE, FILLED_BY, WITH_VALUES].filter((name) => annotations[name] !== undefined);
  const where = `${secret.kind}/${secret.metadata.name}`;
  if (present.length !== 1) {
    throw new Error(
      `${where}: must have one of ${FILL_FROM}, ${GENERATE}, ${FILLED_BY}; has ${present.join(", ") || "none"}`,
    );
  }
  const [name] = present as [string];
  if (name === FILLED_BY) return { how: "filled-by", entries: [] };
  if (name === WITH_VALUES) return { how: "with-values", entries: [] };
  const entries = annotations[name]!.split(",").map((entry) => {
    const match = /^\s*([-._a-zA-Z0-9]+)=(.+?)\s*$/.exec(entry);
    if (!match) throw new Error(`${where}: ${name} must be KEY=SOURCE, separated by commas; got "${entry}"`);
    return { key: match[1]!, source: match[2]! };
  });
  return { how: name === FILL_FROM ? "fill-from" : "generate", entries };
}

/**
 * The objects with Secrets and annotated ConfigMaps filled. A generated key keeps its value in the cluster, so that a
 * second deploy changes nothing.
 * @throws OperatorError (exit 3) that names every missing file
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
      // Without `data`, so that a server-side apply does not touch the entries of another field manager.
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
    // A ConfigMap's manifest may have its own entries; a Secret's has none.
    filled.push({ ...object, data: { ...(object.data as Record<string, string> | undefined), ...data } });
  }
  if (missing.length > 0) {
    throw new OperatorError(`certificates are missing: ${missing.join(", ")}`, {
      exitCode: EXIT.precondition,
      // With the CA's key, the deploy would have issued them.
      hint: "put ca.key beside ca.crt for this run; if it is lost: bun scripts/generate-certs.ts --new-ca && bun scripts/deploy.ts --new-ca",
    });
  }
  return filled;
}

/** Decoded entries of Secrets by the name of the Secret. */
export type SecretContents = Record<string, Record<string, string>>;

/** Decoded entries of the Secrets with data among the objects. */
export function contentsOf(objects: readonly KubernetesObject[]): SecretContents {
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

/** A new value. @throws Error for an unknown generator */
export function generate(generator: string, random: (bytes: number) => Buffer = randomBytes): string {
  if (generator.startsWith("literal:")) return generator.slice("literal:".length);
  switch (generator) {
    case "random-hex-32":
      return random(32).toString("hex");
    case "kafka-cluster-id": {
      // Kafka's format: 16 bytes in URL-safe base64, without a leading dash, which a command line takes for a flag.
      const id = random(16).toString("base64url");
      return id.startsWith("-") ? `A${id.slice(1)}` : id;
    }
    default:
      throw new Error(`generator must be random-hex-32, kafka-cluster-id or literal:TEXT; got "${generator}"`);
  }
}
