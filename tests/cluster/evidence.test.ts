/**
 * Evidence of the deployed pipeline: its policies equal the manifests and are byte for byte the same in a second run; its
 * handshakes cover every port of every pod without a violation.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { STAGES } from "../../scripts/deploy/stages.ts";
import { writtenAndWanted } from "../scripts/evidence/policies.ts";
import { atRest, cluster, describeOnCluster, script } from "./harness.ts";

/** Some thirty ports with some twelve handshakes each take half a minute on two cores; a busy machine takes minutes. */
const EVIDENCE_LIMIT_MS = 300_000;
/** With the wait until the cluster is at rest. */
const LIMIT_MS = 900_000;

let folder: string;
const read = (name: string) => readFile(join(folder, name), "utf8");

async function evidence(...only: string[]): Promise<void> {
  const names = only.flatMap((name) => ["--only", name]);
  const ran = await script(["scripts/evidence.ts", "--local", "--out", folder, ...names], {
    limitMs: EVIDENCE_LIMIT_MS,
  });
  expect(`${ran.exitCode} ${ran.exitCode === 0 ? "" : ran.stderr}`).toBe("0 ");
}

describeOnCluster("evidence", () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-evidence-"));
    // The port of a pod that ends meanwhile does not respond.
    await atRest(await cluster());
    await evidence("network-policies", "autoscalers", "tls");
  }, LIMIT_MS);
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test("the policies of the cluster equal the manifests, without skipped stages", async () => {
    const { skipped, written, wanted } = await writtenAndWanted(await read("network-policies.yaml"));
    expect(written).toEqual(wanted);
    expect(
      skipped.filter((name) => !STAGES.some((stage) => stage.name === name && (stage.optional || stage.needsApi))),
    ).toEqual([]);
    expect(Object.keys(written).length).toBeGreaterThan(10);
  });

  test(
    "a second run writes the same text",
    async () => {
      const [policies, autoscalers] = await Promise.all([read("network-policies.yaml"), read("autoscalers.yaml")]);
      await evidence("network-policies", "autoscalers");
      expect(await read("network-policies.yaml")).toBe(policies);
      expect(await read("autoscalers.yaml")).toBe(autoscalers);
    },
    LIMIT_MS,
  );

  test("every port uses TLS 1.2 or newer with a certificate that verifies; Kafka's listeners require client certificates", async () => {
    const summary = await read("tls-config-summary.md");
    expect(summary).not.toContain("Violations");
    for (const listener of ["client 9092", "replication 9091", "controller 9093"]) {
      for (const broker of ["kafka-0", "kafka-1", "kafka-2"]) {
        expect(summary).toMatch(
          new RegExp(`\\| ${broker} \\| ${listener} \\| 1.2, 1.3 \\| 1.0, 1.1 .*\\| CN=${broker} \\| yes \\| required`),
        );
      }
    }
    for (const place of ["influxdb-0 | https 8086", "producer-0 | intake 8443", "prometheus | https 9090"]) {
      expect(summary).toContain(`| ${place} |`);
    }
  });

  test("the index lists made and missing artifacts", async () => {
    const index = await read("README.md");
    expect(index).toContain("[tls-config-summary.md](tls-config-summary.md)");
    expect(index).toContain("Not tried yet: `bun scripts/evidence.ts --only resilience`");
  });
});
