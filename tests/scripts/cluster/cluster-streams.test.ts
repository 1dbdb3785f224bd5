/**
 * Streams of kubectl: lines, logs across reconnects, watches. A shell script replaces kubectl and produces ends and errors that
 * are rare with a real API server; the tests of tests/cluster use a real one.
 */
import { beforeEach, describe, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { clusterOf } from "./fake-kubectl.ts";

const folder = temporaryFolder();

/** Duration of the slow call unless it is ended. */
const CALL_MS = 600_000;

/**
 * A list has a counter as its version; a watch has two events and an end. Each stream of a log ends after some lines, the
 * next repeats the last second. `N`: how often the call was made.
 */
const SCRIPT = `#!/bin/sh
case "$*" in
  *"get --raw"*watch=1*) printf '{"type":"ADDED","object":{"metadata":{"name":"new"}}}\\n{"type":"ERROR","object":{"code":410}}\\n' ;;
  *"get --raw"*) n=$(($(cat "$0.n" 2>/dev/null || echo 0) + 1)); echo $n > "$0.n"
     printf '{"metadata":{"resourceVersion":"%s"},"items":[{"metadata":{"name":"old-%s"}}]}' $n $n ;;
  *"get pod "*) n=$(($(cat "$0.p" 2>/dev/null || echo 0) + 1)); echo $n > "$0.p"
     case "$*" in
       *replaced*) uid=$n phase=Running ;;
       *) uid=1; if [ $n -lt 3 ]; then phase=Running; else phase=Succeeded; fi ;;
     esac
     printf '{"metadata":{"uid":"%s"},"status":{"phase":"%s"}}' $uid $phase ;;
  *"logs --follow"*since-time=2026-01-01T00:00:01.5Z*)
     printf '2026-01-01T00:00:01.0Z b\\n2026-01-01T00:00:01.5Z c\\n2026-01-01T00:00:01.5Z d\\n2026-01-01T00:00:02.0Z e\\n' ;;
  *"logs --follow"*since-time*) printf '2026-01-01T00:00:02.0Z e\\n2026-01-01T00:00:03.0Z end\\n' ;;
  *"logs --follow"*)
     printf '2026-01-01T00:00:00.0Z a\\nunable to retrieve container logs\\n2026-01-01T00:00:01.0Z b\\n'
     printf '2026-01-01T00:00:01.5Z c\\n2026-01-01T00:00:01.5Z' ;;
  *attach*) exec cat >/dev/null ;;
  *slow*) echo one; echo two; exec sleep 600 ;;
  *cut*) printf 'whole\\nhalf' ;;
esac
`;

const cluster = clusterOf(folder, SCRIPT);

beforeEach(() => rm(join(folder, "kubectl.p"), { force: true }));

describe("lines", () => {
  test("arrive while the call runs; leaving the loop ends the call", async () => {
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

  test("include a last line without line break", async () => {
    const seen: string[] = [];
    for await (const line of cluster.lines(["cut"], new AbortController().signal)) seen.push(line);
    expect(seen).toEqual(["whole", "half"]);
  });
});

describe("attach", () => {
  test("does not retain what it has sent", async () => {
    const sent: WeakRef<Uint8Array>[] = [];
    let retained = 0;
    async function* source() {
      for (let chunk = 0; chunk < 100; chunk++) {
        const bytes = new Uint8Array(65_536);
        sent.push(new WeakRef(bytes));
        yield bytes;
      }
      await Bun.sleep(0);
      Bun.gc(true);
      retained = sent.filter((reference) => reference.deref() !== undefined).length;
    }
    const { exitCode, isSent } = await cluster.attach("reader", source(), new AbortController().signal);
    expect({ exitCode, isSent }).toEqual({ exitCode: 0, isSent: true });
    // The collector may find the address of a chunk on the stack.
    expect(retained).toBeLessThan(50);
  });
});

describe("follow", () => {
  const { signal } = new AbortController();

  test("delivers each line once across reconnects, ends when the pod has ended", async () => {
    const seen: string[] = [];
    for await (const text of cluster.follow("pod-1", (line) => line, signal)) seen.push(text);
    expect(seen).toEqual(["a", "b", "c", "d", "e", "end"]);
  });

  test("skips lines that parse rejects", async () => {
    const seen: string[] = [];
    const parse = (line: string) => (line === "e" ? undefined : line.toUpperCase());
    for await (const text of cluster.follow("pod-1", parse, signal)) seen.push(text);
    expect(seen).toEqual(["A", "B", "C", "D", "END"]);
  });

  test("ends when another pod has the name", async () => {
    const seen: string[] = [];
    for await (const text of cluster.follow("replaced-0", (line) => line, signal)) seen.push(text);
    expect(seen).toEqual(["a", "b", "c"]);
  });

  test("ends with the signal", async () => {
    const controller = new AbortController();
    const seen: string[] = [];
    for await (const text of cluster.follow("pod-1", (line) => line, controller.signal)) {
      seen.push(text);
      controller.abort();
    }
    expect(seen[0]).toBe("a");
    expect(seen.length).toBeLessThan(6);
  });
});

test("a watch that the server ends starts again with all objects", async () => {
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
