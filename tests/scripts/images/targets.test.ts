import { beforeAll, describe, expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { platformsOf, targetOf } from "../../../scripts/build-images.ts";
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

test("platformsOf reads a list, and refuses anything else, naming flag, rule and value", () => {
  expect(platformsOf("linux/amd64,linux/arm/v7,linux/amd64")).toEqual(["linux/amd64", "linux/arm/v7"]);
  for (const wrong of ["amd64", "linux/amd64,", "windows/amd64", "linux/AMD64"]) {
    expect(() => platformsOf(wrong)).toThrow(
      "--platform: must be linux/ARCHITECTURE, several separated by commas; got",
    );
  }
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
  const archive = { path: "services.tar", id: `sha256:${"c".repeat(64)}` };
  const image = { ref, ...archive, named: true, key: "inputs", variants: [archive] };
  const digests = [`sha256:${"1".repeat(64)}`, `sha256:${"2".repeat(64)}`];

  beforeAll(async () => {
    // `docker info` prints a version, `docker image inspect` the digests.
    // A push of a list prints its digest.
    const script = `echo "$@" >> ${folder}/calls
      case "$1 $2" in
        info*) echo 28.2.2 ;;
        "image inspect") cat ${folder}/digests ;;
        "manifest push") echo ${digests[1]} ;;
      esac`;
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

  test("of nodes with several platforms is the list of an image for each", async () => {
    const reported = [`registry.lan/belts/conveyor/services@${digests[0]}`];
    await writeFile(join(folder, "digests"), JSON.stringify(reported));
    const target = await openTarget({ kind: "registry", prefix: "registry.lan/belts" }, "docker");
    await writeFile(join(folder, "calls"), "");
    const variants = ["linux/amd64", "linux/arm/v7"].map((platform, at) => ({
      ...archive,
      path: `${at}.tar`,
      platform,
    }));
    expect(await target.deliver({ ...image, variants }, silentReport())).toEqual({
      digest: digests[1]!,
      pushedRef: `${pushed}@${digests[1]}`,
    });
    const calls = (await readFile(join(folder, "calls"), "utf8")).split("\n");
    expect(calls.filter((call) => /^(load|push|manifest create)/.test(call))).toEqual([
      "load --input 0.tar",
      `push ${pushed}-linux-amd64`,
      "load --input 1.tar",
      `push ${pushed}-linux-arm-v7`,
      `manifest create ${pushed} ${reported[0]} ${reported[0]}`,
    ]);
  });

  test("is an error where the tool does not report the digest", async () => {
    const error = (await push().catch((thrown) => thrown)) as Error;
    expect(error.message).toBe(`${pushed} could not be pushed`);
    expect((error.cause as Error).message).toBe("docker did not report the digest of the pushed image");
  });
});
