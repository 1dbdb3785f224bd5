/**
 * validate passes on a healthy pipeline, and one real fault fails exactly the check of its subject. Each fault is
 * repaired by deploy.
 */
import { afterEach, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "zx";
import { waitFor } from "../../scripts/cli/wait.ts";
import { type Cluster, NAMESPACE, type Pod } from "../../scripts/cluster/cluster.ts";
import { STEP_OVER_GROUP } from "../../services/domain/kafka-layout.ts";
import { atRest, cluster, describeOnCluster, patchData, redeploy, validate } from "./harness.ts";
import { kafkaTool } from "./kafka-tool.ts";

const LIMIT_MS = 600_000;

let target: Cluster;
let broken = false;

/** Ids of the failed checks; checks that were not run depend on them and do not count. */
async function failedChecks(): Promise<{ exitCode: number; failed: string[] }> {
  const { exitCode, document } = await validate();
  return { exitCode, failed: document.checks.filter(({ status }) => status === "failed").map(({ id }) => id) };
}

describeOnCluster("validate", () => {
  beforeAll(async () => {
    target = await cluster();
    await atRest(target);
  }, LIMIT_MS);
  afterEach(async () => {
    if (broken) await redeploy();
    broken = false;
  }, LIMIT_MS);

  test(
    "a healthy pipeline passes every check",
    async () => {
      const { exitCode, document } = await validate();
      // Of an optional part: nobody outside the cluster sends here.
      const notExposed = expect.objectContaining({ id: "intake-exposed", status: "skipped" });
      expect(document.checks.filter(({ status }) => status !== "passed")).toEqual([notExposed]);
      expect({ exitCode, ok: document.ok, failed: document.failed }).toEqual({ exitCode: 0, ok: true, failed: 0 });
    },
    LIMIT_MS,
  );

  test(
    "InfluxDB that is not ready fails influxdb-ready alone, exit 5",
    async () => {
      broken = true;
      const neverReady = [
        { op: "replace", path: "/spec/template/spec/containers/0/readinessProbe/httpGet/path", value: "/nowhere" },
      ];
      const before = (await target.pods("influxdb"))[0]!.metadata.uid;
      await target.kubectl([
        "patch",
        "statefulset",
        "influxdb",
        "-n",
        NAMESPACE,
        "--type=json",
        "-p",
        JSON.stringify(neverReady),
      ]);
      await waitFor(
        async () => {
          const pod = (await target.pods("influxdb"))[0] as Pod | undefined;
          return pod && pod.metadata.uid !== before && pod.status.phase === "Running"
            ? { done: true, value: pod }
            : { done: false, state: pod?.status.phase ?? "no pod" };
        },
        { what: "the changed InfluxDB pod to run", limitMs: 120_000 },
      );
      expect(await failedChecks()).toEqual({ exitCode: 5, failed: ["influxdb-ready"] });
    },
    LIMIT_MS,
  );

  test(
    "a revoked ACL fails acls alone, exit 5",
    async () => {
      broken = true;
      const revoke = kafkaTool("AclCommand", 9092, [
        // It is used only while a partition is stopped: the loss of any other one would stop a service during the checks.
        ...["--remove", "--force", "--allow-principal", "User:processor"],
        ...["--operation", "Describe", "--group", STEP_OVER_GROUP],
      ]);
      const { exitCode, stderr, stdout } = await target.exec("kafka-0", ["bash", "-ec", revoke], {
        container: "kafka",
        timeoutMs: 60_000,
      });
      expect(`${exitCode} ${exitCode === 0 ? "" : stderr + stdout}`).toBe("0 ");
      expect(await failedChecks()).toEqual({ exitCode: 5, failed: ["acls"] });
    },
    LIMIT_MS,
  );

  test(
    "a removed NetworkPolicy fails network-policies alone, exit 5",
    async () => {
      broken = true;
      const { stdout } = await target.kubectl(["get", "networkpolicy", "-n", NAMESPACE, "-o", "name"]);
      const deny = stdout.split("\n").find((name) => name.includes("default-deny"));
      expect(deny).toBeString();
      await target.kubectl(["delete", deny!, "-n", NAMESPACE]);
      expect(await failedChecks()).toEqual({ exitCode: 5, failed: ["network-policies"] });
    },
    LIMIT_MS,
  );

  test(
    "a certificate of a foreign CA fails certificates alone, exit 5",
    async () => {
      broken = true;
      const folder = await mkdtemp(join(tmpdir(), "conveyor-foreign-"));
      try {
        const [cert, key] = [join(folder, "tls.crt"), join(folder, "tls.key")];
        await $({
          quiet: true,
        })`openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=processor -keyout ${key} -out ${cert}`;
        const data = Object.fromEntries(
          await Promise.all(
            [
              ["tls.crt", cert],
              ["tls.key", key],
            ].map(async ([name, path]) => [name, (await readFile(path!)).toString("base64")]),
          ),
        );
        await patchData(target, "secret", "processor-tls", data);
        expect(await failedChecks()).toEqual({ exitCode: 5, failed: ["certificates"] });
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
    LIMIT_MS,
  );
});
