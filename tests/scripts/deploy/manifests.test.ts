/** Contents of Secrets, hashes of pod templates, image references, and the order of stages. */
import { describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { OperatorError } from "../../../scripts/cli/errors.ts";
import { type KubernetesObject, keyOf } from "../../../scripts/cluster/cluster.ts";
import {
  CONFIG_HASH,
  containersOf,
  imagesOf,
  loadManifests,
  podNamespaces,
  podTemplateOf,
  referencesOf,
  withHashes,
  withImages,
  withPullSecret,
} from "../../../scripts/deploy/manifests.ts";
import { contentsOf, fillSecrets, generate, type SecretSources } from "../../../scripts/deploy/secrets.ts";
import { loadStages, STAGES } from "../../../scripts/deploy/stages.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const secret = (name: string, annotations: Record<string, string>): KubernetesObject => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace: "conveyor", annotations },
});
const sources = (given: Partial<SecretSources> = {}): SecretSources => ({
  file: async (name) => `content of ${name}`,
  live: async () => undefined,
  random: (bytes) => Buffer.alloc(bytes, 0xab),
  ...given,
});
const dataOf = (object: KubernetesObject | undefined) => object?.data as Record<string, string> | undefined;
const decode = (value: string | undefined) => Buffer.from(value ?? "", "base64").toString();

describe("fillSecrets", () => {
  test("fills entries from files", async () => {
    const [filled] = await fillSecrets(
      [secret("tls", { "conveyor.dev/fill-from": "tls.crt=a.crt,ca.crt=ca.crt" })],
      sources(),
    );
    expect(Object.keys(dataOf(filled)!)).toEqual(["tls.crt", "ca.crt"]);
    expect(decode(dataOf(filled)!["tls.crt"])).toBe("content of a.crt");
  });

  test("names every missing file and the command to run, exit 3", async () => {
    const error = await fillSecrets(
      [secret("a", { "conveyor.dev/fill-from": "x=one" }), secret("b", { "conveyor.dev/fill-from": "y=two" })],
      sources({ file: async () => undefined }),
    ).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(OperatorError);
    expect(error).toMatchObject({
      message: "certificates are missing: one (for a), two (for b)",
      exitCode: 3,
      hint: expect.stringContaining("put ca.key beside ca.crt for this run"),
    });
  });

  test("generates missing entries and keeps those of the cluster", async () => {
    const object = secret("token", { "conveyor.dev/generate": "token=random-hex-32,name=literal:admin" });
    const [fresh] = await fillSecrets([object], sources());
    expect(decode(dataOf(fresh)!.token)).toBe("ab".repeat(32));
    expect(decode(dataOf(fresh)!.name)).toBe("admin");
    const [kept] = await fillSecrets([object], sources({ live: async () => ({ token: "standing", name: "" }) }));
    expect(decode(dataOf(kept)!.token)).toBe("standing");
    expect(decode(dataOf(kept)!.name)).toBe("admin");
  });

  test("fills an annotated ConfigMap in plain text, next to its own entries", async () => {
    const map = {
      ...secret("trust", { "conveyor.dev/fill-from": "ca.crt=ca.crt" }),
      kind: "ConfigMap",
      data: { client: "x" },
    };
    const [filled] = await fillSecrets([map], sources());
    expect(dataOf(filled)).toEqual({ client: "x", "ca.crt": "content of ca.crt" });
    expect(contentsOf([filled!])).toEqual({});
    await expect(fillSecrets([map], sources({ file: async () => undefined }))).rejects.toThrow(
      "certificates are missing: ca.crt (for trust)",
    );
  });

  test("returns Secrets that others fill without data, and other objects unchanged", async () => {
    const theirs = secret("scoped", { "conveyor.dev/filled-by": "setup" });
    const map = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "m" }, data: { a: "1" } };
    const filled = await fillSecrets([theirs, map], sources({ live: async () => ({ token: "x" }) }));
    expect(filled).toEqual([theirs, map]);
    expect("data" in filled[0]!).toBe(false);
  });

  test.each([
    [{}, /must have one of .*; has none/],
    [{ "conveyor.dev/generate": "a=literal:b", "conveyor.dev/fill-from": "a=b" }, /must have one of/],
    [{ "conveyor.dev/generate": "a" }, /must be KEY=SOURCE, separated by commas; got "a"/],
    [{ "conveyor.dev/generate": "a=dice" }, /generator must be .*; got "dice"/],
  ])("rejects invalid annotations: %j", async (annotations, message) => {
    await expect(fillSecrets([secret("s", annotations as Record<string, string>)], sources())).rejects.toThrow(message);
  });

  test("does not modify its input", async () => {
    const object = secret("tls", { "conveyor.dev/fill-from": "a=b" });
    const before = structuredClone(object);
    await fillSecrets([object], sources());
    expect(object).toEqual(before);
  });

  test("contentsOf returns the decoded entries of filled Secrets", async () => {
    const filled = await fillSecrets(
      [secret("tls", { "conveyor.dev/fill-from": "a=b" }), secret("t", { "conveyor.dev/filled-by": "setup" })],
      sources(),
    );
    expect(contentsOf(filled)).toEqual({ tls: { a: "content of b" } });
  });
});

describe("generate", () => {
  test("a Kafka cluster id has 22 characters of URL-safe base64 and no leading dash", () => {
    for (let count = 0; count < 500; count++)
      expect(generate("kafka-cluster-id")).toMatch(/^[A-Za-z0-9_][A-Za-z0-9_-]{21}$/);
    expect(generate("kafka-cluster-id", (bytes) => Buffer.alloc(bytes, 0xfb))).toMatch(/^A/);
  });

  test("random values differ", () => {
    expect(generate("random-hex-32")).not.toBe(generate("random-hex-32"));
    expect(generate("random-hex-32")).toMatch(/^[0-9a-f]{64}$/);
  });
});

describe("withHashes", () => {
  const deployment = (image = "x:1"): KubernetesObject => ({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "d" },
    spec: {
      template: {
        metadata: { annotations: { other: "kept" } },
        spec: {
          containers: [{ name: "c", image, envFrom: [{ configMapRef: { name: "map" } }] }],
          volumes: [{ name: "s", secret: { secretName: "tls" } }],
        },
      },
    },
  });
  const map = (value: string): KubernetesObject => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "map" },
    data: { b: value, a: "1" },
  });
  const hashOf = (object: KubernetesObject, value = "2", tls: Record<string, string> = { k: "v" }, digest?: string) =>
    podTemplateOf(
      withHashes([object], {
        configuration: [map(value)],
        secrets: { tls, unused: { x: "y" } },
        ...(digest ? { imageDigests: { "x:1": digest } } : {}),
      })[0]!,
    )?.metadata?.annotations;

  test("changes exactly with the ConfigMap, the Secret, the image and its digest", () => {
    const base = hashOf(deployment())!;
    expect(base.other).toBe("kept");
    expect(base[CONFIG_HASH]).toMatch(/^[0-9a-f]{16}$/);
    const others = [
      hashOf(deployment(), "3"),
      hashOf(deployment(), "2", { k: "w" }),
      hashOf(deployment(), "2", { k: "v", l: "" }),
      hashOf(deployment("x:2")),
      hashOf(deployment(), "2", { k: "v" }, "sha256:1"),
      hashOf(deployment(), "2", { k: "v" }, "sha256:2"),
    ].map((annotations) => annotations?.[CONFIG_HASH]);
    expect(new Set([base[CONFIG_HASH], ...others]).size).toBe(7);
    expect(hashOf(deployment())![CONFIG_HASH]!).toBe(base[CONFIG_HASH]!);
    const relabelled = { ...deployment(), metadata: { name: "d", labels: { a: "b" } } };
    expect(hashOf(relabelled)![CONFIG_HASH]!).toBe(base[CONFIG_HASH]!);
  });

  test("does not depend on the order of keys", () => {
    expect(hashOf(deployment(), "2", { a: "1", b: "2" })).toEqual(hashOf(deployment(), "2", { b: "2", a: "1" }));
  });

  test("throws for a ConfigMap or Secret of unknown content", () => {
    expect(() => withHashes([deployment()], { configuration: [map("1")], secrets: {} })).toThrow(
      "Deployment/d: content of Secret tls is unknown",
    );
    expect(() => withHashes([deployment()], { configuration: [], secrets: { tls: {} } })).toThrow(
      "Deployment/d: ConfigMap map is in no manifest",
    );
  });

  test("every workload of k8s/ gets a hash from the contents that deploy has", async () => {
    const filled = await fillSecrets(await loadManifests(), sources());
    const scoped = filled.filter(({ kind, data }) => kind === "Secret" && !data);
    const secrets = {
      ...contentsOf(filled),
      ...Object.fromEntries(scoped.map(({ metadata }) => [metadata.name, { token: "t" }])),
    };
    const hashed = withHashes(filled, { configuration: filled, secrets });
    for (const object of hashed) {
      const template = podTemplateOf(object);
      if (template) expect(template.metadata?.annotations?.[CONFIG_HASH]).toBeTruthy();
    }
  });
});

describe("images", () => {
  test("are listed once and replaced in copies", async () => {
    const objects = await loadManifests();
    const before = imagesOf(objects);
    expect(new Set(before).size).toBe(before.length);
    const moved = withImages(objects, (reference) => reference.replace(/^[^/]+\//, "registry.example/conveyor/"));
    expect(imagesOf(moved).every((reference) => reference.startsWith("registry.example/conveyor/"))).toBe(true);
    expect(imagesOf(objects)).toEqual(before);
  });

  test("images that no registry has are never pulled; those that were pushed are", async () => {
    const containers = (objects: KubernetesObject[]) =>
      objects.flatMap((object) => {
        const spec = podTemplateOf(object)?.spec;
        return spec ? containersOf(spec) : [];
      });
    const objects = await loadManifests();
    const loaded = containers(withImages(objects, (reference) => reference));
    const own = loaded.filter(({ image }) => image.startsWith("conveyor.invalid/"));
    expect(own.length).toBeGreaterThan(4);
    expect(own.filter(({ imagePullPolicy }) => imagePullPolicy !== "Never")).toEqual([]);
    const pushed = containers(withImages(objects, (reference) => reference.replace(/^[^/]+/, "registry.example")));
    const others = loaded.filter(({ image }) => !image.startsWith("conveyor.invalid/"));
    expect([...pushed, ...others].filter(({ imagePullPolicy }) => imagePullPolicy !== "IfNotPresent")).toEqual([]);
  });

  test("withPullSecret: every pod gets the Secret from its service account, one-off pods too", async () => {
    const objects = withPullSecret(await loadManifests(), "regcred");
    const accounts = new Map(
      objects.flatMap((object) => (object.kind === "ServiceAccount" ? [[keyOf(object), object] as const] : [])),
    );
    const needed = [
      // One-off pods name the account of their part, or none.
      ...["default", "ingest"].map((name) => ["conveyor", name]),
      ...objects.flatMap((object) => {
        const spec = podTemplateOf(object)?.spec;
        return spec ? [[object.metadata.namespace!, spec.serviceAccountName!]] : [];
      }),
    ];
    for (const [namespace = "", name = ""] of needed) {
      const account = { apiVersion: "v1", kind: "ServiceAccount", metadata: { namespace, name } };
      expect([namespace, name, accounts.get(keyOf(account))?.imagePullSecrets]).toEqual([
        namespace,
        name,
        [{ name: "regcred" }],
      ]);
    }
    expect(podNamespaces(objects)).toEqual(["conveyor", "conveyor-logging"]);
  });

  test("referencesOf finds every kind of reference of a pod", () => {
    expect(
      referencesOf({
        containers: [
          {
            name: "c",
            image: "x:1",
            env: [
              { name: "A", valueFrom: { secretKeyRef: { name: "s1" } } },
              { name: "B", valueFrom: { configMapKeyRef: { name: "m1" } } },
            ],
            envFrom: [{ secretRef: { name: "s2" } }],
          },
        ],
        initContainers: [{ name: "i", image: "x:1", envFrom: [{ configMapRef: { name: "m2" } }] }],
        volumes: [
          { name: "a", secret: { secretName: "s3" } },
          { name: "b", configMap: { name: "m3" } },
          {
            name: "c",
            projected: { sources: [{ secret: { name: "s4" } }, { configMap: { name: "kube-root-ca.crt" } }] },
          },
        ],
      }),
    ).toEqual({ configMaps: ["m1", "m2", "m3"], secrets: ["s1", "s2", "s3", "s4"] });
  });
});

describe("stages", () => {
  const root = temporaryFolder();
  const folderWith = async (paths: string[]) => {
    const folder = await mkdtemp(join(root, "stages-"));
    for (const path of paths) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      const isGenerator = path.endsWith("kustomization.yaml");
      await writeFile(
        join(folder, path),
        isGenerator ? "configMapGenerator: []\n" : "apiVersion: v1\nkind: X\nmetadata: {name: x}\n",
      );
    }
    return folder;
  };
  const all = STAGES.flatMap(({ files }) => files);

  test("order: policies before pods, Secrets before workloads, setup before the users of its tokens", async () => {
    const order = (await loadStages()).flatMap((stage) =>
      stage.objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`),
    );
    const at = (ref: string) => {
      expect(order).toContain(ref);
      return order.indexOf(ref);
    };
    expect(at("Namespace/conveyor")).toBe(0);
    expect(at("NetworkPolicy/default-deny")).toBeLessThan(at("StatefulSet/kafka"));
    expect(at("ServiceAccount/kafka")).toBeLessThan(at("StatefulSet/kafka"));
    expect(at("Secret/kafka-tls")).toBeLessThan(at("StatefulSet/kafka"));
    expect(at("StatefulSet/kafka")).toBeLessThan(at("Job/setup"));
    expect(at("StatefulSet/influxdb")).toBeLessThan(at("Job/setup"));
    expect(at("Job/setup")).toBeLessThan(at("Deployment/processor"));
    expect(at("Deployment/processor")).toBeLessThan(at("StatefulSet/producer"));
  });

  test("loadStages names a file in no stage and a missing file of a stage", async () => {
    await expect(loadStages(await folderWith([...all, "extra/thing.yaml"]))).rejects.toThrow(
      "in no stage of scripts/deploy/stages.ts: extra/thing.yaml",
    );
    await expect(loadStages(await folderWith(all.slice(1)))).rejects.toThrow(
      "stage foundation: k8s/foundation/namespace.yaml is missing",
    );
  });
});
