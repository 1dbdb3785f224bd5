/** The ConfigMaps of schemas that a deploy applies. */
import { describe, expect, test } from "bun:test";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { withSchemas } from "../../../scripts/deploy/event-schemas.ts";
import { CONFIG_HASH, podTemplateOf, withHashes } from "../../../scripts/deploy/manifests.ts";
import { MANAGED_BY } from "../../../scripts/deploy/plan.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";
import { PUMP_TEXT } from "../../schemas/pump.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { FakeCluster } from "./fake-cluster.ts";

const root = temporaryFolder();
const stages = await loadStages();
const warnings: string[] = [];
const report = { warn: (line: string) => void warnings.push(line) };

async function folderWith(name: string, files: Record<string, string>): Promise<string> {
  const folder = join(root, name);
  await mkdir(folder);
  await Promise.all(Object.entries(files).map(([file, text]) => writeFile(join(folder, file), text)));
  return folder;
}

const deployed = (data: Record<string, string>, labels = {}): KubernetesObject =>
  ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "event-schemas", namespace: "conveyor", labels },
    data,
  }) as KubernetesObject;

/** Entries of the two ConfigMaps after a deploy with a folder. */
async function applied(folder: string, ...live: KubernetesObject[]) {
  const changed = await withSchemas(new FakeCluster([]).add(...live), stages, {}, report, folder);
  const dataOf = (stage: string, name: string) =>
    changed.find((one) => one.name === stage)!.objects.find(({ metadata }) => metadata.name === name)?.data as
      | Record<string, string>
      | undefined;
  return { schemas: dataOf("producer", "event-schemas"), dashboards: dataOf("grafana", "grafana-schema-dashboards") };
}

test("without schemas there is no ConfigMap", async () => {
  expect(await applied(join(root, "nothing"))).toEqual({ schemas: undefined, dashboards: undefined });
});

test("the files of the folder are the ConfigMap's, and each schema has a dashboard", async () => {
  const files = { "pump.yaml": PUMP_TEXT, "settings.yaml": "unknownMeasurements: refuse\n" };
  const folder = await folderWith("two", { ...files, "README.md": "not applied" });
  const { schemas, dashboards } = await applied(folder, deployed({ "old.yaml": "x" }, MANAGED_BY));
  expect(schemas).toEqual(files);
  expect(Object.keys(dashboards!)).toEqual(["schema-pump.json"]);
  expect(JSON.parse(dashboards!["schema-pump.json"]!)).toMatchObject({ uid: "schema-pump", editable: false });
});

describe("a folder without files", () => {
  test("keeps the schemas of the last deploy, with their dashboards", async () => {
    const data = { "pump.yaml": PUMP_TEXT };
    const { schemas, dashboards } = await applied(join(root, "nothing"), deployed(data, MANAGED_BY));
    expect(schemas).toEqual(data);
    expect(Object.keys(dashboards!)).toEqual(["schema-pump.json"]);
  });

  test("leaves a ConfigMap of others alone", async () => {
    const { schemas, dashboards } = await applied(join(root, "nothing"), deployed({ "pump.yaml": PUMP_TEXT }));
    expect(schemas).toBeUndefined();
    expect(Object.keys(dashboards!)).toEqual(["schema-pump.json"]);
  });
});

test("a faulty file ends the deploy before anything is applied: exit 2, with file, place, rule and value", async () => {
  const folder = await folderWith("faulty", {
    "pump.yaml": PUMP_TEXT.replace("type: float", "type: real"),
    "b.yaml": "",
  });
  await expect(applied(folder)).rejects.toMatchObject({
    exitCode: 2,
    message: expect.stringMatching(
      /^schemas: b\.yaml: schema: must be a mapping.*pump\.yaml: fields\.flow_l_min\.type: /,
    ),
  });
});

test("dashboards beyond the size of a ConfigMap are named", async () => {
  const fields = Array.from({ length: 60 }, (_, index) => `  f${index}: { type: float }\n`).join("");
  const texts = Array.from({ length: 20 }, (_, index) => [
    `m${index}.yaml`,
    `measurement: m${index}\nfields:\n${fields}`,
  ]);
  const { dashboards } = await applied(await folderWith("many", Object.fromEntries(texts)));
  const bytes = Object.values(dashboards!).reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  expect(bytes).toBeLessThan(900_000);
  expect(Object.keys(dashboards!).length).toBeLessThan(20);
  expect(warnings.at(-1)).toStartWith("schemas without a dashboard in Grafana");
});

test("changed schemas restart no pod", () => {
  const producer = stages
    .flatMap(({ objects }) => objects)
    .find(({ kind, metadata }) => kind === "StatefulSet" && metadata.name === "producer")!;
  const hashWith = (data: Record<string, string>) => {
    const secrets = { "producer-tls": {}, "producer-intake": {} };
    const [hashed] = withHashes([producer], { configuration: [deployed(data)], secrets });
    return podTemplateOf(hashed!)!.metadata!.annotations![CONFIG_HASH];
  };
  expect(hashWith({ "pump.yaml": PUMP_TEXT })).toBe(hashWith({}));
});
