import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stateFolder } from "../../../scripts/cli/paths.ts";
import { waitFor } from "../../../scripts/cli/wait.ts";
import { processesInCgroup } from "../../../scripts/local-cluster/cgroups.ts";
import { kubeconfigPath, status } from "../../../scripts/local-cluster/index.ts";
import { difference, findLeftovers, type Snapshot, snapshot } from "../../../scripts/local-cluster/leftovers.ts";
import { endProcesses, markedProcesses } from "../../../scripts/local-cluster/processes.ts";
import { cluster, describeOnOwnCluster, script } from "../harness.ts";

/** With built parts, up takes half a minute; some minutes on a busy machine. */
const LIMIT_MS = 300_000;
const NAMESPACE = "local-cluster-test";

const run = async (...args: string[]) => {
  const result = await script(["scripts/local-cluster.ts", ...args], { limitMs: LIMIT_MS });
  if (result.exitCode !== 0)
    throw new Error(`${args.join(" ")} ended with ${result.exitCode}: ${result.stderr.slice(-3000)}`);
  return result;
};

/** A snapshot without processes and namespaces, which other programs of the machine create and end. */
const lasting = ({ processes: _, namespaces: __, ...rest }: Snapshot) => ({ ...rest, processes: [], namespaces: [] });

const volumeFolders = () => readdir(join(stateFolder(), "volumes")).catch(() => [] as string[]);

/** The volume of this test. */
let volume = "";

/** Creates a claim in a new namespace and writes a file into its folder, like a pod. Returns the file. */
async function makeVolume(): Promise<string> {
  const { kubectl } = await cluster().then((it) => ({ kubectl: it.kubectl.bind(it) }));
  const before = await volumeFolders();
  const items = [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } },
    {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name: "data", namespace: NAMESPACE },
      spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Mi" } } },
    },
  ];
  await kubectl(["apply", "-f", "-"], { input: JSON.stringify({ apiVersion: "v1", kind: "List", items }) });
  const wait = ["wait", "--for=jsonpath={.status.phase}=Bound", "pvc/data", "-n", NAMESPACE, "--timeout=60s"];
  await kubectl(wait, { timeoutMs: 70_000 });
  const folder = (await volumeFolders()).find((name) => !before.includes(name));
  if (!folder) throw new Error("the claim is bound but has no folder");
  volume = folder;
  const file = join(stateFolder(), "volumes", folder, "kept");
  await writeFile(file, "data");
  return file;
}

const claimPhase = async () => {
  const { stdout } = await (await cluster()).kubectl([
    "get",
    "pvc",
    "data",
    "-n",
    NAMESPACE,
    "-o",
    "jsonpath={.status.phase}",
  ]);
  return stdout;
};

const containerOf = async (label: string) => {
  const list = await (await cluster()).list("pods", label, "kube-system");
  const pod = list[0] as unknown as { status: { containerStatuses?: { containerID?: string }[] } };
  return pod?.status.containerStatuses?.[0]?.containerID;
};

describeOnOwnCluster("local cluster", () => {
  beforeAll(async () => {
    await run("up");
  }, LIMIT_MS);
  afterAll(async () => {
    await run("down", "--delete-data");
  }, LIMIT_MS);

  test("up on a running cluster changes nothing", async () => {
    const before = await status();
    const container = await containerOf("k8s-app=kube-dns");
    await run("up", "--quiet");
    expect((await status()).programs).toEqual(before.programs);
    expect(await containerOf("k8s-app=kube-dns")).toBe(container);
  });

  test(
    "up restarts killed kubelet, API server and etcd without restarting a container",
    async () => {
      const container = await containerOf("k8s-app=kube-dns");
      expect(container).toBeDefined();
      const killed = (await markedProcesses(stateFolder())).filter(({ command }) =>
        ["/kubelet ", "/kube-apiserver ", "/etcd "].some((name) => command.includes(name)),
      );
      expect(killed.length).toBe(3);
      await endProcesses(killed, { signal: "SIGKILL" });
      expect((await status()).state).toBe("degraded");
      await run("up");
      expect((await status()).state).toBe("ready");
      expect(await containerOf("k8s-app=kube-dns")).toBe(container);
    },
    LIMIT_MS,
  );

  test(
    "up restores a cluster with all processes killed, with objects and volume data",
    async () => {
      const file = await makeVolume();
      const all = [...(await markedProcesses(stateFolder())), ...(await processesInCgroup())];
      expect(all.length).toBeGreaterThan(10);
      await endProcesses(all, { signal: "SIGKILL" });
      await run("up");
      expect((await status()).state).toBe("ready");
      expect(await claimPhase()).toBe("Bound");
      expect(existsSync(file)).toBe(true);
    },
    LIMIT_MS,
  );

  test(
    "down ends all processes and keeps the data, and up restores objects and volumes",
    async () => {
      const { stdout } = await run("down", "--json");
      expect(JSON.parse(stdout)).toEqual({ was_there: true, kept_data: true, removed_volumes: 0 });
      expect(await findLeftovers(stateFolder())).toEqual([]);
      expect((await status()).state).toBe("stopped");
      await run("up");
      expect(await claimPhase()).toBe("Bound");
      expect(await volumeFolders()).toContain(volume);
    },
    LIMIT_MS,
  );

  test(
    "deleting a claim removes its folder",
    async () => {
      await (await cluster()).kubectl(["delete", "namespace", NAMESPACE, "--wait", "--timeout=90s"], {
        timeoutMs: 100_000,
      });
      const check = async () => {
        const exists = (await volumeFolders()).includes(volume);
        return exists ? { done: false as const, state: "it exists" } : { done: true as const, value: true };
      };
      await waitFor(check, { what: "the volume's folder to be removed", limitMs: 30_000 });
    },
    LIMIT_MS,
  );

  test(
    "down --delete-data leaves no process, mount, link, namespace, cgroup, route, rule or data, twice in a row",
    async () => {
      await run("down", "--delete-data");
      const clean = await snapshot();
      for (let round = 0; round < 2; round++) {
        await run("up");
        await run("down", "--delete-data");
        expect(await findLeftovers(stateFolder())).toEqual([]);
        expect(difference(lasting(clean), lasting(await snapshot()))).toEqual({});
        const again = await run("down", "--delete-data", "--json");
        expect(JSON.parse(again.stdout)).toEqual({ was_there: false, kept_data: false, removed_volumes: 0 });
      }
      expect(existsSync(kubeconfigPath())).toBe(false);
      expect((await status()).state).toBe("absent");
    },
    LIMIT_MS,
  );
});
