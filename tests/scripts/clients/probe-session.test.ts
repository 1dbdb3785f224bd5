/** ProbeSession on a fake kubectl that runs the real probe program, or prints a prepared answer. */
import { describe, expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ProbeSession, readBy } from "../../../scripts/clients/probe-session.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { clusterOf } from "../cluster/fake-kubectl.ts";

const PROBE = join(import.meta.dir, "../../../services/tools/probe.ts");
const KUBECTL = `#!/bin/sh
folder=$(dirname "$0")
case "$*" in
  *" get pods "*" app.kubernetes.io/name=gone "*) echo '{"items":[]}' ;;
  *" create "*) cat > "$folder/pod" ;;
  *" get pod "*) echo '{"metadata":{"uid":"1"},"status":{"phase":"Running"}}' ;;
  *" get pods "*) echo '{"items":[{"metadata":{"name":"pod-1"},"status":{"phase":"Running"}}]}' ;;
  *" exec "*) if [ -e "$folder/answer" ]; then cat "$folder/answer"; else exec ${process.execPath} ${PROBE}; fi ;;
esac
`;

const folder = temporaryFolder();
const session = new ProbeSession(clusterOf(folder, KUBECTL), "services:1", new AbortController().signal);

describe("probeIn", () => {
  test("returns the result of each probe by its name", async () => {
    const { self, closed } = await session.probeIn("producer", {
      self: { kind: "self" },
      closed: { kind: "tcp", host: "127.0.0.1", port: 1 },
    });
    expect(readBy(self, "the process").uid).toBe(process.getuid?.());
    expect(closed).toMatchObject({ ok: false, outcome: "refused:ECONNREFUSED" });
    expect(() => readBy(closed, "port 1")).toThrow("port 1 cannot be read: refused:ECONNREFUSED");
  });

  test("fails with the program's message when the request is invalid", async () => {
    const newer = { kind: "self", depth: 1 } as const;
    const request = session.probeIn("producer", { newer });
    await expect(request).rejects.toMatchObject({
      message: "the probe in pod pod-1 failed (exit 2)",
      cause: { message: "probe: probes[0].depth: is not a field (id, kind, timeout_ms); got 1" },
    });
  });

  test("fails without a running pod", async () => {
    await expect(session.probeIn("gone", { self: { kind: "self" } })).rejects.toThrow("no running pod of gone");
  });

  test("fails when a result is missing", async () => {
    await writeFile(join(folder, "answer"), "[]");
    await expect(session.probeIn("producer", { self: { kind: "self" } })).rejects.toThrow('no result for "self"');
  });
});

test("a probe pod lives for an hour, or as long as the run that it is for", async () => {
  await using hour = new ProbeSession(session.cluster, "services:1", new AbortController().signal);
  await using run = new ProbeSession(session.cluster, "services:1", new AbortController().signal, 10_800);
  const created = async (of: ProbeSession) => {
    await of.podFor("admin");
    const { spec } = JSON.parse(await readFile(join(folder, "pod"), "utf8"));
    return [spec.activeDeadlineSeconds, spec.containers[0].command];
  };
  expect(await created(hour)).toEqual([3600, ["sleep", "3600"]]);
  expect(await created(run)).toEqual([10_800, ["sleep", "10800"]]);
});
