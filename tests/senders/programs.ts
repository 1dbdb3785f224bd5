/**
 * Programs of senders, for the tests with them: Telegraf from its Go module with a few plug-ins, Mosquitto from Debian, InfluxDB's
 * client for Python from PyPI. They are parts of the cache: built or fetched once per machine, nothing is installed.
 */
import { readFileSync } from "node:fs";
import { copyFile, cp, mkdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { must, runLogged } from "../../scripts/cli/process.ts";
import type { Report } from "../../scripts/cli/report.ts";
import { missingTools } from "../../scripts/cli/tools.ts";
import { SUITE } from "../../scripts/images/layers.ts";
import { checkLibraries, platform, prune } from "../../scripts/images/tree.ts";
import {
  DEBIAN_TOOLS,
  debianProblem,
  ensurePart,
  GO_TOOL,
  type GoBuild,
  goBuild,
  goRecipe,
  isBuilt,
  type Part,
  unpackDebian,
} from "../../scripts/local-cluster/index.ts";

/** Six small packages over a slow line. */
const PIP_LIMIT_MS = 120_000;

const TELEGRAF_VERSION = "1.37.2";
const TELEGRAF_MODULE = "github.com/influxdata/telegraf";

/** Telegraf's own tag for a build with chosen plug-ins, and the plug-ins of docs/senders.md and its tests. */
const TELEGRAF_TAGS = [
  "custom",
  ...["inputs.tail", "inputs.mqtt_consumer", "parsers.influx", "parsers.json_v2"],
  ...["outputs.influxdb_v2", "outputs.http", "serializers.influx", "serializers.json"],
];

const telegrafBuild = {
  module: join(import.meta.dir, "telegraf"),
  packages: [`${TELEGRAF_MODULE}/cmd/telegraf`],
  cgo: false,
  tags: TELEGRAF_TAGS,
  variables: { [`${TELEGRAF_MODULE}/internal.Version`]: TELEGRAF_VERSION },
} satisfies Omit<GoBuild, "out">;

const TELEGRAF: Part = {
  name: "telegraf",
  version: TELEGRAF_VERSION,
  recipe: goRecipe(telegrafBuild),
  requires: [GO_TOOL],
  async build(out, context) {
    await goBuild({ ...telegrafBuild, out: join(out, "telegraf") }, context);
    await must([join(out, "telegraf"), "--version"]);
  },
};

const MOSQUITTO_PACKAGES = ["mosquitto", "mosquitto-clients"];
/** Broker and publisher, and their folders. */
const MOSQUITTO_PROGRAMS = { mosquitto: "usr/sbin", mosquitto_pub: "usr/bin" } as const;

/** With the libraries and the loader of its Debian release: the machine may have another one. */
const MOSQUITTO: Part = {
  name: "mosquitto",
  version: SUITE,
  recipe: JSON.stringify([MOSQUITTO_PACKAGES, MOSQUITTO_PROGRAMS]),
  requires: DEBIAN_TOOLS,
  async build(out, context) {
    const unpacked = join(context.work, "unpacked");
    await rm(unpacked, { recursive: true, force: true });
    await mkdir(unpacked, { recursive: true });
    await unpackDebian(SUITE, MOSQUITTO_PACKAGES, unpacked, context, { dependencies: true });
    await prune(unpacked);
    const { triplet, loader } = platform();
    const libraries = join("usr/lib", triplet);
    await cp(join(unpacked, libraries), join(out, libraries), { recursive: true, verbatimSymlinks: true });
    await mkdir(dirname(join(out, loader)), { recursive: true });
    await copyFile(join(unpacked, libraries, basename(loader)), join(out, loader));
    for (const [name, folder] of Object.entries(MOSQUITTO_PROGRAMS)) {
      await mkdir(join(out, folder), { recursive: true });
      await copyFile(join(unpacked, folder, name), join(out, folder, name));
    }
    await checkLibraries(out, Object.values(MOSQUITTO_PROGRAMS), context.signal);
  },
};

/** Pure Python, so that one folder serves every platform; versions and hashes are in requirements.txt. */
const REQUIREMENTS = join(import.meta.dir, "python", "requirements.txt");
const PYTHON_CLIENT: Part = {
  name: "influxdb-client-python",
  version: "1.50.0",
  recipe: readFileSync(REQUIREMENTS, "utf8"),
  requires: [{ command: "python3", why: "runs InfluxDB's client for Python", aptPackage: "python3" }],
  async build(out, context) {
    const install = ["python3", "-m", "pip", "install", "--no-deps", "--require-hashes", "--only-binary=:all:"];
    await runLogged([...install, "--target", out, "--requirement", REQUIREMENTS], {
      log: context.log,
      signal: context.signal,
      timeoutMs: PIP_LIMIT_MS,
    });
  },
};

/** Why a program cannot be had on this machine; undefined when it is in the cache or can be built. */
async function missing(part: Part): Promise<string | undefined> {
  if (await isBuilt(part)) return undefined;
  const tools = await missingTools(part.requires);
  if (tools.length > 0) return `${part.name} needs ${tools.map(({ command }) => command).join(", ")}`;
  return part === MOSQUITTO ? await debianProblem() : undefined;
}

/** Why Telegraf and Mosquitto cannot run on this machine. */
export const senderProgramsMissing = async (): Promise<string | undefined> =>
  (await missing(TELEGRAF)) ?? (await missing(MOSQUITTO));

/** Path of Telegraf. A cold build takes minutes. */
export const telegraf = async (report: Report): Promise<string> => join(await ensurePart(TELEGRAF, report), "telegraf");

/** The start of a command with a program of Mosquitto. */
export async function mosquitto(name: keyof typeof MOSQUITTO_PROGRAMS, report: Report): Promise<string[]> {
  const folder = await ensurePart(MOSQUITTO, report);
  const { triplet, loader } = platform();
  const libraries = join(folder, "usr/lib", triplet);
  return [join(folder, loader), "--library-path", libraries, join(folder, MOSQUITTO_PROGRAMS[name], name)];
}

/** PYTHONPATH with InfluxDB's client, or the reason why it cannot be had, for example where PyPI cannot be reached. */
export async function pythonPackages(report: Report): Promise<{ path?: string; problem?: string }> {
  const problem = await missing(PYTHON_CLIENT);
  if (problem) return { problem };
  try {
    return { path: await ensurePart(PYTHON_CLIENT, report) };
  } catch (error) {
    return { problem: `InfluxDB's client for Python cannot be fetched: ${String(error).split("\n")[0]}` };
  }
}
