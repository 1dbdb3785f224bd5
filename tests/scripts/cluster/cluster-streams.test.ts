/**
 * Calls that go on: lines as they come, watches that begin anew. A shell script stands in for kubectl here, for the ends
 * and errors that a real API server shows seldom; the cluster tests use the real one.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cluster, type KubernetesObject } from "../../../scripts/cluster/cluster.ts";

let folder: string;
let cluster: Cluster;

/** What the slow call takes when nobody ends it. */
const CALL_MS = 600_000;

/** Answers a list with a counter as its version, and a watch with two events and an end. */
const SCRIPT = `#!/bin/sh
case "$*" in
  *"get --raw"*watch=1*) printf '{"type":"ADDED","object":{"metadata":{"name":"new"}}}\\n{"type":"ERROR","object":{"code":410}}\\n' ;;
  *"get --raw"*) n=$(($(cat "$0.n" 2>/dev/null || echo 0) + 1)); echo $n > "$0.n"
     printf '{"metadata":{"resourceVersion":"%s"},"items":[{"metadata":{"name":"old-%s"}}]}' $n $n ;;
  *slow*) echo one; echo two; exec sleep 600 ;;
  *cut*) printf 'whole\\nhalf' ;;
esac
`;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "conveyor-kubectl-"));
  const command = join(folder, "kubectl");
  await writeFile(command, SCRIPT);
  await chmod(command, 0o755);
  cluster = new Cluster({ context: "c", isLocal: false }, command);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("lines", () => {
  test("come as they are printed, and leaving the loop ends the call", async () => {
    const startedAt = performance.now();
    const seen: string[] = [];
    for await (const line of cluster.lines(["slow"], new AbortController().signal)) {
      seen.push(line);
      if (line === "two") break;
    }
    expect(seen).toEqual(["one", "two"]);
    expect(performance.now() - startedAt).toBeLessThan(CALL_MS);
  });

  test("the signal ends the call", async () => {
    const controller = new AbortController();
    const seen: string[] = [];
    for await (const line of cluster.lines(["slow"], controller.signal)) {
      seen.push(line);
      if (line === "two") controller.abort();
    }
    expect(seen).toEqual(["one", "two"]);
  });

  test("a last line without an end is a line", async () => {
    const seen: string[] = [];
    for await (const line of cluster.lines(["cut"], new AbortController().signal)) seen.push(line);
    expect(seen).toEqual(["whole", "half"]);
  });
});

test("a watch that the server ends begins anew, and tells the whole again", async () => {
  const controller = new AbortController();
  const seen: string[] = [];
  for await (const event of cluster.watch<KubernetesObject>("/api/v1/pods", controller.signal)) {
    seen.push(
      event.type === "SYNC"
        ? `SYNC ${event.objects.map(({ metadata }) => metadata.name)}`
        : `${event.type} ${event.object.metadata.name}`,
    );
    if (seen.length === 4) controller.abort();
  }
  expect(seen).toEqual(["SYNC old-1", "ADDED new", "SYNC old-2", "ADDED new"]);
});
