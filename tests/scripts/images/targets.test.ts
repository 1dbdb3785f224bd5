import { describe, expect, test } from "bun:test";
import { targetOf } from "../../../scripts/build-images.ts";
import { archiveName, checkPrefix, openTarget, pushReference } from "../../../scripts/images/targets.ts";
import { setEnvironment } from "../../environment.ts";

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
