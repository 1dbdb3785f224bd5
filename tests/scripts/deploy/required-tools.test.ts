/** Tools that a deploy to an existing cluster needs, on machines without Debian's and Maven's programs. */
import { beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { requireTools } from "../../../scripts/deploy/deployment.ts";
import { platformsOf, readFacts } from "../../../scripts/deploy/facts.ts";
import { setEnvironment } from "../../environment.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { FakeCluster } from "./fake-cluster.ts";

test("platforms: those of the Linux nodes, each once; unknown where nodes cannot be listed", async () => {
  const node = (name: string, operatingSystem: string, architecture: string) => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name },
    spec: {},
    status: { nodeInfo: { operatingSystem, architecture } },
  });
  const cluster = new FakeCluster([]).add(
    node("a", "linux", "arm64"),
    node("b", "linux", "amd64"),
    node("c", "linux", "arm64"),
    node("d", "windows", "amd64"),
  );
  const platforms = async () => platformsOf(await readFacts(cluster, AbortSignal.timeout(5000)));
  expect(await platforms()).toEqual(["linux/amd64", "linux/arm64"]);
  cluster.unknownResources.add("nodes");
  expect(await platforms()).toBeUndefined();
});

describe("requireTools", () => {
  const folder = temporaryFolder();
  setEnvironment({ PATH: folder, XDG_CACHE_HOME: join(folder, "cache"), CONVEYOR_MAVEN_REPOSITORY: "" });
  beforeEach(async () => {
    process.env.PATH = await mkdtemp(join(folder, "bin-"));
  });
  const install = async (...names: string[]) => {
    for (const name of names) await writeFile(join(process.env.PATH!, name), "#!/bin/sh\necho 1.0\n", { mode: 0o755 });
  };
  const missing = async (options: Parameters<typeof requireTools>[1], context = "staging"): Promise<string[]> => {
    const error = await requireTools(context, options).then(
      () => undefined,
      (thrown) => thrown,
    );
    expect(error?.exitCode ?? 3).toBe(3);
    return [...(error?.message ?? "").matchAll(/^ {2}- (\S+) is not installed/gm)].map(([, name]) => name);
  };

  test("all missing tools are listed together, for the target alone", async () => {
    expect(await missing({ registry: "registry.lan/team" })).toEqual(["kubectl", "openssl", "mvn", "buildah"]);
    expect(await missing({ kind: "dev" })).toEqual(["kubectl", "openssl", "kind", "mvn", "buildah"]);
    expect(await missing({}, "kind-dev")).toEqual(["kubectl", "openssl", "kind", "mvn", "buildah"]);
    // The nodes pull every image, or the deploy says that they cannot.
    expect(await missing({})).toEqual(["kubectl", "openssl"]);
  });

  test.each(["docker", "podman", "buildah"])(
    "kubectl, openssl, Maven and %s are enough for a registry",
    async (tool) => {
      await install("kubectl", "openssl", "mvn", tool);
      expect(await missing({ registry: "registry.lan/team" })).toEqual([]);
    },
  );

  test("the address of a Maven repository stands in for Maven", async () => {
    await install("kubectl", "openssl", "docker");
    expect(await missing({ registry: "registry.lan/team" })).toEqual(["mvn"]);
    process.env.CONVEYOR_MAVEN_REPOSITORY = "https://maven.lan";
    expect(await missing({ registry: "registry.lan/team" })).toEqual([]);
    process.env.CONVEYOR_MAVEN_REPOSITORY = "";
  });
});
