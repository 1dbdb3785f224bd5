/** The checker of pod security: a restricted pod passes, and for each rule a pod violates only that rule. */
import { describe, expect, test } from "bun:test";
import type { PodTemplate } from "../../scripts/deploy/manifests.ts";
import { RULE_NAMES, violationsOf } from "./pod-security.ts";

const good = (): PodTemplate & { spec: { containers: [Record<string, unknown>] } } => ({
  spec: {
    serviceAccountName: "own",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: 10001,
      runAsGroup: 10001,
      seccompProfile: { type: "RuntimeDefault" },
    },
    volumes: [{ name: "tmp", emptyDir: {} }],
    containers: [
      {
        name: "main",
        image: "x:1",
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        },
      },
    ],
  },
});

/** Fields to set on the pod's spec, its security context, or the container's; undefined removes a field. */
interface Change {
  spec?: Record<string, unknown>;
  pod?: Record<string, unknown>;
  own?: Record<string, unknown>;
  container?: Record<string, unknown>;
}

/** Rule → changes that violate it. */
const BREAKS: Record<string, Change[]> = {
  hostNamespaces: [{ spec: { hostNetwork: true } }, { spec: { hostPID: true } }, { spec: { hostIPC: true } }],
  volumes: [{ spec: { volumes: [{ name: "host", hostPath: { path: "/" } }] } }],
  sysctls: [{ pod: { sysctls: [{ name: "kernel.msgmax", value: "1" }] } }],
  windows: [{ pod: { windowsOptions: { hostProcess: true } } }],
  token: [{ spec: { automountServiceAccountToken: undefined } }],
  serviceLinks: [{ spec: { enableServiceLinks: undefined } }],
  account: [{ spec: { serviceAccountName: undefined } }, { spec: { serviceAccountName: "default" } }],
  privileged: [{ own: { privileged: true } }],
  escalation: [{ own: { allowPrivilegeEscalation: undefined } }],
  nonRoot: [{ pod: { runAsNonRoot: undefined } }, { own: { runAsNonRoot: false } }],
  uid: [{ pod: { runAsUser: undefined } }, { own: { runAsUser: 0 } }],
  gid: [{ pod: { runAsGroup: undefined } }, { own: { runAsGroup: 0 } }],
  dropAll: [{ own: { capabilities: { drop: ["NET_RAW"] } } }],
  addNone: [{ own: { capabilities: { drop: ["ALL"], add: ["SYS_TIME"] } } }],
  seccomp: [{ pod: { seccompProfile: undefined } }, { own: { seccompProfile: { type: "Unconfined" } } }],
  appArmor: [{ own: { appArmorProfile: { type: "Unconfined" } } }],
  seLinux: [{ own: { seLinuxOptions: { type: "spc_t" } } }, { pod: { seLinuxOptions: { user: "root" } } }],
  procMount: [{ own: { procMount: "Unmasked" } }],
  hostPorts: [{ container: { ports: [{ hostPort: 80 }] } }],
  readOnly: [{ own: { readOnlyRootFilesystem: undefined } }],
};

test("a restricted pod passes", () => {
  expect(violationsOf(good())).toEqual([]);
});

test("every rule has a pod that violates it", () => {
  expect(Object.keys(BREAKS).sort()).toEqual([...RULE_NAMES].sort());
});

describe.each(Object.entries(BREAKS))("rule %s", (rule, breaks) => {
  test.each(breaks.map((change) => [change] as const))("is the only rule that %j violates", (change) => {
    const pod = good();
    const [container] = pod.spec.containers;
    Object.assign(pod.spec, change.spec);
    Object.assign(pod.spec.securityContext as object, change.pod);
    Object.assign(container, change.container);
    Object.assign(container.securityContext as object, change.own);
    expect(violationsOf(pod).map((line) => line.split(":")[0])).toEqual([rule]);
  });
});

test("init and ephemeral containers are checked too", () => {
  const pod = good();
  pod.spec.initContainers = [{ name: "first", image: "x:1" }];
  pod.spec.ephemeralContainers = [{ name: "debug", image: "x:1" }];
  const found = violationsOf(pod).join("\n");
  expect(found).toContain("escalation: first");
  expect(found).toContain("escalation: debug");
});
