/** The metrics of nodes and volumes: what is skipped with a reason, and what still fails. */
import { describe, expect, test } from "bun:test";
import {
  type Claim,
  nodeOutcome,
  type PersistentVolume,
  unmeasuredClaims,
} from "../../../scripts/checks/node-metrics.ts";
import type { Pod } from "../../../scripts/cluster/cluster.ts";

const NOW = Date.parse("2026-01-01T12:00:00Z");
const object = (kind: string, name: string) => ({ apiVersion: "v1", kind, metadata: { name } });
const pod = (claim: string, startTime = "2026-01-01T11:00:00Z") =>
  ({
    ...object("Pod", `of-${claim}`),
    spec: { containers: [], volumes: [{ name: "data", persistentVolumeClaim: { claimName: claim } }] },
    status: { phase: "Running", startTime },
  }) as unknown as Pod;
const claim = (name: string): Claim => ({
  ...object("PersistentVolumeClaim", name),
  spec: { volumeName: `pv-${name}` },
});
const volume = (name: string, spec: PersistentVolume["spec"] & { local?: object }): PersistentVolume => ({
  ...object("PersistentVolume", `pv-${name}`),
  spec,
});
const CSI = { csi: { driver: "disk.example.org" } };
const JUST_NOW = "2026-01-01T11:59:30Z";

function unmeasured(volumes: Record<string, PersistentVolume["spec"]>, measured: string[] = [], pods?: Pod[]) {
  const names = Object.keys(volumes);
  const { byProvider, missing } = unmeasuredClaims(
    pods ?? names.map((name) => pod(name)),
    names.map(claim),
    names.map((name) => volume(name, volumes[name]!)),
    new Set(measured),
    NOW,
  );
  return { byProvider: Object.fromEntries(byProvider), missing };
}

describe("unmeasuredClaims", () => {
  test("measured volumes of any kind are none", () => {
    expect(unmeasured({ a: { hostPath: {} }, b: CSI }, ["a", "b"])).toEqual({ byProvider: {}, missing: [] });
  });

  test("hostPath volumes have no statistics, from their start on", () => {
    const found = unmeasured(
      { b: { hostPath: {} }, a: { hostPath: {} } },
      [],
      [pod("a", JUST_NOW), pod("b", JUST_NOW)],
    );
    expect(found).toEqual({ byProvider: { hostPath: ["a", "b"] }, missing: [] });
  });

  test("a CSI driver whose volumes were mounted for minutes and none measured has no statistics", () => {
    const found = unmeasured({ a: CSI, b: CSI }, [], [pod("a"), pod("b", JUST_NOW)]);
    expect(found).toEqual({ byProvider: { "CSI driver disk.example.org": ["a", "b"] }, missing: [] });
  });

  test("a CSI driver that measures another volume, or whose volumes are new, misses them", () => {
    expect(unmeasured({ a: CSI, b: CSI }, ["a"])).toEqual({ byProvider: {}, missing: ["b"] });
    expect(unmeasured({ a: CSI }, [], [pod("a", JUST_NOW)])).toEqual({ byProvider: {}, missing: ["a"] });
  });

  test("a volume whose kind has statistics is missing without them", () => {
    expect(unmeasured({ a: { local: {} } as PersistentVolume["spec"] })).toEqual({ byProvider: {}, missing: ["a"] });
  });

  test("a claim that no running pod mounts is not expected", () => {
    expect(unmeasured({ a: CSI, b: { hostPath: {} } }, [], [])).toEqual({ byProvider: {}, missing: [] });
  });
});

describe("nodeOutcome", () => {
  const all = { targets: 2, byProvider: new Map<string, string[]>() };
  const blind = { targets: 2, byProvider: new Map([["hostPath", ["data-kafka-0"]]]) };

  test("passes when everything is measured", () => {
    const { ok, skipped } = nodeOutcome(all, true);
    expect([ok, skipped]).toEqual([true, undefined]);
  });
  test("unverifiable kubelets are skipped where deploy left their alerts out, and a failure where it did not", () => {
    expect(nodeOutcome("x509: …", false)).toMatchObject({ ok: true, skipped: true, detail: "x509: …" });
    expect(nodeOutcome("x509: …", true)).toMatchObject({ ok: false });
  });
  test("names kubelets that became readable", () => {
    const { skipped, detail } = nodeOutcome(all, false);
    expect([skipped, detail]).toEqual([true, expect.stringContaining("reads the kubelets now: bun scripts/deploy.ts")]);
  });
  test("names the volumes without statistics and the alerts that are blind", () => {
    const { skipped, detail } = nodeOutcome(blind, true);
    expect(skipped).toBe(true);
    expect(detail).toContain("hostPath: data-kafka-0; the alerts VolumeFilling");
  });
});
