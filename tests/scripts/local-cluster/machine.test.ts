import { describe, expect, test } from "bun:test";
import { aptLine, compareVersions, missingTools } from "../../../scripts/cli/tools.ts";
import { isVersion1, parseHierarchies } from "../../../scripts/local-cluster/cgroups.ts";
import { parseDeb822, parseSourcesList, pickMirror } from "../../../scripts/local-cluster/debian.ts";
import { exemptFromProxies } from "../../../scripts/local-cluster/layout.ts";
import { difference, type Snapshot } from "../../../scripts/local-cluster/leftovers.ts";
import { foreignOwner } from "../../../scripts/local-cluster/plan.ts";
import { preflightError } from "../../../scripts/local-cluster/preflight.ts";

describe("foreignOwner", () => {
  const marked = (state: string) => `PATH=/bin\0CONVEYOR_LOCAL_CLUSTER=${state}\0HOME=/`;

  test("names the state folder of another cluster: neither up nor down may touch what is its", () => {
    expect(foreignOwner(marked("/b/conveyor/local-cluster"), "/a/conveyor/local-cluster")).toBe(
      "/b/conveyor/local-cluster",
    );
    expect(foreignOwner(marked("/b=c/local-cluster"), "/b/local-cluster")).toBe("/b=c/local-cluster");
  });

  test("is silent about its own processes and about those of nobody", () => {
    expect(foreignOwner(marked("/a/local-cluster"), "/a/local-cluster")).toBeUndefined();
    expect(foreignOwner("PATH=/bin\0HOME=/", "/a/local-cluster")).toBeUndefined();
    expect(foreignOwner("", "/a/local-cluster")).toBeUndefined();
  });
});

describe("tools", () => {
  test("all that are missing are named, each once, and what is there is not", async () => {
    const missing = await missingTools([
      { command: "sh", why: "is everywhere" },
      { command: "no-such-a", why: "a", aptPackage: "x" },
      { command: "no-such-b", why: "b", aptPackage: "x" },
      { command: "no-such-a", why: "again" },
    ]);
    expect(missing.map(({ command }) => command)).toEqual(["no-such-a", "no-such-b"]);
    expect(aptLine(missing)).toBe("apt-get install -y --no-install-recommends x");
  });

  test("one that is too old is missing, with the version found", async () => {
    const old = { command: "sh", why: "w", minVersion: "2.10.0", versionCommand: ["echo", "sh version 2.9.4"] };
    const [missing] = await missingTools([old]);
    expect(missing?.found).toBe("2.9.4");
    expect(await missingTools([{ ...old, minVersion: "2.9" }])).toEqual([]);
  });

  test("versions are compared as numbers", () => {
    expect(compareVersions("1.26.8", "1.26")).toBeGreaterThan(0);
    expect(compareVersions("1.9", "1.26")).toBeLessThan(0);
    expect(compareVersions("1.83.0", "1.83")).toBe(0);
  });

  test("the refusal lists every problem at once, the one command, and both other ways", () => {
    const error = preflightError(
      ["not run as root"],
      [
        { command: "ipset", why: "network policies", aptPackage: "ipset" },
        { command: "runc", why: "runs containers", aptPackage: "runc" },
      ],
    );
    expect(error.exitCode).toBe(3);
    for (const text of ["not run as root", "ipset", "runc"]) expect(error.message).toContain(text);
    expect(error.hint).toContain("apt-get install -y --no-install-recommends ipset runc");
    expect(error.hint).toContain("--context NAME");
    expect(error.hint).toContain("kind");
  });
});

describe("Debian mirror", () => {
  const sources = `Types: deb deb-src
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main
Enabled: no
`;

  test("is the machine's own, not the security archive, not a disabled one", () => {
    const mirror = pickMirror(parseDeb822(sources), "bookworm");
    expect(mirror).toEqual({
      uri: "http://mirror.example/debian",
      suites: ["bookworm", "bookworm-updates"],
      components: ["main", "contrib"],
      signedBy: "/usr/share/keyrings/debian-archive-keyring.gpg",
    });
  });

  test("is not a third party's archive that has a suite of the same name", () => {
    const list = `# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/x.gpg] https://third.example/linux bookworm stable
deb http://mirror.example/debian bookworm main non-free # ours`;
    expect(pickMirror(parseSourcesList(list), "bookworm")?.uri).toBe("http://mirror.example/debian");
    expect(pickMirror(parseSourcesList(list), "trixie")).toBeUndefined();
  });
});

describe("cgroup hierarchies", () => {
  test("of a machine with one per controller", () => {
    const text = `31 30 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 30 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
33 1 8:1 / / rw - ext4 /dev/sda1 rw`;
    const found = parseHierarchies(text);
    expect(found).toEqual([
      { mountPoint: "/sys/fs/cgroup/memory", version: 1, controllers: ["memory"] },
      { mountPoint: "/sys/fs/cgroup/unified", version: 2, controllers: [] },
    ]);
    expect(isVersion1(found)).toBe(true);
  });

  test("of a machine with a single one", () => {
    expect(isVersion1(parseHierarchies("31 30 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate"))).toBe(false);
  });
});

describe("a proxy of the person's own", () => {
  test("is not asked for the API server, and still for all that it was asked before", () => {
    const environment: Record<string, string | undefined> = {
      https_proxy: "http://proxy.example:3128",
      no_proxy: "a.example",
    };
    exemptFromProxies("198.19.0.2", environment);
    exemptFromProxies("198.19.0.2", environment);
    expect(environment.NO_PROXY).toBe("a.example,198.19.0.2");
    expect(environment.no_proxy).toBe("a.example,198.19.0.2");
  });

  test("where there is none nothing is set", () => {
    const environment: Record<string, string | undefined> = {};
    exemptFromProxies("198.19.0.2", environment);
    expect(environment).toEqual({});
  });
});

test("the difference of two snapshots is what was added, by kind", () => {
  const empty: Snapshot = {
    processes: [],
    mounts: ["a"],
    links: [],
    namespaces: [],
    cgroups: [],
    rules: [],
    routes: [],
  };
  expect(difference(empty, empty)).toEqual({});
  expect(difference(empty, { ...empty, mounts: ["a", "b"], rules: ["r"] })).toEqual({ mounts: ["b"], rules: ["r"] });
});
