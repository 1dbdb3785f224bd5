/** Targets of images: the local cluster, kind's nodes, a registry, a folder. */

import { copyFile, mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { createAtomic, writeAtomic } from "../cli/files.ts";
import { cacheFolder } from "../cli/paths.ts";
import { capture, must } from "../cli/process.ts";
import type { Report } from "../cli/report.ts";
import { missingTools, type Tool, toolsError } from "../cli/tools.ts";
import { imageDigest, importImage } from "../local-cluster/index.ts";
import { type FoundImage, withNamedArchive } from "./archive-folder.ts";
import { type Builder, type BuilderName, chooseBuilder, type Run } from "./builders.ts";

export type ImageTarget =
  | { kind: "local" }
  | { kind: "kind"; name: string }
  | { kind: "registry"; prefix: string }
  | { kind: "export"; dir: string }
  /** The services' image is built into the cache; nothing is delivered. */
  | { kind: "cache" }
  /** A cluster whose nodes pull all images. */
  | { kind: "none" };

/** An image's archive, for one platform. */
export interface Variant {
  path: string;
  id: string;
  /** "linux/arm64", where the image was built for the nodes' platforms. */
  platform?: string;
}

/** An image to deliver; path and id are those of the first variant. */
interface Deliverable extends FoundImage {
  /** Changes with the inputs of the image. */
  key: string;
  /** More than one only for a registry. */
  variants: readonly Variant[];
}

interface Delivery {
  digest: string;
  /** With its digest: a node that has an earlier image of the same tag must not run that one. */
  pushedRef?: string;
}

export interface Target {
  title: string;
  /** The delivery, when the target has exactly this image, made from `key`. */
  has(ref: string, key: string): Promise<Delivery | undefined>;
  /** The image of an earlier delivery under this name, from any inputs, if the target still has it. */
  holds?(ref: string): Promise<Delivery | undefined>;
  /** The expected result of a delivery, as far as it is known before. */
  expect?(ref: string, key: string): Promise<Partial<Delivery>>;
  deliver(image: Deliverable, report: Report, signal?: AbortSignal): Promise<Delivery>;
}

/** An import reads and unpacks some 400 MB; a push goes over a network. */
const DELIVERY_LIMIT_MS = 10 * 60_000;

/** The last delivery of each reference: its inputs, and its digest in the cluster. */
type Ledger = Record<string, { key: string; id: string; digest: string }>;

const ledgerPath = () => join(cacheFolder(), "images", "delivered.json");

async function readLedger(): Promise<Ledger> {
  try {
    return JSON.parse(await readFile(ledgerPath(), "utf8")) as Ledger;
  } catch {
    // Missing or truncated: images are imported again, which takes seconds.
    return {};
  }
}

/** Stores a delivery under its reference. */
async function remember(name: string, { key, id }: Deliverable, digest: string): Promise<void> {
  const ledger: Ledger = { ...(await readLedger()), [name]: { key, id, digest } };
  await writeAtomic(ledgerPath(), `${JSON.stringify(ledger, null, 2)}\n`);
}

function localTarget(): Target {
  const holds = async (ref: string, key?: string): Promise<Delivery | undefined> => {
    const known = (await readLedger())[ref];
    if (!known || (key !== undefined && known.key !== key)) return undefined;
    return (await imageDigest(ref)) === known.digest ? { digest: known.id } : undefined;
  };
  return {
    title: "local cluster",
    has: holds,
    holds: (ref) => holds(ref),
    async deliver(image, report, signal) {
      const digest = await report.step(`import ${image.ref}`, async () => {
        await withNamedArchive(image, (path) => importImage(path, signal));
        return await imageDigest(image.ref);
      });
      if (!digest) {
        throw new OperatorError(`${image.path} was imported, but the cluster has no ${image.ref} now`, {
          hint: `save it again under that name: docker save ${image.ref} -o FILE.tar`,
        });
      }
      await remember(image.ref, image, digest);
      return { digest: image.id };
    },
  };
}

export const KIND_TOOL: Tool = {
  command: "kind",
  why: "loads images into its nodes",
  source: "https://kind.sigs.k8s.io",
  brewPackage: "kind",
};

/** kind's nodes are containers of an engine. */
export const kindEngine = () => process.env.KIND_EXPERIMENTAL_PROVIDER || "docker";

async function kindTarget(name: string): Promise<Target> {
  const missing = await missingTools([KIND_TOOL]);
  if (missing.length > 0) throw toolsError(`images cannot be loaded into the kind cluster ${name}`, missing);
  const listed = await capture(["kind", "get", "nodes", "--name", name]);
  const nodes = listed.exitCode === 0 ? listed.stdout.split("\n").filter(Boolean) : [];
  if (nodes.length === 0) {
    const clusters = await capture(["kind", "get", "clusters"]);
    throw new OperatorError(`there is no kind cluster "${name}"`, {
      exitCode: EXIT.precondition,
      hint: `existing clusters: ${clusters.stdout.trim().split("\n").filter(Boolean).join(", ") || "none"}`,
    });
  }
  const idOn = async (node: string, ref: string): Promise<string | undefined> => {
    const inspect = await capture([kindEngine(), "exec", node, "crictl", "inspecti", "--output", "json", ref]);
    if (inspect.exitCode !== 0) return undefined;
    return (JSON.parse(inspect.stdout) as { status?: { id?: string } }).status?.id;
  };
  return {
    title: `kind cluster ${name}`,
    async has(ref, key) {
      // The key of an image in the cache follows from its ID, which each node reports.
      const known = (await readLedger())[`kind/${name}/${ref}`];
      if (known?.key !== key) return undefined;
      for (const node of nodes) if ((await idOn(node, ref)) !== known.digest) return undefined;
      return { digest: known.id };
    },
    async deliver(image, _report, signal) {
      await withNamedArchive(image, (path) =>
        must(["kind", "load", "image-archive", path, "--name", name], { signal, timeoutMs: DELIVERY_LIMIT_MS }),
      );
      const digest = await idOn(nodes[0]!, image.ref);
      if (!digest) throw new OperatorError(`kind loaded ${image.path}, but node ${nodes[0]} has no ${image.ref} now`);
      await remember(`kind/${name}/${image.ref}`, image, digest);
      return { digest: image.id };
    },
  };
}

/** Images of this project. The domain resolves nowhere (RFC 2606): a node that lost such an image cannot pull another one. */
export const OWN_PREFIX = "conveyor.invalid/";

/** Reference of an image in a registry: the prefix, then the reference without its registry; own ones in a folder. */
export function pushReference(prefix: string, ref: string): string {
  const folder = ref.startsWith(OWN_PREFIX) ? "conveyor/" : "";
  return `${prefix}/${folder}${ref.slice(ref.indexOf("/") + 1)}`;
}

/** @throws OperatorError (exit 2) unless the prefix is HOST[:PORT][/PATH]. */
export function checkPrefix(prefix: string, flag = "--registry"): string {
  const trimmed = prefix.replace(/\/+$/, "");
  const [host = "", ...path] = trimmed.split("/");
  const hostOk =
    /^(\[[0-9a-fA-F:]+\]|[a-zA-Z0-9.-]+)(:\d+)?$/.test(host) && (/[.:]/.test(host) || host === "localhost");
  if (!hostOk || !path.every((part) => /^[a-z0-9]+([._-]+[a-z0-9]+)*$/.test(part))) {
    throw new OperatorError(
      `${flag}: must be HOST[:PORT]/PATH, path in lower case, without scheme and tag; got "${prefix}"`,
      { exitCode: EXIT.usage },
    );
  }
  return trimmed;
}

/** Pushes a variant per platform under its own tag, and their list. @returns the list's digest */
async function pushAll(
  builder: Builder,
  variants: readonly Variant[],
  target: string,
  push: (variant: Variant, target: string) => Promise<string>,
  run: Run,
): Promise<string> {
  const repository = target.slice(0, target.lastIndexOf(":"));
  const images: string[] = [];
  for (const variant of variants) {
    const tagged = `${target}-${variant.platform!.replaceAll("/", "-")}`;
    images.push(`${repository}@${await push(variant, tagged)}`);
  }
  const digest = await builder.pushList(images, target, run);
  if (!digest) throw new Error(`${builder.name} did not report the digest of the pushed list`);
  return digest;
}

async function registryTarget(prefix: string, tool?: BuilderName): Promise<Target> {
  const checked = checkPrefix(prefix);
  const builder = await chooseBuilder(tool);
  return {
    title: `registry ${checked} (with ${builder.name})`,
    // Only the registry knows its content; pushing an unchanged image takes a second.
    has: async () => undefined,
    async expect(ref, key) {
      const pushedRef = pushReference(checked, ref);
      const known = (await readLedger())[pushedRef];
      return known?.key === key
        ? { pushedRef: `${pushedRef}@${known.digest}`, digest: known.digest }
        : { pushedRef, digest: undefined };
    },
    async deliver(image, report, signal) {
      const pushedRef = pushReference(checked, image.ref);
      const run = { log: join(cacheFolder(), "logs", "image-push.log"), signal, timeoutMs: DELIVERY_LIMIT_MS };
      await mkdir(dirname(run.log), { recursive: true });
      return await report.step(`push ${pushedRef}`, async () => {
        const push = async ({ path }: Variant, target: string): Promise<string> => {
          await builder.load(path, image.ref, run);
          const digest = await builder.push(image.ref, target, run);
          if (!digest) throw new Error(`${builder.name} did not report the digest of the pushed image`);
          return digest;
        };
        try {
          const [first, ...others] = image.variants;
          const digest =
            others.length === 0
              ? await push(first!, pushedRef)
              : await pushAll(builder, image.variants, pushedRef, push, run);
          await remember(pushedRef, image, digest);
          return { digest, pushedRef: `${pushedRef}@${digest}` };
        } catch (error) {
          if (signal?.aborted) throw error;
          throw new OperatorError(`${pushedRef} could not be pushed`, {
            cause: error,
            hint: `check that the registry is up and that you may write to it: ${builder.name} login ${checked.split("/")[0]}`,
          });
        }
      });
    },
  };
}

/** File name of an image's archive: "docker.io/apache/kafka:4.3.1" is apache-kafka-4.3.1.tar. */
export const archiveName = (ref: string): string =>
  `${ref.slice(ref.indexOf("/") + 1).replaceAll(/[^\w.-]+/g, "-")}.tar`;

function exportTarget(dir: string): Target {
  return {
    title: `folder ${dir}`,
    has: async () => undefined,
    async deliver(image) {
      const file = join(dir, archiveName(image.ref));
      if (file !== image.path) await createAtomic(file, (temporary) => copyFile(image.path, temporary));
      return { digest: image.id };
    },
  };
}

const noDelivery = (title: string): Target => ({
  title,
  has: async () => undefined,
  deliver: async (image) => ({ digest: image.id }),
});

/** The target, after checks of its tool, cluster or prefix. */
export async function openTarget(target: ImageTarget, tool?: BuilderName): Promise<Target> {
  switch (target.kind) {
    case "local":
      return localTarget();
    case "kind":
      return await kindTarget(target.name);
    case "registry":
      return await registryTarget(target.prefix, tool);
    case "export":
      return exportTarget(target.dir);
    case "cache":
      return noDelivery("the cache");
    case "none":
      return noDelivery("nowhere");
  }
}
