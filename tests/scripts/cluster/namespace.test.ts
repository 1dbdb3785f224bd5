import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { checkNamespace, chooseNamespace, textInNamespace } from "../../../scripts/cluster/namespace.ts";
import { DASHBOARD_FOLDER, DASHBOARD_NAMES } from "../../../scripts/dashboards/definitions.ts";
import { loadManifestFiles, MANIFEST_FOLDER } from "../../../scripts/deploy/manifests.ts";

describe("the namespace of a process", () => {
  const remembered = () => ({ context: "staging", namespaces: { staging: "belts", "kind-dev": "fans" } });
  const choose = (line: string, environment: Record<string, string> = {}) =>
    chooseNamespace(line.split(" "), environment, remembered);

  test.each([
    ["--namespace pumps --context other", {}, "pumps"],
    ["--namespace=pumps", {}, "pumps"],
    ["--context other", { CONVEYOR_NAMESPACE: "fans" }, "fans"],
    ["--context other", {}, "conveyor"],
    ["--context staging", {}, "belts"],
    ["--local", {}, "conveyor"],
    ["--local --namespace pumps", {}, "pumps"],
    ["--json", {}, "belts"],
    ["--json", { CONVEYOR_CONTEXT: "other" }, "conveyor"],
    ["--kind dev", {}, "fans"],
    ["--kind=new", {}, "conveyor"],
    ["--auto", {}, "conveyor"],
  ])("of %p with %p is %p", (line, environment, namespace) => {
    expect(choose(line, environment as Record<string, string>)).toBe(namespace);
  });

  test("of npm start is that of its own kind cluster, where the last deploy made one", () => {
    const own = () => ({ context: "kind-conveyor", namespaces: { "kind-conveyor": "plant" } });
    expect(chooseNamespace(["--auto"], {}, own, false)).toBe("plant");
    expect(chooseNamespace(["--auto"], {}, own, true)).toBe("conveyor");
  });

  test("of the first deploy is conveyor", () => {
    expect(chooseNamespace([], {}, () => ({}))).toBe("conveyor");
  });
});

test.each(["a", "telemetry", "team-1-belts", "a".repeat(54)])("%p is accepted", (namespace) => {
  expect(() => checkNamespace(namespace)).not.toThrow();
});

test.each(["", "1st", "Belts", "belts-", "a_b", "a".repeat(55)])("%p is refused with the rule", (namespace) => {
  expect(() => checkNamespace(namespace)).toThrow(`at most 54 characters; got "${namespace}"`);
});

describe("the objects of k8s/ in another namespace", async () => {
  const [before, after] = await Promise.all(
    ["conveyor", "pumps"].map(async (namespace) =>
      (await loadManifestFiles(MANIFEST_FOLDER, namespace)).flatMap(({ objects }) => objects),
    ),
  );

  test("belong to it, or carry its name", () => {
    for (const { kind, metadata } of after!) {
      const owner = metadata.namespace ?? metadata.labels?.["conveyor.dev/namespace"] ?? metadata.name;
      expect([kind, metadata.name, owner]).toEqual([kind, metadata.name, expect.stringMatching(/^pumps(-logging)?$/)]);
    }
    const clusterWide = after!.filter(({ metadata }) => metadata.namespace === undefined);
    for (const { metadata } of clusterWide) expect(metadata.name).toStartWith("pumps");
  });

  test("do not refer to the default one", () => {
    // What keeps the word: the project's label and annotation keys, metrics, topics, the organization of InfluxDB, the event.
    const namespace =
      /conveyor-logging|\.conveyor\.svc|namespaces?\b\W{1,8}conveyor\b(?!\.dev)|-n conveyor\b|\bconveyor[|,]conveyor|conveyor-(prometheus|promtail|vlagent)/;
    const texts: string[] = [];
    const collect = (value: unknown, path: string): void => {
      if (typeof value === "string") {
        for (const line of value.split("\n")) if (namespace.test(line)) texts.push(`${path}: ${line.trim()}`);
      } else if (value !== null && typeof value === "object") {
        for (const [name, entry] of Object.entries(value)) {
          // Name and instance label an object that belongs to no component.
          if (!/^app\.kubernetes\.io\//.test(name)) collect(entry, `${path}.${name}`);
        }
      }
    };
    for (const object of after!) collect(object, `${object.kind}/${object.metadata.name}`);
    expect(texts).toEqual([]);
    for (const name of DASHBOARD_NAMES) {
      const text = textInNamespace(readFileSync(join(DASHBOARD_FOLDER, `${name}.json`), "utf8"), "pumps");
      expect(text.split("\n").filter((line) => namespace.test(line))).toEqual([]);
    }
  });

  test("differ in nothing else: renamed back they are those of the default namespace", () => {
    const renamedBack = JSON.stringify(after).replaceAll("pumps", "conveyor");
    expect(renamedBack).toBe(JSON.stringify(before));
  });
});
