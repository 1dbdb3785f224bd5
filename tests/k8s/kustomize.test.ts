/** The kustomizations of k8s/ against the stages of a deploy, and what kubectl makes of overlays and sizes. */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { parse } from "yaml";
import { must } from "../../scripts/cli/process.ts";
import { findTool } from "../../scripts/cli/tools.ts";
import { type KubernetesObject, keyOf } from "../../scripts/cluster/cluster.ts";
import { EXPOSE_MODES, exposureOf } from "../../scripts/cluster/intake-exposure.ts";
import { autoscalerOf } from "../../scripts/deploy/autoscalers.ts";
import {
  containersOf,
  loadManifestFiles,
  MANIFEST_FOLDER,
  parseManifest,
  podTemplateOf,
} from "../../scripts/deploy/manifests.ts";
import { SIZE, SIZES, type Size, sized } from "../../scripts/deploy/sizes.ts";
import { loadStages, SKIPPED_STAGES, STAGES, type Stage } from "../../scripts/deploy/stages.ts";
import { kubectlPath } from "../../scripts/local-cluster/index.ts";
import { cpuOf, memoryOf } from "./reading.ts";

interface Kustomization {
  kind: string;
  resources?: string[];
  components?: string[];
  patches?: { target: { kind: string; name: string } }[];
  configMapGenerator?: object[];
}

const read = async (folder: string) =>
  parse(await readFile(join(MANIFEST_FOLDER, folder, "kustomization.yaml"), "utf8")) as Kustomization;

/** Every folder of k8s/ with a kustomization.yaml. */
const folders = (await readdir(MANIFEST_FOLDER, { recursive: true }))
  .filter((path) => path.endsWith("kustomization.yaml"))
  .map((path) => dirname(path))
  .sort();

/** Files of k8s/ that a kustomization reaches; of a generated ConfigMap its kustomization.yaml. */
async function reached(folder: string): Promise<string[]> {
  const { resources = [], components = [], configMapGenerator } = await read(folder);
  const paths = [...resources, ...components].map((path) =>
    relative(MANIFEST_FOLDER, join(MANIFEST_FOLDER, folder, path)),
  );
  const below = await Promise.all(paths.map(async (path) => (path.endsWith(".yaml") ? [path] : await reached(path))));
  return [...below.flat(), ...(configMapGenerator ? [join(folder, "kustomization.yaml")] : [])];
}

const manifests = await loadManifestFiles();
/** Users create the Secrets: a manifest without values must not be applied by kubectl. */
const isSecret = (path: string) =>
  manifests.find((file) => file.path === path)!.objects.every(({ kind }) => kind === "Secret");
const stageFiles = (names: readonly string[]) =>
  STAGES.filter(({ name }) => names.includes(name)).flatMap(({ files }) => files.filter((path) => !isSecret(path)));
const inOverlay = [
  "foundation",
  "stores",
  "setup",
  "processor",
  "producer",
  "autoscaling-producer",
  "lag-exporter",
  "metrics",
  "autoscaling-cpu",
];

describe("kustomizations", () => {
  test("each file of the stages but Secrets is in the kustomization of one folder", async () => {
    const own = await Promise.all(
      folders.map(async (folder) => {
        const { resources = [], configMapGenerator } = await read(folder);
        const files = resources.filter((path) => path.endsWith(".yaml")).map((path) => join(folder, path));
        return /^(overlays|sizes|cert-manager)/.test(folder)
          ? []
          : [...files, ...(configMapGenerator ? [join(folder, "kustomization.yaml")] : [])];
      }),
    );
    expect(own.flat().sort()).toEqual(stageFiles(STAGES.map(({ name }) => name)).sort());
  });

  test("overlay small has the stages without optional parts, and names the others", async () => {
    expect((await reached("overlays/small")).sort()).toEqual(stageFiles(inOverlay).sort());
    const text = await readFile(join(MANIFEST_FOLDER, "overlays/small/kustomization.yaml"), "utf8");
    // The ways to expose the intake are named by another annotation.
    const left = STAGES.filter(({ exposes }) => !exposes)
      .map(({ name }) => name)
      .filter((name) => name !== "secrets" && !inOverlay.includes(name));
    expect(text).toContain(`${SKIPPED_STAGES}: ${left.join(",")}\n`);
  });

  test("each optional part is a component with the files of its stage", async () => {
    const parts = {
      "processor/keda": ["autoscaling-keda"],
      logging: ["logging", "logging-alerts"],
      "logging/victorialogs": ["logging-victorialogs", "logging-alerts"],
      grafana: ["grafana"],
      "prometheus/nodes": ["node-metrics", "node-alerts"],
      "prometheus/service-monitors": ["service-monitors"],
      "producer/expose/loadbalancer": ["expose", "expose-loadbalancer"],
      "producer/expose/nodeport": ["expose", "expose-nodeport"],
      "producer/expose/gateway": ["expose", "expose-gateway"],
    };
    for (const [folder, stages] of Object.entries(parts)) {
      expect((await read(folder)).kind).toBe("Component");
      expect((await reached(folder)).sort()).toEqual(stageFiles(stages).sort());
    }
  });

  test("every patch has a target that exists: kustomize ignores one that does not", async () => {
    const known = manifests.flatMap(({ objects }) => objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`));
    const targets = (await Promise.all(folders.map(read))).flatMap(({ patches = [] }) =>
      patches.map(({ target }) => `${target.kind}/${target.name}`),
    );
    expect(targets.length).toBeGreaterThan(10);
    expect(targets.filter((target) => !known.includes(target))).toEqual([]);
  });
});

const kubectl = findTool("kubectl") ?? (existsSync(kubectlPath()) ? kubectlPath() : undefined);
const run = async (args: readonly string[]) => await must([kubectl!, ...args]);
const build = async (folder: string) => parseManifest(await run(["kustomize", folder]), folder);

describe.skipIf(kubectl === undefined)("built by kubectl", () => {
  const made: string[] = [];
  afterAll(async () => await Promise.all(made.map((folder) => rm(folder, { recursive: true, force: true }))));

  /** A user's overlay in another folder: size small with components of k8s/. */
  async function withComponents(...components: string[]): Promise<KubernetesObject[]> {
    const folder = await realpath(await mkdtemp(join(tmpdir(), "conveyor-overlay-")));
    made.push(folder);
    const path = (name: string) => relative(folder, join(MANIFEST_FOLDER, name));
    const kustomization = { resources: [path("overlays/small")], components: components.map(path) };
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "kustomization.yaml"), JSON.stringify(kustomization));
    return await build(folder);
  }

  const built = new Map<Size, Promise<Stage[]>>();
  const stagesIn = (size: Size) => {
    if (!built.has(size))
      built.set(
        size,
        loadStages().then((stages) => sized(stages, size, run)),
      );
    return built.get(size)!;
  };
  const withoutLeftOut = ({ metadata, ...rest }: KubernetesObject) => {
    const { [SKIPPED_STAGES]: _, ...annotations } = metadata.annotations ?? {};
    return { ...rest, metadata: { ...metadata, ...(metadata.annotations ? { annotations } : {}) } };
  };

  test.each(Object.keys(SIZES) as Size[])("overlay %s has the objects of a deploy of that size", async (size) => {
    const objects = await build(join(MANIFEST_FOLDER, "overlays", size));
    expect(objects.filter(({ kind }) => kind === "Secret")).toEqual([]);
    const deployed = new Map((await stagesIn(size)).flatMap((stage) => stage.objects).map((one) => [keyOf(one), one]));
    expect(objects.length).toBeGreaterThan(80);
    for (const object of objects) expect(withoutLeftOut(object)).toEqual(deployed.get(keyOf(object)) as never);
    const namespace = objects.find(({ kind, metadata }) => kind === "Namespace" && metadata.name === "conveyor");
    expect(namespace?.metadata.annotations?.[SIZE]).toBe(size);
  });

  test("a size keeps every object in its stage and adds a class of priority to the first one", async () => {
    const [small, standard] = [await loadStages(), await stagesIn("standard")];
    for (const [index, { objects }] of small.entries()) {
      const added = standard[index]!.objects.slice(objects.length).map(({ kind }) => kind);
      expect(standard[index]!.objects.slice(0, objects.length).map(keyOf)).toEqual(objects.map(keyOf));
      expect(added).toEqual(index === 0 ? ["PriorityClass"] : []);
    }
  });

  test.each([[[]], [["processor/keda"]], [["grafana", "logging", "prometheus/service-monitors", "sizes/large"]]])(
    "a workload has one autoscaler in an overlay with %j",
    async (components) => {
      const targets = (await withComponents(...components)).flatMap((object) => autoscalerOf(object)?.target ?? []);
      expect(targets.sort()).toEqual(["Deployment/processor", "StatefulSet/producer"]);
    },
  );

  test.each(EXPOSE_MODES)("the component of --expose %s opens the intake, and says so to validate", async (mode) => {
    const objects = await withComponents(`producer/expose/${mode}`);
    const namespace = objects.find(({ kind, metadata }) => kind === "Namespace" && metadata.name === "conveyor");
    expect(exposureOf(namespace)?.mode).toBe(mode);
    const added = objects.filter(({ metadata }) => /^intake(-|$)/.test(metadata.name)).map(({ kind }) => kind);
    expect(added.sort()).toEqual(["NetworkPolicy", mode === "gateway" ? "TLSRoute" : "Service"]);
  });

  test.each(["standard", "large"] as const)("size %s fits its nodes with the most replicas", async (size) => {
    const objects = (await stagesIn(size)).flatMap((stage) => stage.objects);
    const most: Record<string, number> = { processor: 6, producer: 5 };
    const sum = (name: "cpu" | "memory") =>
      objects.reduce((total, object) => {
        const template = podTemplateOf(object);
        if (!template || object.kind === "Job") return total;
        const replicas = most[object.metadata.name] ?? (object.spec as { replicas?: number }).replicas ?? 1;
        const pod = template.spec.containers.reduce(
          (of, { resources }) =>
            of +
            (name === "cpu" ? cpuOf : memoryOf)((resources as { requests: Record<string, string> }).requests[name]),
          0,
        );
        return total + replicas * pod;
      }, 0);
    // The comments of the components name the nodes; the system of a node takes about a tenth.
    const node = { standard: { cores: 4, gib: 8 }, large: { cores: 8, gib: 32 } }[size];
    expect(sum("cpu")).toBeLessThan(3 * node.cores * 0.9);
    expect(sum("memory")).toBeLessThan(3 * node.gib * 2 ** 30 * 0.9);
    const text = await readFile(join(MANIFEST_FOLDER, "sizes", size, "kustomization.yaml"), "utf8");
    expect(text).toContain(
      `three nodes with ${node.cores === 4 ? "four" : "eight"} cores and ${node.gib} GiB`.slice(5),
    );
  });

  test.each(["standard", "large"] as const)("size %s: no probe restarts a pod within 3 s of silence", async (size) => {
    for (const object of (await stagesIn(size)).flatMap((stage) => stage.objects)) {
      const template = podTemplateOf(object);
      for (const container of template ? containersOf(template.spec) : []) {
        type Probe = { periodSeconds: number; timeoutSeconds: number; failureThreshold: number };
        const live = container.livenessProbe as (Probe & { terminationGracePeriodSeconds?: number }) | undefined;
        if (!live) continue;
        const at = `${object.metadata.name} ${container.name}`;
        expect(live.failureThreshold, at).toBeGreaterThanOrEqual(3);
        expect(live.timeoutSeconds, at).toBeGreaterThan(3);
        expect(live.periodSeconds * live.failureThreshold, at).toBeGreaterThanOrEqual(15);
        const isDataPath = ["kafka", "influxdb", "processor", "producer"].includes(object.metadata.name);
        if (isDataPath) expect(live.terminationGracePeriodSeconds, at).toBeUndefined();
        if (isDataPath) expect(live.periodSeconds, at).toBe(10);
      }
    }
  });

  test.each(["standard", "large"] as const)(
    "size %s: memory of Kafka and InfluxDB is within their limits",
    async (size) => {
      const objects = (await stagesIn(size)).flatMap((stage) => stage.objects);
      const settings = (name: string) => {
        const object = objects.find(({ kind, metadata }) => kind === "StatefulSet" && metadata.name === name)!;
        const { spec } = podTemplateOf(object)!;
        expect(spec.priorityClassName).toBe("conveyor-stores");
        const { env, resources } = spec.containers[0]!;
        const { requests, limits } = resources as Record<"requests" | "limits", Record<string, string>>;
        // Equal: the kubelet ends first what uses more than its request.
        expect(requests.memory).toBe(limits.memory!);
        return {
          env: Object.fromEntries(env!.map(({ name, value }) => [name, value])),
          limit: memoryOf(limits.memory),
          spec,
        };
      };
      const kafka = settings("kafka");
      const heap = Number(/-Xmx(\d+)g/.exec(kafka.env.HEAP_OPTIONS!)![1]) * 2 ** 30;
      expect(heap).toBeLessThanOrEqual(kafka.limit / 2);
      expect(kafka.spec.affinity).toMatchObject({
        podAntiAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: "kubernetes.io/hostname" }],
        },
      });
      const { env, limit } = settings("influxdb");
      const used = Number(env.INFLUXD_QUERY_MAX_MEMORY_BYTES) + Number(env.INFLUXD_STORAGE_CACHE_MAX_MEMORY_SIZE);
      expect(used).toBeLessThan(limit * 0.75);
      expect(Number(env.INFLUXD_QUERY_MEMORY_BYTES)).toBeLessThanOrEqual(Number(env.INFLUXD_QUERY_MAX_MEMORY_BYTES));
      expect(memoryOf(env.GOMEMLIMIT!.replace("iB", "i"))).toBeLessThan(limit);
    },
  );

  test.each(Object.keys(SIZES) as Size[])("docs/sizes.md has the resources of size %s", async (size) => {
    const page = await readFile(join(MANIFEST_FOLDER, "../docs/sizes.md"), "utf8");
    const cell = (row: string) => {
      const line = page.split("\n").find((one) => one.startsWith(`| ${row}`))!;
      return line.split("|")[2 + Object.keys(SIZES).indexOf(size)]!.trim();
    };
    const objects = (await stagesIn(size)).flatMap((stage) => stage.objects);
    const containerOf = (kind: string, name: string) => {
      const object = objects.find((one) => one.kind === kind && one.metadata.name === name)!;
      const [container] = podTemplateOf(object)!.spec.containers;
      const { requests, limits } = container!.resources as Record<"requests" | "limits", Record<string, string>>;
      return { container: container!, cpu: String(cpuOf(requests.cpu)), requests, limits };
    };
    const amount = (text: string | undefined) => {
      const mebibytes = memoryOf(text) / 2 ** 20;
      return mebibytes < 1024 ? `${mebibytes} MiB` : `${mebibytes / 1024} GiB`;
    };
    const memory = ({ requests, limits }: ReturnType<typeof containerOf>) =>
      [...new Set([amount(requests.memory), amount(limits.memory)])].join("; ");
    const broker = containerOf("StatefulSet", "kafka");
    const options = broker.container.env!.find(({ name }) => name === "HEAP_OPTIONS")!.value!;
    const [, heap, unit] = /-Xmx(\d+)(\w)/.exec(options)!;
    const collector = options.includes("+UseG1GC") ? " (G1)" : "";
    expect(cell("a broker: CPU request")).toBe(
      `${broker.cpu}, ${memory(broker)}, ${amount(`${heap}${unit!.toUpperCase()}i`)}${collector}`,
    );
    const influxdb = containerOf("StatefulSet", "influxdb");
    type Claims = { volumeClaimTemplates: { spec: { resources: { requests: { storage: string } } } }[] };
    const { spec } = objects.find(({ kind, metadata }) => kind === "StatefulSet" && metadata.name === "influxdb")!;
    const volume = (spec as unknown as Claims).volumeClaimTemplates[0]!.spec.resources.requests.storage;
    expect(cell("InfluxDB: CPU request")).toBe(`${influxdb.cpu}, ${memory(influxdb)}, ${amount(volume)}`);
    const prometheus = containerOf("Deployment", "prometheus");
    expect(cell("Prometheus: memory")).toStartWith(`${memory(prometheus)}, `);
    for (const [kind, name] of [
      ["Deployment", "processor"],
      ["StatefulSet", "producer"],
    ] as const) {
      expect(cell("CPU request of a processor")).toBe(containerOf(kind, name).cpu);
    }
  });
});
