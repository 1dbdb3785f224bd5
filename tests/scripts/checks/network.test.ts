import { describe, expect, test } from "bun:test";
import { requireEnforcement } from "../../../scripts/checks/network.ts";
import type { ProbeSession } from "../../../scripts/clients/probe-session.ts";
import type { Cluster } from "../../../scripts/cluster/cluster.ts";

describe("requireEnforcement", () => {
  const api = { spec: { clusterIP: "10.96.0.1", ports: [{ port: 443 }] } };
  /** A session whose pod reaches the API server for the first probes. */
  const session = (openProbes: number) => {
    let probes = 0;
    return {
      cluster: { get: async () => api } as unknown as Cluster,
      async probeFrom(pod: string, { outside }: Record<string, object>) {
        expect([pod, outside]).toEqual(["unlabelled", { kind: "tcp", host: "10.96.0.1", port: 443 }]);
        const ok = probes++ < openProbes;
        return { outside: { ok, outcome: ok ? "open" : "timeout" } };
      },
    } as unknown as ProbeSession;
  };

  test("passes when the policy applies, a moment after the pod's start", async () => {
    expect(await requireEnforcement(session(1), AbortSignal.timeout(10_000))).toBe("timeout");
  });

  test("refuses a cluster where the pod still reaches the API server, with the flag that deploys nevertheless", async () => {
    const error = await requireEnforcement(session(Infinity), AbortSignal.timeout(10_000), 500).catch(
      (e: unknown) => e,
    );
    expect(error).toMatchObject({
      exitCode: 3,
      message: expect.stringContaining("does not enforce NetworkPolicies"),
      hint: expect.stringContaining("--open-network"),
    });
  });
});
