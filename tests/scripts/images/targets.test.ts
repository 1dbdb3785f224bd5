import { beforeAll, describe, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { targetOf } from "../../../scripts/build-images.ts";
import { archiveName, checkPrefix, openTarget, pushReference } from "../../../scripts/images/targets.ts";
import { setEnvironment } from "../../environment.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { silentReport } from "../cli/silent-report.ts";

describe("checkPrefix", () => {
  test.each(["registry.lan", "registry.lan:5000/belts", "127.0.0.1:5000/a/b-c/d_e", "localhost/x", "[::1]:5000/x"])(
    "takes %s",
    (prefix) => {
      expect(checkPrefix(`${prefix}/`)).toBe(prefix);
    },
  );
  test.each(["https://registry.lan/x", "belts", "registry.lan/Belts", "registry.lan/x:1", "registry.lan//x", ""])(
    'refuses "%s", naming the flag, the rule and the value',
    (prefix) => {
      expect(() => checkPrefix(prefix)).toThrow(`--registry: must be HOST[:PORT]/PATH`);
      expect(() => checkPrefix(prefix)).toThrow(`got "${prefix}"`);
    },
  );
});

test("pushReference keeps the path of the image without its registry", () => {
  expect(pushReference("registry.lan:5000/belts", "docker.io/apache/kafka:4.3.1")).toBe(
    "registry.lan:5000/belts/apache/kafka:4.3.1",
  );
  // Apart from other images of a team that are named "services".
  expect(pushReference("registry.lan/team", "conveyor.invalid/services:1.0.0")).toBe(
    "registry.lan/team/conveyor/services:1.0.0",
  );
});

test("archiveName: different references have different file names", () => {
  expect(archiveName("docker.io/apache/kafka:4.3.1")).toBe("apache-kafka-4.3.1.tar");
  expect(archiveName("docker.io/library/influxdb:2.9.1")).toBe("library-influxdb-2.9.1.tar");
});

describe("targetOf", () => {
  test("accepts at most one target", () => {
    expect(targetOf({ local: false })).toEqual({ kind: "cache" });
    expect(targetOf({ local: false, kind: "dev" })).toEqual({ kind: "kind", name: "dev" });
    expect(() => targetOf({ local: true, registry: "r.lan/x" })).toThrow(
      /only one may be given; got --local --registry/,
    );
  });
});

describe("openTarget", () => {
  setEnvironment({ PATH: "/nonexistent" });

  test("without the kind program: exit 3, names the tool", async () => {
    const error = await openTarget({ kind: "kind", name: "dev" }).catch((thrown) => thrown);
    expect(error.exitCode).toBe(3);
    expect(error.message).toContain("kind is not installed");
  });
});

// The tool's output after a push decides the reference; registry.test.ts has a real registry, where one is installed.
describe("a pushed reference", () => {
  const folder = temporaryFolder();
  setEnvironment({ PATH: `${folder}:${process.env.PATH}`, XDG_CACHE_HOME: join(folder, "cache") });
  const [ref, pushed] = ["conveyor.invalid/services:1.0.0", "registry.lan/belts/conveyor/services:1.0.0"];
  const image = { ref, path: "services.tar", id: `sha256:${"c".repeat(64)}`, named: true, key: "inputs" };
  const digests = [`sha256:${"1".repeat(64)}`, `sha256:${"2".repeat(64)}`];

  beforeAll(async () => {
    // `docker info` prints a version, `docker image inspect` the digests.
    const script = `case "$1 $2" in info*) echo 28.2.2 ;; "image inspect") cat ${folder}/digests ;; esac`;
    await writeFile(join(folder, "docker"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  });
  const push = async (digest?: string) => {
    const reported = digest ? [`registry.lan/belts/conveyor/services@${digest}`] : [];
    await writeFile(join(folder, "digests"), JSON.stringify(reported));
    const target = await openTarget({ kind: "registry", prefix: "registry.lan/belts" }, "docker");
    return { target, delivery: await target.deliver(image, silentReport()) };
  };

  test("names the content: the same tag with another content is another reference", async () => {
    for (const digest of digests) {
      const { target, delivery } = await push(digest);
      expect(delivery).toEqual({ digest, pushedRef: `${pushed}@${digest}` });
      expect(await target.expect!(ref, "inputs")).toEqual(delivery);
      expect(await target.expect!(ref, "other inputs")).toEqual({ pushedRef: pushed });
    }
  });

  test("is an error where the tool does not report the digest", async () => {
    const error = (await push().catch((thrown) => thrown)) as Error;
    expect(error.message).toBe(`${pushed} could not be pushed`);
    expect((error.cause as Error).message).toBe("docker did not report the digest of the pushed image");
  });
});
