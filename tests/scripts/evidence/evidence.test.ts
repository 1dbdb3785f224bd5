/** Evidence contains only what is deployed, is stable for the same cluster, and its index lists what is missing. */
import { describe, expect, test } from "bun:test";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { OperatorError } from "../../../scripts/cli/errors.ts";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import type { Artifact } from "../../../scripts/evidence/artifact.ts";
import { ARTIFACTS } from "../../../scripts/evidence/catalog.ts";
import { entryOf, indexText, readRecord, writeIndex } from "../../../scripts/evidence/index-page.ts";
import { asWritten, yamlOf } from "../../../scripts/evidence/live-objects.ts";
import { newestRecord, repeatedSince } from "../../../scripts/evidence/long-runs.ts";
import { terminalPage } from "../../../scripts/evidence/terminal.ts";
import { type ExaminedPort, isWeak, stableName, tlsViolations } from "../../../scripts/evidence/tls.ts";
import { selectedArtifacts } from "../../../scripts/evidence.ts";
import type { DrillsResult } from "../../../scripts/recording/result.ts";
import { writtenAndWanted } from "./policies.ts";

const live = (name: string): KubernetesObject => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: {
    name,
    namespace: "conveyor",
    uid: crypto.randomUUID(),
    resourceVersion: String(Math.random()),
    generation: 3,
    creationTimestamp: new Date().toISOString(),
    labels: { b: "2", a: "1" },
    annotations: { "kubectl.kubernetes.io/last-applied-configuration": "{}", "conveyor.dev/note": "kept" },
    ...({ managedFields: [{ manager: "conveyor-deploy" }] } as object),
  },
  spec: { podSelector: {}, policyTypes: ["Ingress"] },
  status: { conditions: [] },
});

describe("asWritten and yamlOf", () => {
  test("fields of the API server are removed", () => {
    expect(asWritten(live("a"))).toEqual({
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: {
        name: "a",
        namespace: "conveyor",
        labels: { a: "1", b: "2" },
        annotations: { "conveyor.dev/note": "kept" },
      },
      spec: { podSelector: {}, policyTypes: ["Ingress"] },
    });
  });
  test("equal objects produce equal text in any order", () => {
    const [one, two] = [yamlOf([live("b"), live("a")], ["head"]), yamlOf([live("a"), live("b")], ["head"])];
    expect(one).toBe(two);
    expect(one).toStartWith("# head\n---\n");
    expect(parseAllDocuments(one).map((document) => (document.toJS() as KubernetesObject).metadata.name)).toEqual([
      "a",
      "b",
    ]);
  });
});

describe("artifacts", () => {
  test("names and files are unique", () => {
    const names = ARTIFACTS.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    const files = ARTIFACTS.flatMap((subject) => subject.files);
    expect(new Set(files).size).toBe(files.length);
  });
  test("selectedArtifacts: an unknown name is a usage error with the known names", () => {
    expect(() => selectedArtifacts(["tsl"])).toThrow(OperatorError);
    expect(() => selectedArtifacts(["tsl"])).toThrow(/network-policies.*got "tsl"/);
    expect(selectedArtifacts(["tls"]).map(({ name }) => name)).toEqual(["tls"]);
  });
});

describe("index", () => {
  const subject = (name: string, files: string[]): Artifact => ({
    name,
    title: `title of ${name}`,
    files,
    make: async () => ({ made: false, reason: "", hint: "" }),
  });
  const subjects = [subject("one", ["one.txt"]), subject("two", ["two.png"]), subject("three", ["three.mp4"])];
  const version = { commit: "0123456789abcdef", changed_files: 2 };

  test("lists content, time, command and commit of each file, and the reason and command of each missing one", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "conveyor-evidence-"));
    const out = folder.path;
    await Bun.write(join(out, "one.txt"), "1\n");
    const now = new Date("2026-11-25T08:00:00.123Z");
    const record = {
      two: await entryOf(subjects[1]!, { made: false, reason: "no image", hint: "docker save" }, out, version, now),
      one: await entryOf(
        subjects[0]!,
        { made: true, detail: "1 | line", files: ["one.txt"], missing: { "one.mp4": "no ffmpeg" } },
        out,
        version,
        now,
      ),
    };
    await writeIndex(out, subjects, record);
    const page = await readFile(join(out, "README.md"), "utf8");
    expect(page).toContain(
      "| [one.txt](one.txt) | title of one. 1 \\| line | 2026-11-25T08:00:00Z | `bun scripts/evidence.ts --only one` | `0123456789` and 2 changed files |",
    );
    expect(page).toContain("- `two.png`: title of two. Not made: no image. To make it: `docker save`");
    expect(page).toContain("- `one.mp4`: title of one. Not made: no ffmpeg");
    expect(page).toContain("- `three.mp4`: title of three. Not tried yet");
    // SHA-256 of "1\n".
    expect((await readRecord(out)).one?.files["one.txt"]).toStartWith("4355a46b19d348dc");
    // The text is a function of the record.
    expect(indexText(subjects, await readRecord(out))).toBe(page);
  });
});

test("terminalPage: commands and the end of a long output, escaped", () => {
  const output = Array.from({ length: 60 }, (_, line) => `line <${line}>`).join("\n");
  const page = terminalPage("t", [{ command: "bun scripts/logs.ts --grep '<'", output }]);
  expect(page).toContain("$ bun scripts/logs.ts --grep &#39;&lt;&#39;");
  expect(page).toContain("… 20 earlier lines");
  expect(page).toContain("line &lt;59&gt;");
  expect(page).not.toContain("line &lt;19&gt;");
});

test.each([
  ["kafka-0", "kafka-0"],
  ["prometheus-6d49664ddd-2sdzw", "prometheus"],
  ["promtail-x7k2p", "promtail"],
  ["alertmanager-0", "alertmanager-0"],
])("stableName: %s → %s", (pod, shown) => expect(stableName(pod)).toBe(shown));

test.each([
  ["ECDHE-ECDSA-AES256-GCM-SHA384", false],
  ["ECDHE-ECDSA-CHACHA20-POLY1305", false],
  ["ECDHE-ECDSA-AES128-SHA256", true],
  ["AES256-GCM-SHA384", true],
])("isWeak: %s is %p", (cipher, old) => expect(isWeak(cipher)).toBe(old));

describe("newestRecord", () => {
  const record = (id: string, more: object = {}) => ({
    facts: { id, kind: "drills", startedAt: "2026-11-25T07:00:00Z", interrupted: false, ...more },
    drills: [],
  });

  test("a finished record of the kind, not older than the limit", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "conveyor-runs-"));
    const root = folder.path;
    const put = (id: string, content: unknown) => Bun.write(join(root, id, "result.json"), JSON.stringify(content));
    const newest = async (sinceMs?: number) => (await newestRecord("drills", () => true, sinceMs, root))?.facts.id;
    expect(await newest()).toBeUndefined();
    await put("20261125T070000Z-drills", record("20261125T070000Z-drills"));
    await put("20261125T080000Z-load-test", { facts: { kind: "load-test" } });
    await put("20261125T090000Z-drills", record("20261125T090000Z-drills", { interrupted: true }));
    await Bun.write(join(root, "20261125T100000Z-drills", "result.json"), '{"facts":');
    expect(await newest()).toBe("20261125T070000Z-drills");
    expect(await newest(Date.parse("2026-11-25T07:30:00Z"))).toBeUndefined();
  });
});

test("repeatedSince: later runs of the drills that did not pass, and of no other", async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), "conveyor-runs-"));
  const root = folder.path;
  const run = (id: string, time: string, drills: object[]) => ({
    facts: { id, kind: "drills", startedAt: time, endedAt: time, interrupted: false },
    drills,
    passed: false,
  });
  const [failed, passed, other] = [
    { name: "cut-broker", verdict: "failed" },
    { name: "cut-broker", verdict: "passed" },
    { name: "delete-producer", verdict: "passed" },
  ];
  const earlier = run("20261125T070000Z-drills", "2026-11-25T07:00:00Z", [failed!, other!]) as unknown as DrillsResult;
  const later = run("20261125T080000Z-drills", "2026-11-25T08:00:00Z", [passed!, other!, passed!]);
  expect(await repeatedSince(earlier, root)).toEqual([]);
  await Bun.write(join(root, later.facts.id, "result.json"), JSON.stringify(later));
  const lines = await repeatedSince(earlier, root);
  expect(lines[0]).toBe("# repeated in run 20261125T080000Z-drills");
  expect(lines.slice(1).map((line) => line.slice(0, 36).trim())).toEqual(
    Array(2).fill(`${"cut-broker".padEnd(24)} PASSED`),
  );
});

test("outputs/network-policies.yaml equals the manifests (else: bun scripts/evidence.ts --only network-policies)", async () => {
  const text = await readFile(join(import.meta.dir, "../../../outputs/network-policies.yaml"), "utf8");
  const { written, wanted } = await writtenAndWanted(text);
  expect(written).toEqual(wanted);
});

describe("tlsViolations", () => {
  const good: NonNullable<ExaminedPort["findings"]> = {
    protocols: { TLSv1: false, "TLSv1.1": false, "TLSv1.2": true, "TLSv1.3": true },
    negotiated: { protocol: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256" },
    tls12Ciphers: [],
    certificate: {} as never,
    verified: true,
    clientCertificate: "required",
    refusal: "alert handshake failure",
  };
  const port = (findings: ExaminedPort["findings"], more: Partial<ExaminedPort> = {}): ExaminedPort => ({
    namespace: "conveyor",
    pod: "kafka-0",
    workload: "kafka",
    name: "client",
    port: 9092,
    findings,
    ...more,
  });

  test("none for a listener that rejects old versions and unknown clients", () => {
    expect(tlsViolations([port(good)])).toEqual([]);
  });
  test.each<[string, ExaminedPort]>([
    ["kafka-0 client (9092) does not use TLS", port(undefined)],
    ["kafka-0 client (9092) accepts TLSv1.1", port({ ...good, protocols: { ...good.protocols, "TLSv1.1": true } })],
    ["kafka-0 client (9092) has a certificate that does not verify", port({ ...good, verified: false })],
    ["kafka-0 client (9092) accepts clients without a certificate", port({ ...good, clientCertificate: "wanted" })],
  ])("%s", (sentence, examined) => expect(tlsViolations([examined])).toEqual([sentence]));
  test("metrics need no client certificate: a network policy protects them", () => {
    expect(tlsViolations([port({ ...good, clientCertificate: "none" }, { name: "metrics", port: 9404 })])).toEqual([]);
  });
});
