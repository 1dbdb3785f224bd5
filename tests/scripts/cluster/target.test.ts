/**
 * A cluster is remembered by its identity. The kubectl of these tests knows one context, which leads to the cluster that the
 * file `uid` names, like a context of the same name in another kubeconfig.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OperatorError } from "../../../scripts/cli/errors.ts";
import { Cluster } from "../../../scripts/cluster/cluster.ts";
import { rememberTarget, requireReachable, selectCluster } from "../../../scripts/cluster/target.ts";
import { setEnvironment } from "../../environment.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const folder = temporaryFolder();
setEnvironment({ PATH: `${folder}:${process.env.PATH}`, XDG_STATE_HOME: join(folder, "state") });
const CONTEXT = "kubernetes-admin@kubernetes";
const local = {
  context: "conveyor-local",
  locate: async () => ({ kubeconfig: join(folder, "kubeconfig"), kubectl: join(folder, "kubectl") }),
};
const leadTo = (uid: string) => writeFile(join(folder, "uid"), uid);
/** A command on a cluster: the cluster is selected, then reached. */
const reach = async (flags: Partial<Parameters<typeof selectCluster>[0]> = {}) => {
  const cluster = await selectCluster({ local: false, ...flags }, local);
  await requireReachable(cluster);
  return cluster;
};
const refusal = async (flags: Parameters<typeof reach>[0] = {}): Promise<OperatorError> => {
  const error = await reach(flags).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(OperatorError);
  return error as OperatorError;
};

beforeAll(async () => {
  const script = `case "$*" in
  *get-contexts*) echo ${CONTEXT} ;;
  *version*) echo '{"serverVersion":{"gitVersion":"v1.36.3"}}' ;;
  *kube-system*) printf '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"kube-system","uid":"%s"}}' "$(cat ${folder}/uid)" ;;
esac`;
  await writeFile(join(folder, "kubectl"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  await leadTo("cluster-a");
  await rememberTarget(await reach({ context: CONTEXT }));
});

describe("the cluster of the last deploy", () => {
  test("is selected without a flag, and by its context", async () => {
    await leadTo("cluster-a");
    expect((await reach()).context).toBe(CONTEXT);
    await reach({ context: CONTEXT });
  });

  test.each([
    ["without a flag", {}],
    ["by its context", { context: CONTEXT }],
  ])("is not another cluster with the same context name, %s: exit 3 with both UIDs", async (_, flags) => {
    await leadTo("cluster-b");
    const { exitCode, message, hint } = await refusal(flags);
    expect({ exitCode, message }).toEqual({
      exitCode: 3,
      message: `context ${CONTEXT} leads to another cluster: kube-system has the UID cluster-b, not cluster-a`,
    });
    expect(hint).toContain(`--context ${CONTEXT} --cluster-id cluster-b`);
  });

  test("is another one when --cluster-id names it; exit 3 when it names neither", async () => {
    await leadTo("cluster-b");
    await reach({ context: CONTEXT, "cluster-id": "cluster-b" });
    expect((await refusal({ context: CONTEXT, "cluster-id": "cluster-c" })).exitCode).toBe(3);
    await rememberTarget(await reach({ "cluster-id": "cluster-b" }));
    await reach();
    await leadTo("cluster-a");
    expect((await refusal()).message).toEndWith("kube-system has the UID cluster-a, not cluster-b");
  });

  test("is known also after a deploy to another one", async () => {
    await leadTo("cluster-b");
    await rememberTarget(new Cluster({ context: local.context, isLocal: true }, join(folder, "kubectl")));
    await reach({ context: CONTEXT });
    await leadTo("cluster-a");
    expect((await refusal({ context: CONTEXT })).message).toEndWith("kube-system has the UID cluster-a, not cluster-b");
    await rememberTarget(await reach({ context: CONTEXT, "cluster-id": "cluster-a" }));
  });

  test("has no identity in a file of an earlier version, and is accepted", async () => {
    const file = join(folder, "state", "conveyor", "target.json");
    const { clusterIds: _, ...earlier } = JSON.parse(await readFile(file, "utf8")) as { clusterIds: object };
    await writeFile(file, JSON.stringify(earlier));
    await leadTo("cluster-c");
    expect((await reach()).context).toBe(CONTEXT);
  });
});

test("the local cluster is accepted with every UID, and --cluster-id does not apply to it", async () => {
  await leadTo("local-1");
  await rememberTarget(new Cluster({ context: local.context, isLocal: true }, join(folder, "kubectl")));
  await leadTo("local-2");
  expect((await reach()).isLocal).toBe(true);
  expect((await refusal({ local: true, "cluster-id": "local-1" })).exitCode).toBe(2);
});
