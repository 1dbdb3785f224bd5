import { beforeEach, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { IntakeSenders, mayWrite } from "../../../services/producer/intake-senders.ts";
import { revisionOf, sha256 } from "../../../services/protocol/senders.ts";
import { Logger } from "../../../services/runtime/log.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const TOKEN_A = "token-of-plant-a";
const TOKEN_B = "token-of-plant-b";

const root = temporaryFolder();
let folder: string;
let lines: string[];
let now: number;
let senders: IntakeSenders;

const write = (name: string, content: unknown) =>
  writeFile(join(folder, name), typeof content === "string" ? content : JSON.stringify(content));
const open = () =>
  new IntakeSenders(join(folder, "token"), new Logger("test", "info", {}, (line) => lines.push(line)), () => now);
const nameOf = (token: string) => senders.find(token)?.name;
/** As the intake reads the files again. */
const later = () => {
  now += 5000;
};

beforeEach(async () => {
  folder = await mkdtemp(join(root, "test-"));
  lines = [];
  now = 0;
  await write("token", "first\n");
  senders = open();
});

describe("the token", () => {
  test("is the only one by default", () => {
    expect(senders.find("first")).toEqual({ name: "token" });
    for (const token of ["", "First", "first ", "firs"]) expect(senders.find(token)).toBeUndefined();
  });

  test("overlaps with the previous one during a rotation, without a restart", async () => {
    await write("token", "second");
    await write("token-previous", "first");
    expect([nameOf("first"), nameOf("second")]).toEqual(["token", undefined]);
    later();
    expect([nameOf("first"), nameOf("second")]).toEqual(["token-previous", "token"]);
    await rm(join(folder, "token-previous"));
    later();
    expect([nameOf("first"), nameOf("second")]).toEqual([undefined, "token"]);
  });

  test("stays with all others when a file cannot be read", async () => {
    // A folder: an error of the disk is another one than a missing file.
    await mkdir(join(folder, "senders.json"));
    later();
    expect(nameOf("first")).toBe("token");
    later();
    expect(senders.inUse().problem).toContain("EISDIR");
    expect(lines.filter((line) => line.includes("EISDIR"))).toHaveLength(1);
    await rm(join(folder, "senders.json"), { recursive: true });
    later();
    expect(senders.inUse().problem).toBeUndefined();
  });

  test("stays when its file is empty or missing", async () => {
    await rm(join(folder, "token"));
    later();
    expect(nameOf("first")).toBe("token");
    expect(lines.join()).toContain("token: must not be empty");
  });

  test("may write every source, without limits", () => {
    expect(mayWrite(senders.find("first")!, "belt-1")).toBeTrue();
    expect(senders.find("first")!.limits).toBeUndefined();
    expect(senders.listed()).toEqual([]);
  });
});

describe("senders.json", () => {
  const list = {
    "plant-a": { tokens: [TOKEN_A, "second-of-plant-a"], conveyors: ["plant-a-*", "belt-7"] },
    "plant-b": { tokens: [`sha256:${sha256(TOKEN_B)}`], sources: ["*"] },
  };

  test("gives each token its sources, and is followed", async () => {
    await write("senders.json", list);
    later();
    for (const token of [TOKEN_A, "second-of-plant-a"]) expect(nameOf(token)).toBe("plant-a");
    const [a, b] = [senders.find(TOKEN_A)!, senders.find(TOKEN_B)!];
    const sources = ["plant-a-1", "plant-a-", "belt-7", "belt-70", "plant-b-1", "Plant-a-1", undefined];
    expect(sources.filter((source) => mayWrite(a, source))).toEqual(["plant-a-1", "plant-a-", "belt-7", undefined]);
    expect(sources.every((source) => mayWrite(b, source))).toBeTrue();
    await write("senders.json", { "plant-b": list["plant-b"] });
    later();
    expect([nameOf(TOKEN_A), nameOf(TOKEN_B), nameOf("first")]).toEqual([undefined, "plant-b", "token"]);
  });

  test.each([
    ["no JSON", `{"plant-b": "${TOKEN_B}"`, "must be JSON"],
    ["a list", [list], "must be an object of senders by name"],
    [
      "too many",
      Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`s${index}`, {}])),
      "at most 100; got 101",
    ],
    ["a name", { "plant b": list["plant-b"] }, '"plant b": a name must be'],
    ["no rights", { "plant-b": TOKEN_B }, '"plant-b": tokens must be a list of 1 to 4'],
    ["no token", { "plant-b": { tokens: [], conveyors: ["a"] } }, "tokens must be a list of 1 to 4"],
    ["a short token", { "plant-b": { tokens: ["short"], conveyors: ["a"] } }, "or at least 16 characters"],
    ["a token with a space", { "plant-b": { tokens: [`${TOKEN_B} x`], conveyors: ["a"] } }, "without whitespace"],
    ["no source", { "plant-b": { tokens: [TOKEN_B] } }, "sources must be a list of 1 to 100"],
    ["no conveyor", { "plant-b": { tokens: [TOKEN_B], conveyors: [] } }, "conveyors must be a list of 1 to 100"],
    ["both names", { "plant-b": { ...list["plant-a"], sources: ["a"] } }, "sources or conveyors"],
    ["a short digest", { "plant-b": { ...list["plant-b"], tokens: ["sha256:0123456789"] } }, "each sha256: and 64"],
    ["an unknown limit", { "plant-b": { ...list["plant-b"], rate: 1 } }, '"rate" is not a field (tokens, sources'],
    [
      "a limit of 0",
      { "plant-b": { ...list["plant-b"], most_series: 0 } },
      "most_series must be a whole number from 1",
    ],
    ["a limit as text", { "plant-b": { ...list["plant-b"], bytes_per_second: "9999" } }, 'got "9999"'],
    ["a pattern in the middle", { "plant-b": { tokens: [TOKEN_B], conveyors: ["a*b"] } }, 'got ["a*b"]'],
    [
      "one token twice",
      { a: { tokens: [TOKEN_B], sources: ["a"] }, "plant-b": list["plant-b"] },
      "plant-b: a token must differ",
    ],
  ])("with %s is refused and logged without a token; the senders before it stay", async (_, content, rule) => {
    await write("senders.json", { "plant-a": list["plant-a"] });
    later();
    expect(nameOf(TOKEN_A)).toBe("plant-a");
    await write("senders.json", content);
    later();
    expect([nameOf(TOKEN_A), nameOf(TOKEN_B), nameOf("first")]).toEqual(["plant-a", undefined, "token"]);
    const errors = lines.map((line) => JSON.parse(line)).filter(({ level }) => level === "error");
    expect(errors).toMatchObject([{ event: "intake_senders_invalid", error: expect.stringContaining(rule) }]);
    expect(JSON.stringify(errors)).not.toContain(TOKEN_B);
    expect(JSON.stringify(errors)).not.toContain(sha256(TOKEN_B));
    expect(senders.inUse().problem).toContain(rule);
    // A faulty list at the start does not lock out the others.
    senders = open();
    expect([nameOf("first"), nameOf(TOKEN_A)]).toEqual(["token", undefined]);
  });

  test("must not repeat the shared token", async () => {
    await write("token", TOKEN_A);
    await write("senders.json", list);
    later();
    expect([nameOf(TOKEN_A), nameOf(TOKEN_B)]).toEqual(["token", undefined]);
  });

  test("the digest of a token is no token", async () => {
    await write("senders.json", list);
    later();
    expect(nameOf(TOKEN_B)).toBe("plant-b");
    for (const text of [sha256(TOKEN_B), `sha256:${sha256(TOKEN_B)}`]) expect(nameOf(text)).toBeUndefined();
  });

  test("with plain tokens is taken; a warning names their senders, not the tokens", async () => {
    await write("senders.json", list);
    later();
    expect(nameOf(TOKEN_A)).toBe("plant-a");
    const warnings = lines.filter((line) => line.includes("intake_plain_tokens"));
    expect(warnings.map((line) => JSON.parse(line))).toMatchObject([{ level: "warn", senders: ["plant-a"] }]);
    expect(warnings.join()).not.toContain(TOKEN_A);
  });

  test("gives limits; those of the bounds have defaults", async () => {
    await write("senders.json", { ...list, "plant-a": { ...list["plant-a"], requests_per_second: 5, most_series: 9 } });
    later();
    expect(senders.listed().map(({ name, limits }) => ({ name, ...limits }))).toEqual([
      { name: "plant-a", requestsPerSecond: 5, bytesPerSecond: undefined, mostSources: 10_000, mostSeries: 9 },
      {
        name: "plant-b",
        requestsPerSecond: undefined,
        bytesPerSecond: undefined,
        mostSources: 10_000,
        mostSeries: 10_000,
      },
    ]);
  });

  test("inUse() names the list in use, also when no request arrives", async () => {
    expect(senders.inUse()).toEqual({ revision: revisionOf(""), senders: ["token"], problem: undefined });
    await write("senders.json", list);
    later();
    const revision = revisionOf(JSON.stringify(list));
    expect(senders.inUse()).toEqual({ revision, senders: ["token", "plant-a", "plant-b"], problem: undefined });
    await write("senders.json", "[]");
    later();
    expect(senders.inUse()).toMatchObject({ revision, problem: expect.stringContaining("must be an object") });
  });
});
