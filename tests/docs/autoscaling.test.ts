/** docs/autoscaling.md quotes the manifests: each quoted piece must be in the file that it names. */
import { expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "..", "..");
const page = await readFile(join(ROOT, "docs/autoscaling.md"), "utf8");
const quotes = [...page.matchAll(/```yaml\n# (k8s\/[\w./-]+)\n([\s\S]*?)```/g)].map(
  ([, path, text]) => [path!, text!] as const,
);

test("docs/autoscaling.md: every YAML block names its file", () => {
  expect(quotes.length).toBeGreaterThanOrEqual(5);
  expect(page.match(/```yaml/g)).toHaveLength(quotes.length);
});

test.each(quotes)("%s contains the block quoted in docs/autoscaling.md", async (path, text) => {
  const lines = (await readFile(join(ROOT, path), "utf8")).split("\n").map((line) => line.trim());
  const quoted = text
    .trimEnd()
    .split("\n")
    .map((line) => line.trim());
  const at = lines.findIndex((_, start) => quoted.every((line, offset) => lines[start + offset] === line));
  expect(at, `not found in ${path}:\n${text}`).toBeGreaterThanOrEqual(0);
});

test("docs/autoscaling.md: maximum, lag threshold and CPU target are those of the manifests", async () => {
  const scaled = await readFile(join(ROOT, "k8s/processor/keda/processor-scaledobject.yaml"), "utf8");
  const producer = await readFile(join(ROOT, "k8s/producer/hpa.yaml"), "utf8");
  const [, most] = /maxReplicaCount: (\d+)/.exec(scaled)!;
  expect(page).toContain(`| processor (\`k8s/processor/keda/processor-scaledobject.yaml\`, KEDA) | 1 – ${most} |`);
  const [, least] = /threshold: "(\d+)"/.exec(scaled)!;
  expect(page).toContain(`the lag exceeds ${Number(least).toLocaleString("en")} events per replica`);
  const [, share] = /averageUtilization: (\d+)/.exec(producer)!;
  expect(page).toContain(`its pods use more than ${share} % of their CPU request`);
});
