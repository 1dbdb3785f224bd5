import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { causeChain } from "../../../scripts/cli/errors.ts";
import { chooseBuilder } from "../../../scripts/images/builders.ts";
import { ensureImages, planImages } from "../../../scripts/images/index.ts";
import { writeImageArchive } from "../../../scripts/local-cluster/index.ts";
import { freePort } from "../../servers/free-ports.ts";
import { silentReport } from "../cli/silent-report.ts";

// A real registry (Debian's docker-registry) on loopback and a real tool; skipped without either.
const registry = Bun.which("docker-registry");
const builder = registry ? await chooseBuilder().catch(() => undefined) : undefined;

/** The registry opens its port within a second. */
const START_LIMIT_MS = 10_000;

describe.skipIf(!registry || !builder)("--registry", () => {
  const ref = "conveyor.invalid/pushed:1.0.0";
  let folder: string;
  let run: string;
  let server: Bun.Subprocess;
  let host: string;
  const writeArchive = async (content: string) => {
    const layer = { kind: "files" as const, files: [{ path: "hello", content }] };
    await writeImageArchive(join(folder, "pushed.tar"), { ref, layers: [layer], config: { Cmd: ["/hello"] } });
  };
  const before = { XDG_CACHE_HOME: process.env.XDG_CACHE_HOME, XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-registry-"));
    process.env.XDG_CACHE_HOME = join(folder, "cache");
    // Podman accepts only short paths.
    run = await mkdtemp("/tmp/run-");
    process.env.XDG_RUNTIME_DIR = run;
    host = `127.0.0.1:${await freePort()}`;
    const config = join(folder, "config.json");
    const storage = { filesystem: { rootdirectory: join(folder, "data") } };
    await writeFile(config, JSON.stringify({ version: "0.1", log: { level: "error" }, storage, http: { addr: host } }));
    server = Bun.spawn([registry!, "serve", config], { stdout: "ignore", stderr: "ignore" });
    const deadline = Date.now() + START_LIMIT_MS;
    while (!(await fetch(`http://${host}/v2/`).catch(() => undefined))?.ok) {
      if (Date.now() > deadline) throw new Error(`the registry does not answer on ${host}`);
      await Bun.sleep(50);
    }
    await writeArchive("hello\n");
  });
  afterAll(async () => {
    server?.kill();
    await server?.exited;
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    for (const made of [folder, run]) await rm(made, { recursive: true, force: true });
  });

  test("pushes an image; the registry serves the digest of the result", async () => {
    const report = silentReport();
    const prefix = `${host}/belts`;
    const [result] = await ensureImages({ kind: "registry", prefix }, [ref], report, { imagesDir: folder });
    expect(result).toMatchObject({
      action: "pushed",
      pushedRef: `${prefix}/conveyor/pushed:1.0.0@${result!.digest}`,
    });
    const answer = await fetch(`http://${host}/v2/belts/conveyor/pushed/manifests/1.0.0`, {
      headers: {
        accept: "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
      },
    });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("docker-content-digest")).toBe(result!.digest!);
    const again = await ensureImages({ kind: "registry", prefix }, [ref], report, { imagesDir: folder });
    expect(again[0]?.digest).toBe(result?.digest);
  }, 60_000);

  test("another content under the same tag is another reference; both stay in the registry", async () => {
    const target = { kind: "registry", prefix: `${host}/twice` } as const;
    const push = async (content: string) => {
      await writeArchive(content);
      return (await ensureImages(target, [ref], silentReport(), { imagesDir: folder }))[0]!;
    };
    const pushed = [await push("first\n"), await push("second\n")];
    expect(new Set(pushed.map(({ pushedRef }) => pushedRef)).size).toBe(2);
    const answers = pushed.map(({ digest }) => fetch(`http://${host}/v2/twice/conveyor/pushed/manifests/${digest}`));
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200]);
    // The dry run of a deploy names the reference that the deploy would apply.
    const [planned] = await planImages(target, [ref], { imagesDir: folder });
    expect(planned?.pushedRef).toBe(pushed[1]!.pushedRef);
  }, 60_000);

  test("a registry that does not answer is an error that names the reference", async () => {
    const report = silentReport();
    // Port 1 has no listener.
    const prefix = "127.0.0.1:1/belts";
    const push = ensureImages({ kind: "registry", prefix }, [ref], report, { imagesDir: folder });
    const error = (await push.catch((thrown) => thrown)) as Error;
    expect(error.message).toBe(`${prefix}/conveyor/pushed:1.0.0 could not be pushed`);
    expect(causeChain(error).join("\n")).toContain("connection refused");
  }, 60_000);
});
