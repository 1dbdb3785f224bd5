/**
 * The command against a Secret in memory, whose entries are files of a folder, and a producer's own reader of that folder
 * behind its ops server: what it prints is what the intake takes.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArguments } from "../../scripts/cli/command.ts";
import { createAuthority, issueCertificate } from "../../scripts/cli/pki.ts";
import { TerminalReport } from "../../scripts/cli/report.ts";
import type { Cluster } from "../../scripts/cluster/cluster.ts";
import { command, runOn } from "../../scripts/senders.ts";
import { IntakeSenders } from "../../services/producer/intake-senders.ts";
import { readSenders, SENDERS_PATH } from "../../services/protocol/senders.ts";
import { Health } from "../../services/runtime/health.ts";
import { Logger } from "../../services/runtime/log.ts";
import { Metrics } from "../../services/runtime/metrics.ts";
import { startOpsServer } from "../../services/runtime/ops-server.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const root = temporaryFolder();
let folder: string;
let secret: { data: Record<string, string>; version: number };
/** The intake of the running producer; each read is one of the files. */
let intake: IntakeSenders;
let nowMs = 0;
let pods: string[];
let calls: string[];
let ops: ReturnType<typeof startOpsServer>;
let ca: string;
let extra: Record<string, () => unknown>;

const base64 = (text: string) => Buffer.from(text).toString("base64");
const senderList = () => Buffer.from(secret.data["senders.json"] ?? "", "base64").toString();

const cluster = {
  get: async (_: string, name: string) =>
    name === "producer-tls"
      ? { data: { "ca.crt": base64(ca) } }
      : { metadata: { name, resourceVersion: String(secret.version) }, data: secret.data },
  kubectl: async ([verb]: string[], { input }: { input?: string } = {}) => {
    calls.push(verb!);
    if (verb !== "replace") return { exitCode: 0, stdout: "", stderr: "" };
    const { metadata, data } = JSON.parse(input!) as {
      metadata: { resourceVersion: string };
      data: Record<string, string>;
    };
    if (metadata.resourceVersion !== String(secret.version)) {
      return { exitCode: 1, stdout: "", stderr: "Operation cannot be fulfilled: the object has been modified" };
    }
    secret = { data, version: secret.version + 1 };
    if (secret.data["senders.json"] === undefined) await rm(join(folder, "senders.json"), { force: true });
    else await writeFile(join(folder, "senders.json"), senderList());
    return { exitCode: 0, stdout: "", stderr: "" };
  },
  runningPods: async () => pods.map((name) => ({ metadata: { name } })),
  portForward: async () => ({ port: ops.port, [Symbol.asyncDispose]: async () => {} }),
} as unknown as Cluster;

beforeAll(async () => {
  const authority = await createAuthority("test", { days: 1 });
  const subject = { commonName: "producer", names: ["DNS:producer.conveyor.svc"] };
  const { certificate, key } = await issueCertificate(authority, subject, { days: 1 });
  ca = authority.certificate;
  extra = {
    [SENDERS_PATH]: () => {
      nowMs += 1000;
      return intake.inUse();
    },
  };
  ops = startOpsServer(
    { port: 0, tls: { cert: certificate, key } } as never,
    new Health(),
    new Metrics("producer").registry,
    extra,
  );
});
afterAll(() => ops.stop());

beforeEach(async () => {
  folder = await mkdtemp(join(root, "test-"));
  await writeFile(join(folder, "token"), "the-shared-token");
  intake = new IntakeSenders(join(folder, "token"), new Logger("test", "error", {}, () => {}), () => nowMs);
  secret = { data: { token: base64("the-shared-token") }, version: 1 };
  pods = ["producer-0", "producer-1"];
  calls = [];
});

/** Runs a command line; its lines on stdout, and all that it writes to stderr. */
async function run(...argv: string[]) {
  let stdout = "";
  let stderr = "";
  const report = new TerminalReport({
    json: argv.includes("--json"),
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
  });
  const { values, positionals } = parseArguments(command, argv, {});
  try {
    await runOn(cluster, { flags: values, positionals, report, signal: new AbortController().signal });
  } finally {
    report.finish();
  }
  return { lines: stdout.split("\n").filter(Boolean), stderr };
}

/** The name that the intake gives a token now. */
const nameOf = (token: string) => intake.find(token)?.name;

test("add prints a token once, which the intake takes when the command ends; the Secret has only its digest", async () => {
  const { lines, stderr } = await run("add", "plant-a", "--sources", "plant-a-*,belt-7", "--requests-per-second", "5");
  const [token] = lines;
  expect(lines).toHaveLength(1);
  expect(token).toMatch(/^[0-9a-f]{64}$/);
  expect(nameOf(token!)).toBe("plant-a");
  expect(intake.find(token!)).toMatchObject({ sources: ["plant-a-*", "belt-7"], limits: { requestsPerSecond: 5 } });
  for (const text of [senderList(), stderr]) expect(text).not.toContain(token!);
  expect(stderr).toContain("2 of 2");
  // The kubelet then reads the files at once.
  expect(calls).toContain("annotate");
});

test("list shows rights and limits, no secret", async () => {
  expect((await run("list")).stderr).toContain("no sender has its own token");
  const [token] = (await run("add", "plant-a", "--series", "50")).lines;
  await run("add", "plant-b", "--sources", "b-*", "--bytes-per-second", "4096", "--most-sources", "3");
  const { lines } = await run("list");
  expect(lines[0]).toMatch(/^sender +tokens +requests\/s +bytes\/s +most sources +most series +sources$/);
  expect(lines[1]).toMatch(/^plant-a +1 +- +- +10000 +50 +\*$/);
  expect(lines[2]).toMatch(/^plant-b +1 +- +4096 +3 +10000 +b-\*$/);
  const json = (await run("list", "--json")).lines.join("\n");
  expect(JSON.parse(json).senders[1]).toMatchObject({ name: "plant-b", bytes_per_second: 4096, tokens: 1 });
  const [entry] = readSenders(senderList());
  for (const hidden of [token!, entry!.digests[0]!]) expect(lines.join() + json).not.toContain(hidden);
});

test("rotate adds a token beside the one before; revoke --previous ends that, revoke ends all", async () => {
  const [first] = (await run("add", "plant-a")).lines;
  const [second] = (await run("rotate", "plant-a")).lines;
  expect([first!, second!].map(nameOf)).toEqual(["plant-a", "plant-a"]);
  // The second token may have been lost: its sender still uses the first one.
  const [third] = (await run("rotate", "plant-a")).lines;
  expect([first!, second!, third!].map(nameOf)).toEqual(["plant-a", "plant-a", "plant-a"]);
  await run("revoke", "plant-a", "--previous");
  expect([first!, second!, third!].map(nameOf)).toEqual([undefined, undefined, "plant-a"]);
  for (const _ of [2, 3, 4]) await run("rotate", "plant-a");
  await expect(run("rotate", "plant-a")).rejects.toMatchObject({ exitCode: 3 });
  await run("revoke", "plant-a", "--previous");
  expect(nameOf(third!)).toBeUndefined();
  await expect(run("revoke", "plant-a", "--previous")).rejects.toMatchObject({ exitCode: 3 });
  expect((await run("revoke", "plant-a")).lines).toEqual([]);
  expect(nameOf(third!)).toBeUndefined();
  expect(nameOf("the-shared-token")).toBe("token");
  expect(secret.data["senders.json"]).toBeUndefined();
});

test("change replaces what is given; the token and the rest stay", async () => {
  const [token] = (await run("add", "plant-a", "--sources", "a-*", "--bytes-per-second", "4096")).lines;
  expect((await run("change", "plant-a", "--series", "7", "--requests-per-second", "2")).lines).toEqual([]);
  const limits = { requestsPerSecond: 2, bytesPerSecond: 4096, mostSources: 10_000, mostSeries: 7 };
  expect(intake.find(token!)).toEqual({ name: "plant-a", sources: ["a-*"], limits });
  await run("change", "plant-a", "--sources", "b-*,c");
  expect(intake.find(token!)).toEqual({ name: "plant-a", sources: ["b-*", "c"], limits });
});

test("--json: one document with the token", async () => {
  const { lines } = await run("add", "plant-a", "--json");
  const document = JSON.parse(lines.join("\n")) as { sender: string; token: string; producers: number };
  expect(document).toMatchObject({ sender: "plant-a", producers: 2 });
  expect(nameOf(document.token)).toBe("plant-a");
});

test("a change of one sender makes digests of the plain tokens of all; they stay valid", async () => {
  const plain = "a-plain-token-of-b";
  const text = JSON.stringify({ "plant-b": { tokens: [plain], conveyors: ["b-*"] } });
  secret.data["senders.json"] = base64(text);
  await writeFile(join(folder, "senders.json"), text);
  expect((await run("list")).stderr).toContain("plain");
  await run("add", "plant-a");
  expect(senderList()).not.toContain(plain);
  expect(intake.find(plain)).toMatchObject({ name: "plant-b", sources: ["b-*"] });
  expect((await run("list")).stderr).not.toContain("plain");
});

test("refuses a name that exists, one that does not, and a Secret that somebody changed meanwhile", async () => {
  await run("add", "plant-a");
  await expect(run("add", "plant-a")).rejects.toMatchObject({ exitCode: 3, message: "sender plant-a exists already" });
  for (const action of ["revoke", "rotate"]) {
    const message = "there is no sender plant-b; known: plant-a";
    await expect(run(action, "plant-b")).rejects.toMatchObject({ exitCode: 3, message });
  }
  const changed = {
    ...cluster,
    get: async (kind: string, name: string) => {
      const found = await cluster.get(kind, name);
      secret.version++;
      return found;
    },
  } as Cluster;
  const before = senderList();
  const { values, positionals } = parseArguments(command, ["add", "plant-b"], {});
  const context = { flags: values, positionals, report: new TerminalReport({ quiet: true }) };
  await expect(runOn(changed, { ...context, signal: new AbortController().signal })).rejects.toMatchObject({
    hint: expect.stringContaining("run the command again"),
  });
  expect(senderList()).toBe(before);
});

test("without a running producer the list is stored; with older producers the error says so, with the token", async () => {
  pods = [];
  expect((await run("add", "plant-a")).stderr).toContain("once a producer runs: none does");
  pods = ["producer-0"];
  const report = extra[SENDERS_PATH]!;
  delete extra[SENDERS_PATH];
  try {
    const failed = await run("add", "plant-b").catch((error: unknown) => error);
    expect(failed).toMatchObject({ exitCode: 3, message: expect.stringContaining("older than this command") });
    expect((failed as { document: { token: string } }).document.token).toMatch(/^[0-9a-f]{64}$/);
  } finally {
    extra[SENDERS_PATH] = report;
  }
});

test.each([
  [["add"], "missing argument NAME"],
  [["list", "plant-a"], 'unexpected argument "plant-a"'],
  [["add", "plant a"], "NAME: must be 1 to 64 of"],
  [["add", "token"], "NAME: must not be token or token-previous"],
  [["add", "a", "--previous"], "--previous: only for revoke"],
  [["rotate", "a", "--series", "5"], "--series: only for add and change"],
  [["change", "a"], "change: needs --sources or a limit"],
  [["revoke", "a", "--sources", "b"], "--sources: only for add and change"],
])("%j is refused before a cluster is asked", async (argv, message) => {
  const { values, positionals } = parseArguments(command, argv, {});
  const report = new TerminalReport({ quiet: true });
  const signal = new AbortController().signal;
  await expect(command.run({ flags: values, positionals, report, signal })).rejects.toMatchObject({
    exitCode: 2,
    message: expect.stringContaining(message),
  });
});

test("--sources: names the pattern that is none", async () => {
  await expect(run("add", "a", "--sources", "b-*,c*d")).rejects.toMatchObject({
    exitCode: 2,
    message: expect.stringContaining('got "c*d"'),
  });
});
