/** Whether the kubelets can be read, by what Prometheus says about its targets. */
import { describe, expect, test } from "bun:test";
import { readKubelets, unverifiableKubelets } from "../../../scripts/clients/kubelets.ts";
import type { PrometheusReader, Target } from "../../../scripts/clients/prometheus.ts";

const GET = 'Get "https://10.0.0.1:10250/metrics": ';
const UNKNOWN_AUTHORITY = `${GET}tls: failed to verify certificate: x509: certificate signed by unknown authority`;

const kubelet = (lastError = "", health: Target["health"] = lastError ? "down" : "up"): Target => ({
  labels: { job: "kubelet", instance: "10.0.0.1:10250" },
  scrapeUrl: "https://10.0.0.1:10250/metrics",
  health,
  lastError,
});
const other: Target = { ...kubelet(), labels: { job: "producer" } };

/** A Prometheus with these targets; `best` is the best value that `up` of the kubelets had. */
const prometheus = (targets: readonly Target[], best?: number) =>
  ({
    targets: async () => targets,
    query: async () => (best === undefined ? [] : [{ labels: {}, value: best }]),
  }) as unknown as PrometheusReader;

describe("unverifiableKubelets", () => {
  test.each([
    UNKNOWN_AUTHORITY,
    `${GET}tls: failed to verify certificate: x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs`,
    `${GET}tls: failed to verify certificate: x509: certificate is valid for node-1, not 10.0.0.1`,
    `${GET}tls: failed to verify certificate: x509: certificate is not valid for any names, but wanted to match 10.0.0.1`,
    `${GET}tls: failed to verify certificate: x509: certificate relies on legacy Common Name field, use SANs instead`,
  ])("%s is identified, with the remedy", (error) => {
    const reason = unverifiableKubelets([kubelet(error), other]);
    expect(reason).toContain("x509: ");
    expect(reason).toContain("kubeadm#1602");
    expect(reason).toContain("serverTLSBootstrap: true");
  });

  test.each<[string, Target[]]>([
    ["no kubelet at all", [other]],
    ["kubelets that answer", [kubelet(), kubelet()]],
    ["one of two kubelets with an unverifiable certificate", [kubelet(UNKNOWN_AUTHORITY), kubelet()]],
    ["an expired certificate", [kubelet(`${GET}x509: certificate has expired or is not yet valid`)]],
    ["a kubelet that is not reached", [kubelet(`${GET}context deadline exceeded`)]],
    ["missing rights", [kubelet("server returned HTTP status 403 Forbidden")]],
    ["another job's certificate", [{ ...kubelet(UNKNOWN_AUTHORITY), labels: { job: "producer" } }, kubelet()]],
  ])("%s is not taken for it", (_, targets) => {
    expect(unverifiableKubelets(targets)).toBeUndefined();
  });
});

describe("readKubelets", () => {
  test("kubelets that were never readable are a property of the cluster", async () => {
    const state = await readKubelets(prometheus([kubelet(UNKNOWN_AUTHORITY)], 0));
    expect(state?.problem).toContain("unknown authority");
  });

  test("kubelets that were readable before are a fault: their alerts stay", async () => {
    expect(await readKubelets(prometheus([kubelet(UNKNOWN_AUTHORITY)], 1))).toEqual({ problem: undefined });
  });

  test("kubelets that answer have no problem", async () => {
    expect(await readKubelets(prometheus([kubelet(), other]))).toEqual({});
  });

  test.each<[string, Target[]]>([
    ["one is not scraped yet", [kubelet(UNKNOWN_AUTHORITY), kubelet("", "unknown")]],
    ["none is found", [other]],
    ["no sample is stored yet", [kubelet(UNKNOWN_AUTHORITY)]],
  ])("is not known while %s", async (_, targets) => {
    expect(await readKubelets(prometheus(targets))).toBeUndefined();
  });
});
