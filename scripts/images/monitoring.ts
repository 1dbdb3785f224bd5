/**
 * Monitoring programs: Prometheus with promtool and Alertmanager from Debian, kube-state-metrics from its Go module, the agent
 * that exports a broker's metrics from Maven.
 */
import { copyFile, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OperatorError } from "../cli/errors.ts";
import { capture, must, runLogged } from "../cli/process.ts";
import type { Tool } from "../cli/tools.ts";
import {
  type BuildContext,
  DEBIAN_TOOLS,
  GO_TOOL,
  type GoBuild,
  goBuild,
  goRecipe,
  type Part,
  unpackDebian,
} from "../local-cluster/index.ts";
import { DEPENDENCY_PLUGIN } from "./kafka.ts";
import { fromPart, SUITE } from "./layers.ts";

/** Debian package → programs kept as out/NAME. */
const DEBIAN_PROGRAMS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  prometheus: { prometheus: "prometheus" },
  promtool: { promtool: "promtool" },
  "prometheus-alertmanager": { "prometheus-alertmanager": "alertmanager", amtool: "amtool" },
};
/** Debian's Alertmanager reads its templates from files; the upstream release has them built in. */
const TEMPLATE_FOLDER = "usr/share/prometheus/alertmanager";
const TEMPLATES = ["default.tmpl", "email.tmpl"];
/** Release for which the configuration and the rules are written; sid changes, and a new major may interpret them differently. */
const PROMETHEUS_MAJOR = "3";

/** Prometheus, promtool, Alertmanager and amtool; tests use the tools, images the servers. */
export const MONITORING: Part = {
  name: "monitoring",
  // sid has one version at a time; versions.json records it.
  version: "sid",
  recipe: JSON.stringify([DEBIAN_PROGRAMS, TEMPLATE_FOLDER, TEMPLATES, PROMETHEUS_MAJOR]),
  requires: DEBIAN_TOOLS,
  async build(out, context) {
    const unpacked = join(context.work, "unpacked");
    await rm(unpacked, { recursive: true, force: true });
    await mkdir(unpacked, { recursive: true });
    const versions = await unpackDebian("sid", Object.keys(DEBIAN_PROGRAMS), unpacked, context);
    for (const programs of Object.values(DEBIAN_PROGRAMS)) {
      for (const [from, to] of Object.entries(programs)) await copyFile(join(unpacked, "usr/bin", from), join(out, to));
    }
    for (const name of TEMPLATES) await copyFile(join(unpacked, TEMPLATE_FOLDER, name), join(out, name));
    await writeFile(join(out, "versions.json"), `${JSON.stringify(versions, null, 2)}\n`);
    const { stdout, stderr } = await capture([join(out, "prometheus"), "--version"]);
    if (!new RegExp(`version ${PROMETHEUS_MAJOR}\\.`).test(stdout)) {
      throw new OperatorError(
        `Debian's Prometheus must be of release ${PROMETHEUS_MAJOR}.x; it says: ${(stdout || stderr).trim().slice(0, 200)}`,
      );
    }
    await must([join(out, "alertmanager"), "--version"]);
  },
};

/** Alertmanager's templates, at the path of Debian's program. */
export const ALERTMANAGER_TEMPLATES = fromPart(MONITORING, (folder) => [
  {
    kind: "files",
    files: TEMPLATES.map((name) => ({ path: `${TEMPLATE_FOLDER}/${name}`, from: join(folder, name), mode: 0o644 })),
  },
]);

const stateMetricsBuild = {
  module: join(import.meta.dir, "kube-state-metrics"),
  packages: ["k8s.io/kube-state-metrics/v2"],
  cgo: false,
  variables: { "github.com/prometheus/common/version.Version": "v2.19.1" },
} satisfies Omit<GoBuild, "out">;

/**
 * State of the cluster's objects as metrics. It is a separate Go module: it does not compile with the client of the local
 * cluster's Kubernetes release.
 */
export const STATE_METRICS: Part = {
  name: "kube-state-metrics",
  version: "2.19.1",
  recipe: goRecipe(stateMetricsBuild),
  requires: [GO_TOOL],
  async build(out, context) {
    await goBuild({ ...stateMetricsBuild, out: join(out, "kube-state-metrics") }, context);
    await must([join(out, "kube-state-metrics"), "version"]);
  },
};

const AGENT_VERSION = "1.0.1";
/** Path of the jar in a Maven repository, and its SHA-256, computed from the file whose SHA-1 Maven Central publishes. */
export const AGENT_PATH = `io/prometheus/jmx/jmx_prometheus_javaagent/${AGENT_VERSION}/jmx_prometheus_javaagent-${AGENT_VERSION}.jar`;
export const AGENT_SHA256 = "7d61f737fd661610ccc14aea79764faa1ea94a340cbc8f0029b3d2edea3d80c1";
export const MAVEN: Tool = { command: "mvn", why: "fetches the agent for Kafka's metrics", aptPackage: "maven" };
const AGENT_ARTIFACT = `io.prometheus.jmx:jmx_prometheus_javaagent:${AGENT_VERSION}`;
/** From the suite of the images' base layer, whose libraries it uses. */
const AGENT_PACKAGES = ["openssl"];

/** Copies the jar into a folder, with Maven: `copy` needs no project, and the jar contains its dependencies. */
export async function copyAgent(folder: string, context: BuildContext): Promise<void> {
  const copy = ["mvn", "--batch-mode", `${DEPENDENCY_PLUGIN}:copy`, `-Dartifact=${AGENT_ARTIFACT}`];
  await runLogged([...copy, "-Dmdep.stripVersion=true", `-DoutputDirectory=${folder}`], context);
}

/** The agent for Kafka's brokers, and openssl to pack their keys for it. */
export const METRICS_AGENT: Part = {
  name: "kafka-metrics-agent",
  version: AGENT_VERSION,
  recipe: JSON.stringify([AGENT_ARTIFACT, AGENT_PACKAGES, DEPENDENCY_PLUGIN]),
  requires: [MAVEN, ...DEBIAN_TOOLS],
  async build(out, context) {
    const unpacked = join(context.work, "unpacked");
    await rm(unpacked, { recursive: true, force: true });
    await mkdir(unpacked, { recursive: true });
    await unpackDebian(SUITE, AGENT_PACKAGES, unpacked, context);
    await copyFile(join(unpacked, "usr/bin/openssl"), join(out, "openssl"));
    await copyAgent(out, context);
  },
};
