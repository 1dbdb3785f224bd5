/** Goal: a one-off pod is deleted although the API server does not answer at first. */
import { expect, test } from "bun:test";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { removePod } from "../../../scripts/cluster/one-off-pods.ts";
import { clusterOf } from "./fake-kubectl.ts";

test("removePod deletes again after a call that failed", async () => {
  await using root = await mkdtempDisposable(join(tmpdir(), "conveyor-remove-pod-"));
  const calls = join(root.path, "calls");
  const program = `#!/bin/sh
echo "$*" >> ${calls}
[ "$(wc -l < ${calls})" -ge 2 ] && exit 0
echo "Unable to connect to the server: net/http: TLS handshake timeout" >&2
exit 1
`;
  await removePod(clusterOf(root.path, program), "observer-1", "conveyor");
  const line = "--context test delete pod observer-1 -n conveyor --ignore-not-found --wait=false --now";
  expect(await readFile(calls, "utf8")).toBe(`${line}\n${line}\n`);
});
