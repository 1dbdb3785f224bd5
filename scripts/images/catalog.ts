/**
 * Images that are assembled from packages where no registry can be reached: reference → layers and configuration.
 * The references are those of the manifests, so that the manifests are the same on every cluster.
 */
import { readdir, readFile, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Report } from "../cli/report.ts";
import type { Tool } from "../cli/tools.ts";
import {
  ensurePart,
  type ImageConfig,
  isBuilt,
  PARTS,
  type Part,
  partDir,
  writeImageArchive,
} from "../local-cluster/index.ts";
import { bunPart } from "./bun.ts";
import { KAFKA_LAYERS, KAFKA_VERSION } from "./kafka.ts";
import { BASE, type LayerSource, program } from "./layers.ts";
import { ALERTMANAGER_TEMPLATES, METRICS_AGENT, MONITORING, STATE_METRICS } from "./monitoring.ts";
import { VICTORIA_LOGS, VICTORIA_LOGS_VERSION } from "./victorialogs.ts";

/** An image's archive in the cache. */
export interface Archive {
  path: string;
  /** Digest of the image's configuration, "sha256:…". */
  id: string;
}

export interface ImageRecipe {
  ref: string;
  /** Programs that assembling needs. */
  tools: readonly Tool[];
  /** Changes with everything that may change the image; known before the build. */
  key(): string;
  /** The archive, if it is in the cache. */
  built(): Promise<Archive | undefined>;
  /** Creates what is missing: the layers, then the archive. @throws OperatorError with the reason. */
  assemble(report: Report, signal?: AbortSignal): Promise<Archive>;
}

const PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const ARCHIVE = "image.tar";
const IDENTITY = "image.json";

/** The archive in the folder of an image's part. */
export async function readArchive(folder: string): Promise<Archive> {
  const { id } = JSON.parse(await readFile(join(folder, IDENTITY), "utf8")) as { id: string };
  return { path: join(folder, ARCHIVE), id };
}

/** Writes an image's part: the archive and its identity. */
export async function writeIdentity(folder: string, ref: string, id: string): Promise<void> {
  await Bun.write(join(folder, IDENTITY), `${JSON.stringify({ ref, id })}\n`);
}

/** Earlier builds kept in the cache: switching between two states of the code needs no build. */
const KEPT_BUILDS = 2;

/** Removes an image's archives of earlier inputs, except the latest few: each has some hundred megabytes. */
export async function forgetOlder(name: string, current: string): Promise<void> {
  const parts = dirname(current);
  const pattern = new RegExp(`^${name}-v?\\d[\\w.+-]*-[0-9a-f]{12}$`);
  const others = (await readdir(parts)).filter((entry) => pattern.test(entry) && entry !== basename(current));
  const dated = await Promise.all(
    others.map(async (entry) => ({
      entry,
      builtMs: (await stat(join(parts, entry)).catch(() => undefined))?.mtimeMs ?? 0,
    })),
  );
  for (const { entry } of dated.sort((a, b) => b.builtMs - a.builtMs).slice(KEPT_BUILDS)) {
    await rm(join(parts, entry), { recursive: true, force: true });
  }
}

/** A recipe from layers, bottom first, and a configuration. */
export function assembled(ref: string, sources: readonly LayerSource[], config: ImageConfig): ImageRecipe {
  const name = `image-${ref.replace(/^.*\//, "").replace(/:.*$/, "")}`;
  const version = ref.slice(ref.lastIndexOf(":") + 1);
  // The key of a layer may change while layers are created (when one failed), so the part is computed at each use.
  const part = (): Part => ({
    name,
    version,
    recipe: JSON.stringify([ref, config, sources.map((source) => source.key())]),
    requires: [],
    async build(out, { signal }) {
      const layers = sources.flatMap((source) => source.layers());
      const { id } = await writeImageArchive(join(out, ARCHIVE), { ref, layers, config }, { signal });
      await writeIdentity(out, ref, id);
    },
  });
  return {
    ref,
    tools: sources.flatMap((source) => source.tools),
    key: () => partDir(part()),
    built: async () => ((await isBuilt(part())) ? await readArchive(partDir(part())) : undefined),
    async assemble(report, signal) {
      if (!(await isBuilt(part()))) for (const source of sources) await source.ensure(report, signal);
      const folder = await ensurePart(part(), report, signal);
      await forgetOlder(name, folder);
      return await readArchive(folder);
    },
  };
}

/** The base image of services/Dockerfile. */
export const BUN_IMAGE = "docker.io/oven/bun:1.4.5-slim";

export const METRICS_AGENT_IMAGE = "conveyor.invalid/kafka-metrics-agent:1.0.1";

/** One entry per image. */
export const CATALOG: readonly ImageRecipe[] = [
  assembled(`docker.io/apache/kafka:${KAFKA_VERSION}`, KAFKA_LAYERS, {
    Env: [PATH, "KAFKA_HOME=/opt/kafka", "LANG=C.UTF-8"],
    Cmd: ["bash"],
    User: "10001:10001",
    WorkingDir: "/opt/kafka",
  }),
  assembled("docker.io/library/influxdb:2.9.1", [BASE, program(PARTS.influxd!, "influxd", "usr/local/bin/influxd")], {
    Env: [PATH],
    Cmd: ["influxd"],
    User: "10001:10001",
  }),
  assembled(
    METRICS_AGENT_IMAGE,
    [
      BASE,
      program(METRICS_AGENT, "openssl", "usr/bin/openssl"),
      program(METRICS_AGENT, "jmx_prometheus_javaagent.jar", "opt/kafka-metrics-agent/jmx_prometheus_javaagent.jar"),
    ],
    { Env: [PATH], Cmd: ["bash"], User: "10001:10001" },
  ),
  assembled("docker.io/prom/prometheus:v3.5.3", [BASE, program(MONITORING, "prometheus", "usr/bin/prometheus")], {
    Env: [PATH],
    Entrypoint: ["/bin/prometheus"],
    User: "10001:10001",
  }),
  assembled(
    "docker.io/prom/alertmanager:v0.33.1",
    [
      BASE,
      program(MONITORING, "alertmanager", "usr/bin/alertmanager"),
      program(MONITORING, "amtool", "usr/bin/amtool"),
      ALERTMANAGER_TEMPLATES,
    ],
    { Env: [PATH], Entrypoint: ["/bin/alertmanager"], User: "10001:10001" },
  ),
  assembled(
    "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.19.1",
    [program(STATE_METRICS, "kube-state-metrics", "kube-state-metrics")],
    { Env: [PATH], Entrypoint: ["/kube-state-metrics"], User: "10001:10001" },
  ),
  // The names of the programs are those of the official images, whose entry points the manifests use.
  ...["victoria-logs", "vlagent"].map((name) =>
    assembled(
      `docker.io/victoriametrics/${name}:v${VICTORIA_LOGS_VERSION}`,
      [BASE, program(VICTORIA_LOGS, name, `${name}-prod`)],
      { Env: [PATH], Entrypoint: [`/${name}-prod`], User: "10001:10001" },
    ),
  ),
  assembled(BUN_IMAGE, [BASE, program(bunPart, "bun", "usr/local/bin/bun")], {
    Env: [PATH],
    Cmd: ["bun"],
    WorkingDir: "/home/bun/app",
  }),
];

/** The recipe of a reference, if it is assembled from packages. */
export const recipeFor = (ref: string): ImageRecipe | undefined => CATALOG.find((recipe) => recipe.ref === ref);

/**
 * Images that cannot be assembled because no package registry has the program (prefixes of references). The list is
 * explicit so that each addition is a decision; on the local cluster they come only from archives.
 */
export const ARCHIVE_ONLY: readonly string[] = [
  "docker.io/grafana/grafana:",
  "docker.io/grafana/loki:",
  "docker.io/grafana/promtail:",
];
