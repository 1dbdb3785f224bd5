import { describe, expect, test } from "bun:test";
import { basename } from "node:path";
import { Glob } from "bun";
import { version } from "kafkajs/package.json";
import { checkKafkajs, PATCHED_VERSION, PATCHES } from "../../../../services/kafka/patches/index.ts";
import { PATCHED } from "./fixtures.ts";

const ROOT = `${import.meta.dir}/../../../..`;

describe("checkKafkajs", () => {
  test("accepts the installed version and its members", () => {
    expect(() => checkKafkajs(version, PATCHES)).not.toThrow();
  });

  test("another version is an error that names it and the remedy", () => {
    expect(() => checkKafkajs("2.3.0", PATCHES)).toThrow(
      "kafkajs 2.3.0 is installed, but the patches are for 2.2.4: install kafkajs 2.2.4, or adapt services/kafka/patches",
    );
  });

  test("a missing member is an error that names it, its patch and the remedy", () => {
    const missing = { name: "Connection.sendAll", exists: () => false };
    const patch = { id: "example", members: [missing], install() {} };
    expect(() => checkKafkajs(PATCHED_VERSION, [...PATCHES, patch])).toThrow(
      "kafkajs 2.2.4 has no Connection.sendAll (patch example): install kafkajs 2.2.4",
    );
  });
});

describe("PATCHES", () => {
  const ids = PATCHES.map(({ id }) => id);

  test("each patch has a file and a test with its id, and names at least one member", async () => {
    const names = async (folder: string, suffix: string) =>
      (await Array.fromAsync(new Glob(`*${suffix}`).scan(folder))).map((file) => basename(file, suffix));
    expect(await names(`${ROOT}/services/kafka/patches`, ".ts")).toEqual(expect.arrayContaining(ids));
    expect((await names(import.meta.dir, ".test.ts")).sort()).toEqual([...ids, "index"].sort());
    for (const { id, members } of PATCHES) expect(members.length, id).toBeGreaterThan(0);
  });

  test.each([
    ["connect-hangs", "stranded-request"],
    ["dead-broker-stops-all", "leader-moved-rejoins"],
    ["stays-when-joining", "forgotten-member-id"],
  ])("%s is installed before %s, which wraps the same member", (inner, outer) => {
    expect(ids.indexOf(inner)).toBeGreaterThanOrEqual(0);
    expect(ids.indexOf(inner)).toBeLessThan(ids.indexOf(outer));
  });

  test("kafkajs/src is imported below services/kafka and its tests only", async () => {
    const importers: string[] = [];
    for await (const file of new Glob("{services,scripts,bench,tests}/**/*.ts").scan(ROOT)) {
      if (file.startsWith("services/kafka/") || file.startsWith("tests/services/kafka/")) continue;
      if ((await Bun.file(`${ROOT}/${file}`).text()).includes('"kafkajs/src/')) importers.push(file);
    }
    expect(importers).toEqual([]);
  });

  test.skipIf(!PATCHED)("each patch has a test that fails without it", async () => {
    // In parallel: many tests wait HANGS_MS.
    const child = Bun.spawn([process.execPath, "test", "--parallel=8", `${import.meta.dir}/`], {
      env: { ...process.env, CONVEYOR_UNPATCHED: "1" },
      stdout: "pipe",
      stderr: "pipe",
    });
    const output = await new Response(child.stderr).text();
    expect(await child.exited).not.toBe(0);
    const failed = [...output.matchAll(/^\(fail\) ([\w-]+) > /gm)].map(([, name]) => name!);
    expect([...new Set(failed)].sort()).toEqual([...ids].sort());
  });
});
