/**
 * Rules for every object of k8s/. Checked on the files: a cluster also accepts an object whose selector matches
 * nothing.
 */
import { describe, expect, test } from "bun:test";
import { readdir, readFile, realpath } from "node:fs/promises";
import { join, relative } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import type { KubernetesObject } from "../../scripts/cluster/cluster.ts";
import { IDENTITIES } from "../../scripts/deploy/certificates.ts";
import {
  type Container,
  containersOf,
  imagesOf,
  loadManifestFiles,
  MANIFEST_FOLDER,
  type PodTemplate,
  parseManifest,
  podTemplateOf,
  RELOADED,
  referencesOf,
} from "../../scripts/deploy/manifests.ts";
import { recipeOf } from "../../scripts/deploy/secrets.ts";
import { loadStages, STAGES } from "../../scripts/deploy/stages.ts";
import { KAFKA_VERSION } from "../../scripts/images/kafka.ts";
import { ACL_TABLE, TOPIC_TABLE } from "../../services/domain/kafka-layout.ts";
import { violationsOf } from "./pod-security.ts";
import { cpuOf, matches, memoryOf, type Policy, type Selector } from "./reading.ts";

const files = await loadManifestFiles();
const objects = files.flatMap(({ objects }) => objects);
const ofKind = <T = KubernetesObject>(kind: string) => objects.filter((object) => object.kind === kind) as T[];
const labelOf = (object: KubernetesObject) => `${object.kind}/${object.metadata.name}`;

interface Workload {
  name: string;
  namespace: string;
  object: KubernetesObject;
  template: PodTemplate;
  labels: Record<string, string>;
}
const workloads: Workload[] = objects.flatMap((object) => {
  const template = podTemplateOf(object);
  if (!template) return [];
  const labels = template.metadata?.labels ?? {};
  return [{ name: labelOf(object), namespace: object.metadata.namespace ?? "", object, template, labels }];
});
const containers = workloads.flatMap((workload) =>
  containersOf(workload.template.spec).map((container) => ({
    workload,
    container,
    name: `${workload.name} ${container.name}`,
  })),
);
/** Namespaces that enforce "restricted"; log collection needs the node's files and has its own namespace. */
const restrictedNamespaces = ofKind("Namespace")
  .filter(({ metadata }) => metadata.labels?.["pod-security.kubernetes.io/enforce"] === "restricted")
  .map(({ metadata }) => metadata.name);
/** The links below a folder, and the files to which they lead. */
async function linksIn(folder: string): Promise<{ path: string; target: string }[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const links = entries.filter((entry) => entry.isSymbolicLink()).map((entry) => join(entry.parentPath, entry.name));
  return await Promise.all(
    links.map(async (link) => ({ path: relative(folder, link), target: relative(folder, await realpath(link)) })),
  );
}
const CLUSTER_SCOPED = /^(Namespace|Cluster|CustomResourceDefinition|PriorityClass|StorageClass|APIService)/;
/**
 * Seconds to detect a frozen process by its silence. Events must flow again within the goals of docs/resilience.md
 * (8, 10 and 20 s), so detection may take only a part of them.
 */
const FROZEN_FOUND_SECONDS: Readonly<Record<string, number>> = { producer: 4, processor: 4, influxdb: 8 };
const NAME = "app.kubernetes.io/name";
const INSTANCE = "app.kubernetes.io/instance";

describe("files", () => {
  test("include every file name of the plan", async () => {
    // A link leads to a file of a folder with a kustomization.yaml, which cannot contain files of other folders.
    const paths = [
      ...files.map(({ path }) => path),
      ...(await linksIn(MANIFEST_FOLDER))
        .filter(({ target }) => files.some(({ path }) => path === target))
        .map(({ path }) => path),
    ];
    const planned = [
      ...["namespace.yaml", "rbac.yaml", "tls/kafka-tls-secret.yaml", "tls/influxdb-tls-secret.yaml"],
      ...["deployment", "service", "configmap"].map((part) => `prometheus/prometheus-${part}.yaml`),
      "prometheus/servicemonitor.yaml",
      ...["loki-deployment", "loki-service", "promtail-daemonset", "promtail-configmap"].map(
        (name) => `logging/${name}.yaml`,
      ),
    ];
    expect(planned.filter((path) => !paths.includes(path))).toEqual([]);
    const folders = new Set(paths.map((path) => path.split("/")[0]));
    for (const folder of ["kafka", "influxdb", "processor", "producer", "grafana", "network"]) {
      expect(folders).toContain(folder);
    }
  });

  test("are each in exactly one stage", async () => {
    const staged = STAGES.flatMap((stage) => stage.files);
    expect([...staged].sort()).toEqual(files.map(({ path }) => path));
    const loaded = (await loadStages()).flatMap((stage) => stage.objects);
    // The rules for prometheus-operator are generated from those for Prometheus.
    expect(loaded.filter(({ kind }) => kind !== "PrometheusRule")).toHaveLength(objects.length);
  });

  test("declare no object twice", () => {
    const refs = objects.map((object) => `${labelOf(object)} in ${object.metadata.namespace}`);
    expect(refs.filter((ref, index) => refs.indexOf(ref) !== index)).toEqual([]);
  });

  test("every stage with a workload has a time limit, and no other stage", async () => {
    for (const { name, limitMs, objects } of await loadStages()) {
      expect([name, limitMs !== undefined]).toEqual([name, objects.some(podTemplateOf)]);
    }
  });

  test("numbers have the same value for YAML and kubectl", () => {
    const [object] = parseManifest("apiVersion: v1\nkind: X\nmetadata: {name: x}\nmode: 0440\n", "x.yaml");
    expect(object?.mode).toBe(0o440);
    const dates = JSON.stringify(objects).match(/"\d{4}-\d\d-\d\dT[\d:.]+Z"/g) ?? [];
    expect(dates).toEqual([]);
  });

  test.each([
    ["a: [", /bad.yaml: /],
    ["apiVersion: v1\nkind: Pod\n", /bad.yaml: a document without apiVersion, kind or metadata.name/],
    ["a: 1\na: 2\n", /bad.yaml: /],
  ])("a bad file is refused by name: %j", (text, message) => {
    expect(() => parseManifest(text, "bad.yaml")).toThrow(message);
  });
});

describe.each(objects.map((object) => [labelOf(object), object] as const))("%s", (_, object) => {
  test("has the project's labels and a declared namespace", () => {
    const labels = object.metadata.labels ?? {};
    expect(labels["app.kubernetes.io/part-of"]).toBe("conveyor");
    expect(labels["app.kubernetes.io/managed-by"]).toBe("conveyor-deploy");
    expect(labels[NAME]).toBeTruthy();
    expect(labels[INSTANCE]).toBeTruthy();
    if (CLUSTER_SCOPED.test(object.kind)) expect(object.metadata.namespace).toBeUndefined();
    else expect(ofKind("Namespace").map(({ metadata }) => metadata.name)).toContain(object.metadata.namespace!);
  });
});

test("the version label is on workloads and their pods only, and is the version of one of their images", () => {
  const VERSION = "app.kubernetes.io/version";
  for (const object of objects) {
    const template = podTemplateOf(object);
    const label = object.metadata.labels?.[VERSION];
    const ref = `${object.kind}/${object.metadata.name}`;
    if (!template) {
      expect([ref, label]).toEqual([ref, undefined]);
      continue;
    }
    const versions = containersOf(template.spec).map(({ image }) => image.replace(/^.*:v?/, ""));
    expect(versions).toContain(label!);
    expect([ref, template.metadata?.labels?.[VERSION]]).toEqual([ref, label]);
  }
});

describe.each(workloads.map((workload) => [workload.name, workload] as const))("%s", (_, workload) => {
  const { object, template, labels, namespace } = workload;
  const { spec } = template;

  if (restrictedNamespaces.includes(namespace)) {
    test("is restricted", () => {
      expect(violationsOf(template)).toEqual([]);
    });
  }

  test("selects its own pods, by name and instance and not by version", () => {
    if (object.kind === "Job") return;
    const { selector } = object.spec as { selector: Selector };
    expect(matches(selector, labels)).toBe(true);
    expect(Object.keys(selector.matchLabels ?? {}).sort()).toEqual([INSTANCE, NAME]);
  });

  test("runs as a declared service account without a token", () => {
    const account = ofKind<KubernetesObject & { automountServiceAccountToken?: boolean }>("ServiceAccount").find(
      ({ metadata }) => metadata.name === spec.serviceAccountName && metadata.namespace === namespace,
    );
    expect(account?.automountServiceAccountToken).toBe(false);
  });

  test("mounts only ConfigMaps and Secrets that are declared", () => {
    const { configMaps, secrets } = referencesOf(spec);
    const declared = (kind: string) =>
      ofKind(kind)
        .filter(({ metadata }) => metadata.namespace === namespace)
        .map(({ metadata }) => metadata.name);
    // Deploy makes those of schemas, where there are schemas.
    const known = [...declared("ConfigMap"), ...RELOADED];
    expect(configMaps.filter((name) => !known.includes(name))).toEqual([]);
    expect(secrets.filter((name) => !declared("Secret").includes(name))).toEqual([]);
  });

  test("reads no Secret through its environment, which is visible when the pod is inspected", () => {
    const found = containersOf(spec).filter(({ env, envFrom }) =>
      [
        ...(env ?? []).map(({ valueFrom }) => valueFrom?.secretKeyRef),
        ...(envFrom ?? []).map(({ secretRef }) => secretRef),
      ].some(Boolean),
    );
    expect(found).toEqual([]);
  });

  test("is selected by network policies for both directions", () => {
    const own = ofKind<Policy>("NetworkPolicy").filter(
      ({ metadata, spec: policy }) =>
        metadata.namespace === namespace && policy.podSelector.matchLabels && matches(policy.podSelector, labels),
    );
    expect(own.map(({ spec: policy }) => policy.policyTypes)).toContainEqual(["Ingress", "Egress"]);
  });

  test("has a grace period and keeps few old revisions", () => {
    expect(spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(5);
    if (object.kind !== "Job") {
      expect((object.spec as { revisionHistoryLimit?: number }).revisionHistoryLimit).toBeLessThanOrEqual(5);
    }
  });

  test("a long-running workload has a disruption budget that never blocks a drain forever", () => {
    if (object.kind !== "StatefulSet" && object.kind !== "Deployment") return;
    type Budget = KubernetesObject & {
      spec: { selector: Selector; maxUnavailable?: number; unhealthyPodEvictionPolicy?: string };
    };
    const budgets = ofKind<Budget>("PodDisruptionBudget").filter(
      ({ metadata, spec: budget }) => metadata.namespace === namespace && matches(budget.selector, labels),
    );
    expect(budgets).toHaveLength(1);
    expect(budgets[0]!.spec.maxUnavailable).toBeGreaterThanOrEqual(1);
    expect(budgets[0]!.spec.unhealthyPodEvictionPolicy).toBe("AlwaysAllow");
  });
});

describe.each(containers.map((entry) => [entry.name, entry] as const))("container %s", (_, { workload, container }) => {
  const resources = container.resources as Record<"requests" | "limits", Record<string, string>> | undefined;
  const ports = (container.ports ?? []) as { name: string; containerPort: number }[];

  test("pins its image by a version tag", () => {
    expect(container.image).toMatch(
      /^[a-z0-9.-]+(:\d+)?\/[a-z0-9/_-]+:v?\d+\.\d+\.\d+[a-z0-9.-]*(@sha256:[0-9a-f]{64})?$/,
    );
  });

  test("has requests and limits for CPU, memory and local storage, with requests at most limits", () => {
    for (const name of ["cpu", "memory", "ephemeral-storage"]) {
      const read = name === "cpu" ? cpuOf : memoryOf;
      expect(read(resources?.requests?.[name]), `request of ${name}`).toBeGreaterThan(0);
      expect(read(resources?.limits?.[name]), `limit of ${name}`).toBeGreaterThanOrEqual(
        read(resources?.requests?.[name]),
      );
    }
  });

  test("names its ports and sets no environment variable twice", () => {
    for (const { name } of ports) expect(name).toMatch(/^[a-z][a-z0-9-]{0,14}$/);
    const names = (container.env ?? []).map(({ name }) => name);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });

  test("mounts only declared volumes or claims, each path once", () => {
    const { volumes } = workload.template.spec;
    const claims = (
      (workload.object.spec as { volumeClaimTemplates?: KubernetesObject[] }).volumeClaimTemplates ?? []
    ).map(({ metadata }) => metadata.name);
    const known = [...(volumes ?? []).map(({ name }) => name), ...claims];
    const mounts = (container.volumeMounts ?? []) as { name: string; mountPath: string }[];
    for (const { name } of mounts) expect(known).toContain(name);
    expect(new Set(mounts.map(({ mountPath }) => mountPath)).size).toBe(mounts.length);
  });

  const isLongRunning =
    workload.object.kind !== "Job" && workload.template.spec.containers.includes(container as Container);
  if (isLongRunning) {
    type Probe = {
      httpGet?: { port: string; scheme?: string; path: string };
      exec?: { command: string[] };
      tcpSocket?: unknown;
      periodSeconds: number;
      timeoutSeconds: number;
      failureThreshold: number;
    };
    const probe = (kind: string) => container[kind] as Probe | undefined;

    test("has all three probes, by HTTPS on a named port or by a program, never by a TCP connection", () => {
      for (const kind of ["startupProbe", "livenessProbe", "readinessProbe"]) {
        const it = probe(kind);
        expect(it, kind).toBeDefined();
        expect(it!.tcpSocket, `${kind}: the kernel accepts connections of a frozen process`).toBeUndefined();
        if (it!.httpGet) {
          expect(
            ports.map(({ name }) => name),
            kind,
          ).toContain(it!.httpGet.port);
          expect(it!.httpGet.scheme, kind).toBe("HTTPS");
        } else expect(it!.exec?.command.length, kind).toBeGreaterThan(0);
        const isQuick = kind === "livenessProbe" && workload.object.metadata.name in FROZEN_FOUND_SECONDS;
        expect(it!.timeoutSeconds, kind).toBeGreaterThanOrEqual(isQuick ? 1 : 3);
      }
    });

    test("liveness differs from readiness and detects a frozen process within its limit", () => {
      const [live, ready] = [probe("livenessProbe")!, probe("readinessProbe")!];
      expect(live.httpGet ?? live.exec).not.toEqual(ready.httpGet ?? ready.exec);
      // One late answer must not restart a pod; two may where a dedicated thread answers (liveness.ts).
      const hasThread = live.httpGet?.port === "liveness";
      expect(live.failureThreshold).toBeGreaterThanOrEqual(hasThread ? 2 : 3);
      const foundWithin = FROZEN_FOUND_SECONDS[workload.object.metadata.name];
      if (foundWithin === undefined) {
        expect(live.periodSeconds * live.failureThreshold).toBeGreaterThanOrEqual(15);
        return;
      }
      // The first probe runs up to a period after the freeze; each takes its timeout or the next period.
      const each = Math.max(live.periodSeconds, live.timeoutSeconds);
      expect(live.periodSeconds + each * live.failureThreshold).toBeLessThanOrEqual(foundWithin);
    });

    test("allows at least a minute to start before liveness counts", () => {
      const start = probe("startupProbe")!;
      expect(start.periodSeconds * start.failureThreshold).toBeGreaterThanOrEqual(60);
    });
  }
});

describe("services", () => {
  type Service = KubernetesObject & {
    spec: {
      selector: Record<string, string>;
      ports: { name: string; targetPort: string; port: number }[];
      clusterIP?: string;
    };
  };
  test.each(ofKind<Service>("Service").map((service) => [service.metadata.name, service] as const))(
    "%s selects a workload and its named ports",
    (_, { spec, metadata }) => {
      const chosen = workloads.filter(
        ({ labels, namespace }) => namespace === metadata.namespace && matches({ matchLabels: spec.selector }, labels),
      );
      expect(chosen).toHaveLength(1);
      const ports = containersOf(chosen[0]!.template.spec).flatMap(
        ({ ports }) => (ports ?? []) as { name: string; containerPort: number }[],
      );
      for (const { name, targetPort, port } of spec.ports) {
        expect(targetPort).toBe(name);
        expect(ports).toContainEqual({ name, containerPort: port });
      }
    },
  );

  test("every StatefulSet has a headless Service", () => {
    for (const { spec } of ofKind<KubernetesObject & { spec: { serviceName: string } }>("StatefulSet")) {
      const service = ofKind<Service>("Service").find(({ metadata }) => metadata.name === spec.serviceName);
      expect(service?.spec.clusterIP).toBe("None");
    }
  });
});

describe("secrets", () => {
  const secrets = ofKind("Secret");

  test("no manifest contains a secret value", () => {
    for (const secret of secrets) {
      expect(secret.data).toBeUndefined();
      expect(secret.stringData).toBeUndefined();
    }
  });

  test("every file that fills one is created by generate-certs", () => {
    const made = [
      "ca.crt",
      ...IDENTITIES.flatMap(({ name, combinedPem }) => [
        `${name}.crt`,
        `${name}.key`,
        ...(combinedPem ? [`${name}.pem`] : []),
      ]),
    ];
    for (const secret of secrets) {
      const { how, entries } = recipeOf(secret);
      if (how === "fill-from") for (const { source } of entries) expect(made).toContain(source);
    }
  });

  test("none contains the CA's key", () => {
    expect(secrets.flatMap((secret) => recipeOf(secret).entries.map(({ source }) => source))).not.toContain("ca.key");
  });

  test("every file path in an environment variable is a key of the Secret mounted there", () => {
    for (const { workload, container, name } of containers) {
      const mounts = (container.volumeMounts ?? []) as {
        name: string;
        mountPath: string;
        subPath?: string;
        subPathExpr?: string;
      }[];
      for (const { name: variable, value } of container.env ?? []) {
        if (!value || !/^\/(certs|secrets)\//.test(value)) continue;
        const mount = mounts.find(({ mountPath }) => value.startsWith(`${mountPath}/`));
        const secretName = workload.template.spec.volumes?.find((volume) => volume.name === mount?.name)?.secret
          ?.secretName;
        const secret = secrets.find(({ metadata }) => metadata.name === secretName);
        expect(secret, `${name}: ${variable}=${value}`).toBeDefined();
        const { how, entries } = recipeOf(secret!);
        const keys = how === "filled-by" ? ["token"] : entries.map(({ key }) => key);
        expect(keys, `${name}: ${variable}=${value}`).toContain(value.slice(mount!.mountPath.length + 1));
      }
    }
  });

  test("all keys of the intake's Secret are mounted, as a folder that the kubelet updates", () => {
    const { workload, container } = containers.find(({ container: { env } }) =>
      env?.some(({ name, value }) => name === "INTAKE_TOKEN_FILE" && value === "/secrets/producer-intake/token"),
    )!;
    const volume = workload.template.spec.volumes?.find(({ secret }) => secret?.secretName === "producer-intake");
    expect(volume?.secret).not.toHaveProperty("items");
    const mount = (container.volumeMounts as { name: string }[]).find(({ name }) => name === volume?.name);
    expect(mount).toEqual({ name: volume!.name, mountPath: "/secrets/producer-intake", readOnly: true } as never);
  });

  test("the template lists the same Secrets and keys, without values", async () => {
    const text = await readFile(join(MANIFEST_FOLDER, "secrets.yaml.template"), "utf8");
    type Template = KubernetesObject & { type: string; stringData?: Record<string, string> };
    const documents = parseAllDocuments(text).map((document) => document.toJS() as Template);
    const shape = (name: string, type: unknown, keys: string[]) => `${name} ${type} ${keys.sort().join()}`;
    expect(
      documents
        .map(({ metadata, type, stringData }) => shape(metadata.name, type, Object.keys(stringData ?? {})))
        .sort(),
    ).toEqual(
      secrets
        .map((secret) =>
          shape(
            secret.metadata.name,
            secret.type,
            recipeOf(secret).entries.map(({ key }) => key),
          ),
        )
        .sort(),
    );
    for (const { stringData } of documents)
      for (const value of Object.values(stringData ?? {})) expect(value).toMatch(/^<.+>$/);
  });

  test("only the setup job may access Secrets through the API, only three, without list", () => {
    type Role = KubernetesObject & { rules: { resources?: string[]; resourceNames?: string[]; verbs: string[] }[] };
    const rules = [...ofKind<Role>("Role"), ...ofKind<Role>("ClusterRole")].flatMap(({ metadata, rules }) =>
      rules
        .filter(({ resources }) => resources?.some((name) => name === "secrets" || name === "*"))
        .map((rule) => ({ role: metadata.name, ...rule })),
    );
    expect(rules).toEqual([
      {
        role: "setup",
        apiGroups: [""],
        resources: ["secrets"],
        resourceNames: ["influxdb-token-processor", "influxdb-token-reader", "kafka-cluster-id"],
        verbs: ["get", "patch"],
      } as never,
    ]);
  });

  test("in the complete cluster only kubelets and the collector without namespaces are read, never their pods' contents", () => {
    type Role = KubernetesObject & { rules: { resources?: string[]; verbs: string[] }[] };
    const rights = ofKind<Role>("ClusterRole").map(({ metadata, rules }) => [
      metadata.name,
      rules.map(({ resources, verbs }) => `${resources?.join()}: ${verbs.join()}`),
    ]);
    expect(Object.fromEntries(rights)).toEqual({
      "conveyor-prometheus": ["nodes: list,watch", "nodes/metrics: get"],
      "conveyor-vlagent": ["pods: get,list,watch", "namespaces: list", "nodes: get"],
    });
  });
});

test("Loki replays its write-ahead log in half of its memory limit, and writes its chunks before it ends", () => {
  const data = objects.find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "loki")!.data as object;
  const { wal } = (
    parse((data as Record<string, string>)["config.yaml"]!) as { ingester: { wal: Record<string, unknown> } }
  ).ingester;
  const loki = workloads.find(({ object }) => object.metadata.name === "loki")!.template.spec.containers[0]!;
  const limit = memoryOf((loki.resources as { limits: { memory: string } }).limits.memory);
  const ceiling = /^(\d+)MB$/.exec(String(wal.replay_memory_ceiling))!;
  expect(Number(ceiling[1]) * 2 ** 20).toBeLessThanOrEqual(limit / 2);
  expect(wal.flush_on_shutdown).toBe(true);
});

describe("the complete pipeline", () => {
  const replicasOf = ({ object }: Workload) => (object.spec as { replicas?: number }).replicas ?? 1;
  const total = (read: (container: Container) => number) =>
    workloads.reduce(
      (sum, workload) =>
        sum +
        replicasOf(workload) * workload.template.spec.containers.reduce((pod, container) => pod + read(container), 0),
      0,
    );
  const resource = (which: "requests" | "limits", name: string) => (container: Container) =>
    (name === "cpu" ? cpuOf : memoryOf)((container.resources as Record<string, Record<string, string>>)[which]?.[name]);

  test("requests fit on 2 cores and 8 GiB, with room for the node's own pods", () => {
    // A local node's own pods and daemons request about a quarter of a core and half a GiB.
    expect(total(resource("requests", "cpu"))).toBeLessThanOrEqual(1.75);
    expect(total(resource("requests", "memory"))).toBeLessThanOrEqual(6 * 2 ** 30);
  });

  test("memory limits of the data path fit in 8 GiB", () => {
    const path = workloads.filter(({ labels }) =>
      ["kafka", "influxdb", "producer", "processor"].includes(labels[NAME]!),
    );
    const sum = path.reduce(
      (bytes, workload) =>
        bytes + replicasOf(workload) * resource("limits", "memory")(workload.template.spec.containers[0]!),
      0,
    );
    expect(sum).toBeLessThanOrEqual(8 * 2 ** 30);
  });

  test("scaled workloads set no replicas", () => {
    for (const name of ["Deployment/processor", "StatefulSet/producer"]) {
      const workload = workloads.find((candidate) => candidate.name === name);
      expect(workload?.object.spec).toBeDefined();
      expect((workload!.object.spec as { replicas?: number }).replicas).toBeUndefined();
    }
  });

  test("uses only images of the catalog", () => {
    expect(imagesOf(objects)).toEqual(
      expect.arrayContaining([
        `docker.io/apache/kafka:${KAFKA_VERSION}`,
        "conveyor.invalid/kafka-metrics-agent:1.0.1",
        "conveyor.invalid/services:1.0.0",
        "docker.io/library/influxdb:2.9.1",
        "docker.io/prom/alertmanager:v0.33.1",
        "docker.io/prom/prometheus:v3.5.3",
        "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.19.1",
      ]),
    );
  });
});

describe("kafka", () => {
  const map = ofKind<KubernetesObject & { data: Record<string, string> }>("ConfigMap").find(
    ({ metadata }) => metadata.name === "kafka",
  )!;
  const properties = new Map(
    map.data["server.properties"]!.split("\n")
      .filter((line) => line && !line.startsWith("#"))
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)] as const),
  );
  const statefulSet = workloads.find(({ name }) => name === "StatefulSet/kafka")!;
  const replicas = (statefulSet.object.spec as { replicas: number }).replicas;

  test("every listener requires a client certificate", () => {
    const listeners = properties
      .get("listeners")!
      .split(",")
      .map((entry) => entry.split(":")[0]!);
    expect(listeners).toEqual(["CLIENT", "REPLICATION", "CONTROLLER"]);
    const protocols = Object.fromEntries(
      properties
        .get("listener.security.protocol.map")!
        .split(",")
        .map((entry) => entry.split(":")),
    );
    for (const listener of listeners) {
      expect(protocols[listener]).toBe("SSL");
      expect(properties.get(`listener.name.${listener.toLowerCase()}.ssl.client.auth`)).toBe("required");
    }
    expect([...properties.keys()].filter((key) => /endpoint\.identification|password|plaintext/i.test(key))).toEqual(
      [],
    );
  });

  test("listeners equal container ports", () => {
    const listening = properties
      .get("listeners")!
      .split(",")
      .map((entry) => Number(entry.split(":").at(-1)));
    const [container] = statefulSet.template.spec.containers as [Container];
    const ports = container.ports as { name: string; containerPort: number }[];
    expect(ports.filter(({ name }) => name !== "metrics").map(({ containerPort }) => containerPort)).toEqual(listening);
  });

  test("voters, super users and certificates match the replicas", () => {
    const nodes = Array.from({ length: replicas }, (_, ordinal) => `kafka-${ordinal}`);
    expect(properties.get("controller.quorum.voters")!.split(",")).toEqual(
      nodes.map((node, ordinal) => `${ordinal}@${node}.kafka-headless.conveyor.svc:9093`),
    );
    expect(properties.get("super.users")!.split(";")).toEqual([...nodes, "admin"].map((name) => `User:${name}`));
    for (const node of [...nodes, "admin"]) expect(IDENTITIES.map(({ name }) => name)).toContain(node);
    for (const node of nodes) {
      const names = IDENTITIES.find(({ name }) => name === node)!.subjectAltNames;
      expect(names).toContain(`DNS:${node}.kafka-headless.conveyor.svc`);
      expect(names).toContain("DNS:kafka.conveyor.svc");
    }
  });

  test("a broker mounts its own key only", () => {
    const [container] = statefulSet.template.spec.containers as [Container];
    const mounts = (container.volumeMounts ?? []) as { name: string; subPath?: string; subPathExpr?: string }[];
    const fromTls = mounts
      .filter(({ name }) => name === "tls")
      .map(({ subPath, subPathExpr }) => subPath ?? subPathExpr);
    expect(fromTls.sort()).toEqual(["$(POD_NAME).pem", "ca.crt"]);
  });

  test("every principal with ACLs has a certificate of that name", () => {
    for (const { principal } of ACL_TABLE) expect(IDENTITIES.map(({ name }) => `User:${name}`)).toContain(principal);
  });

  test("replication factor 3, min ISR 2, no unclean leader election", () => {
    for (const key of properties.keys()) {
      if (key.endsWith("replication.factor")) expect(properties.get(key), key).toBe("3");
      if (key.endsWith("min.isr")) expect(properties.get(key), key).toBe("2");
    }
    for (const key of ["default", "offsets.topic", "transaction.state.log", "share.coordinator.state.topic"]) {
      expect(properties.get(`${key}.replication.factor`), key).toBe("3");
    }
    expect(properties.get("min.insync.replicas")).toBe("2");
    expect(properties.get("unclean.leader.election.enable")).toBe("false");
    expect(properties.get("allow.everyone.if.no.acl.found")).toBe("false");
  });

  test("retention of all topics fits into the volume", () => {
    type Claims = { volumeClaimTemplates: { spec: { resources: { requests: { storage: string } } } }[] };
    const volume = memoryOf(
      (statefulSet.object.spec as unknown as Claims).volumeClaimTemplates[0]!.spec.resources.requests.storage,
    );
    const segment = Number(properties.get("log.segment.bytes"));
    const bytes = TOPIC_TABLE.map(
      ({ partitions, config }) => partitions * (Number(config["retention.bytes"]) + segment),
    );
    expect(bytes.every(Number.isSafeInteger)).toBe(true);
    expect(bytes.reduce((sum, size) => sum + size, 0)).toBeLessThan(volume * 0.75);
  });

  test("its scripts are valid bash", async () => {
    for (const name of ["start.sh", "in-sync.sh", "probe.sh"]) {
      const child = Bun.spawn(["bash", "-n"], { stdin: new Blob([map.data[name]!]), stderr: "pipe" });
      expect({ name, complaint: await new Response(child.stderr).text() }).toEqual({ name, complaint: "" });
    }
  });
});

test("programs of VictoriaMetrics listen and connect on IPv6 too: by default they use IPv4 alone", () => {
  const containers = objects.flatMap((object) => {
    const template = podTemplateOf(object);
    return template ? containersOf(template.spec) : [];
  });
  const listening = containers
    .map(({ args }) => (args ?? []) as string[])
    .filter((args) => args.some((arg) => arg.startsWith("-httpListenAddr=")));
  expect(listening).toHaveLength(2);
  for (const args of listening) expect(args).toContain("-enableTCP6");
});
