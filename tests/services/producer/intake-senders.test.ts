import { beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { IntakeSenders, mayWrite } from "../../../services/producer/intake-senders.ts";
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

  test("stays when its file is empty or missing", async () => {
    await rm(join(folder, "token"));
    later();
    expect(nameOf("first")).toBe("token");
    expect(lines.join()).toContain("token: must not be empty");
  });

  test("may write every conveyor", () => {
    expect(mayWrite(senders.find("first")!, "belt-1")).toBeTrue();
  });
});

describe("senders.json", () => {
  const list = {
    "plant-a": { tokens: [TOKEN_A, "second-of-plant-a"], conveyors: ["plant-a-*", "belt-7"] },
    "plant-b": { tokens: [TOKEN_B], conveyors: ["*"] },
  };

  test("gives each token its conveyors, and is followed", async () => {
    await write("senders.json", list);
    later();
    for (const token of [TOKEN_A, "second-of-plant-a"]) expect(nameOf(token)).toBe("plant-a");
    const [a, b] = [senders.find(TOKEN_A)!, senders.find(TOKEN_B)!];
    const conveyors = ["plant-a-1", "plant-a-", "belt-7", "belt-70", "plant-b-1", "Plant-a-1", undefined];
    expect(conveyors.filter((conveyor) => mayWrite(a, conveyor))).toEqual([
      "plant-a-1",
      "plant-a-",
      "belt-7",
      undefined,
    ]);
    expect(conveyors.every((conveyor) => mayWrite(b, conveyor))).toBeTrue();
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
    ["a short token", { "plant-b": { tokens: ["short"], conveyors: ["a"] } }, "each at least 16 characters"],
    ["a token with a space", { "plant-b": { tokens: [`${TOKEN_B} x`], conveyors: ["a"] } }, "without whitespace"],
    ["no conveyor", { "plant-b": { tokens: [TOKEN_B] } }, "conveyors must be a list of 1 to 100"],
    ["a pattern in the middle", { "plant-b": { tokens: [TOKEN_B], conveyors: ["a*b"] } }, 'got ["a*b"]'],
    ["one token twice", { a: list["plant-b"], "plant-b": list["plant-b"] }, "plant-b: a token must differ"],
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
});
