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

  test("returns the state folder of another cluster", () => {
    expect(foreignOwner(marked("/b/conveyor/local-cluster"), "/a/conveyor/local-cluster")).toBe(
      "/b/conveyor/local-cluster",
    );
    expect(foreignOwner(marked("/b=c/local-cluster"), "/b/local-cluster")).toBe("/b=c/local-cluster");
  });

  test("returns undefined for own processes and for processes of no cluster", () => {
    expect(foreignOwner(marked("/a/local-cluster"), "/a/local-cluster")).toBeUndefined();
    expect(foreignOwner("PATH=/bin\0HOME=/", "/a/local-cluster")).toBeUndefined();
    expect(foreignOwner("", "/a/local-cluster")).toBeUndefined();
  });
});

describe("missingTools", () => {
  test("lists every missing tool once and no installed one", async () => {
    const missing = await missingTools([
      { command: "sh", why: "is everywhere" },
      { command: "no-such-a", why: "a", aptPackage: "x" },
      { command: "no-such-b", why: "b", aptPackage: "x" },
      { command: "no-such-a", why: "again" },
    ]);
    expect(missing.map(({ command }) => command)).toEqual(["no-such-a", "no-such-b"]);
    expect(aptLine(missing)).toBe("apt-get install -y --no-install-recommends x");
  });

  test("lists a tool that is too old with its version", async () => {
    const old = { command: "sh", why: "w", minVersion: "2.10.0", versionCommand: ["echo", "sh version 2.9.4"] };
    const [missing] = await missingTools([old]);
    expect(missing?.found).toBe("2.9.4");
    expect(await missingTools([{ ...old, minVersion: "2.9" }])).toEqual([]);
  });

  test("compareVersions compares numbers", () => {
    expect(compareVersions("1.26.8", "1.26")).toBeGreaterThan(0);
    expect(compareVersions("1.9", "1.26")).toBeLessThan(0);
    expect(compareVersions("1.83.0", "1.83")).toBe(0);
  });

  test("preflightError lists all problems, the install command and both alternatives", () => {
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

  test("is that of the machine, not the security archive and not a disabled one", () => {
    const mirror = pickMirror(parseDeb822(sources), "bookworm");
    expect(mirror).toEqual({
      uri: "http://mirror.example/debian",
      suites: ["bookworm", "bookworm-updates"],
      components: ["main", "contrib"],
      signedBy: "/usr/share/keyrings/debian-archive-keyring.gpg",
    });
  });

  test("is not a third-party archive with a suite of the same name", () => {
    const list = `# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/x.gpg] https://third.example/linux bookworm stable
deb http://mirror.example/debian bookworm main non-free # ours`;
    expect(pickMirror(parseSourcesList(list), "bookworm")?.uri).toBe("http://mirror.example/debian");
    expect(pickMirror(parseSourcesList(list), "trixie")).toBeUndefined();
  });
});

describe("parseHierarchies", () => {
  test("reads one hierarchy per controller", () => {
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

  test("reads a single hierarchy", () => {
    expect(isVersion1(parseHierarchies("31 30 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate"))).toBe(false);
  });
});

describe("exemptFromProxies", () => {
  test("exempts the API server and keeps earlier exemptions", () => {
    const environment: Record<string, string | undefined> = {
      https_proxy: "http://proxy.example:3128",
      no_proxy: "a.example",
    };
    exemptFromProxies("198.19.0.2", environment);
    exemptFromProxies("198.19.0.2", environment);
    expect(environment.NO_PROXY).toBe("a.example,198.19.0.2");
    expect(environment.no_proxy).toBe("a.example,198.19.0.2");
  });

  test("sets nothing without a proxy", () => {
    const environment: Record<string, string | undefined> = {};
    exemptFromProxies("198.19.0.2", environment);
    expect(environment).toEqual({});
  });
});

test("difference returns the added entries by kind", () => {
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
