/** Which certificates a deploy uses: never another CA than that of the deployed pipeline, unless it is asked to. */
import { beforeAll, describe, expect, test } from "bun:test";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OperatorError } from "../../../scripts/cli/errors.ts";
import { createAuthority } from "../../../scripts/cli/pki.ts";
import { prepareCertificates, withFolderCopy } from "../../../scripts/deploy/certificate-source.ts";
import { ensureCertificates, IDENTITIES } from "../../../scripts/deploy/certificates.ts";
import { FILL_FROM, fillSecrets } from "../../../scripts/deploy/secrets.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { FakeCluster } from "./fake-cluster.ts";

const stages = await loadStages();
const { signal } = new AbortController();
const root = temporaryFolder();
/** The folder that the pipeline was deployed from. */
const own = join(root, "own");
let pipeline: FakeCluster;

/** A pipeline that was deployed from a folder. */
async function pipelineOf(folder: string): Promise<FakeCluster> {
  const secrets = stages
    .flatMap(({ objects }) => objects)
    .filter(({ kind, metadata }) => kind === "Secret" && metadata.annotations?.[FILL_FROM]);
  const sources = { file: (name: string) => readFile(join(folder, name), "utf8"), live: async () => undefined };
  return new FakeCluster([]).add(...(await fillSecrets(secrets, sources)));
}

beforeAll(async () => {
  await ensureCertificates(own);
  pipeline = await pipelineOf(own);
});

const newFolder = () => mkdtemp(join(root, "certs-"));
const copyOfOwn = async () => {
  const folder = await newFolder();
  await cp(own, folder, { recursive: true });
  return folder;
};
const prepare = (folder: string, { newCa = false, cluster = pipeline } = {}) =>
  prepareCertificates(cluster, stages, { folder, newCa }, signal);
const contentOf = async (folder: string) =>
  Object.fromEntries(
    await Promise.all(
      (await readdir(folder)).sort().map(async (file) => [file, await readFile(join(folder, file), "utf8")]),
    ),
  );
const failure = async (work: Promise<unknown>): Promise<OperatorError> => {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(OperatorError);
  return error as OperatorError;
};
const authority = async (folder: string) => await readFile(join(folder, "ca.crt"), "utf8");

describe("a folder without a CA", () => {
  test("gets one where nothing is deployed", async () => {
    const folder = await newFolder();
    const { statuses, restored } = await prepare(folder, { cluster: new FakeCluster([]) });
    expect({ actions: new Set(statuses.map(({ action }) => action)), restored }).toEqual({
      actions: new Set(["created"]),
      restored: [],
    });
  });

  test("gets the deployed pipeline's certificates back from its Secrets, without the CA's key", async () => {
    const folder = join(await newFolder(), "certs");
    const { statuses, restored } = await prepare(folder);
    expect(statuses.map(({ name, action }) => [name, action])).toEqual(
      ["ca", ...IDENTITIES.map(({ name }) => name)].map((name) => [name, "kept"]),
    );
    const { "ca.key": _, ...expected } = await contentOf(own);
    expect(await contentOf(folder)).toEqual(expected);
    expect(restored.sort()).toEqual(Object.keys(expected));
    expect((await prepare(folder)).restored).toEqual([]);
  });

  test("is completed by the next run when this was interrupted", async () => {
    const folder = await newFolder();
    await cp(join(own, "ca.crt"), join(folder, "ca.crt"));
    const { restored } = await prepare(folder);
    expect(restored).not.toContain("ca.crt");
    const { "ca.key": _, ...expected } = await contentOf(own);
    expect(await contentOf(folder)).toEqual(expected);
  });

  test("does not need the certificates of stages that were never deployed", async () => {
    const partial = new FakeCluster([]).add(...pipeline.objects.values());
    partial.remove("Secret/grafana-tls", "Secret/promtail-tls (conveyor-logging)");
    const { statuses } = await prepare(await newFolder(), { cluster: partial });
    const names = statuses.map(({ name }) => name);
    expect(names).toContain("kafka-0");
    expect(names).not.toContain("grafana");
  });

  test("with --new-ca gets a new CA", async () => {
    const folder = await newFolder();
    await prepare(folder, { newCa: true });
    expect(await authority(folder)).not.toBe(await authority(own));
  });
});

describe("a folder with a CA", () => {
  test("of the deployed pipeline is used; a deleted certificate is issued again, not read back", async () => {
    const folder = await copyOfOwn();
    for (const file of ["processor.crt", "processor.key"]) await rm(join(folder, file));
    const { statuses, restored } = await prepare(folder);
    expect(restored).toEqual([]);
    expect(statuses.filter(({ action }) => action !== "kept").map(({ name }) => name)).toEqual(["processor"]);
    expect(await readFile(join(folder, "processor.crt"), "utf8")).not.toBe(
      await readFile(join(own, "processor.crt"), "utf8"),
    );
  });

  describe("and certificates that another folder has issued later", () => {
    let newer: string;
    beforeAll(async () => {
      newer = await copyOfOwn();
      // Valid from five minutes before: now, and after those of `own`.
      const now = new Date(Date.now() + 240_000);
      const identities = IDENTITIES.filter(({ name }) => name === "kafka-0" || name === "admin");
      await ensureCertificates(newer, { now, force: true, identities });
    });

    test.each([true, false])("takes those of the deployed pipeline, with its CA's key: %p", async (hasKey) => {
      const folder = await copyOfOwn();
      if (!hasKey) await rm(join(folder, "ca.key"));
      const { statuses, restored } = await prepare(folder, { cluster: await pipelineOf(newer) });
      expect(new Set(statuses.map(({ action }) => action))).toEqual(new Set(["kept"]));
      expect(restored.sort()).toEqual(["admin.crt", "admin.key", "kafka-0.crt", "kafka-0.key", "kafka-0.pem"]);
      const { "ca.key": _, ...expected } = await contentOf(newer);
      expect(await contentOf(folder)).toMatchObject(expected);
    });

    test("keeps its own later ones", async () => {
      const before = await contentOf(newer);
      expect((await prepare(newer)).restored).toEqual([]);
      expect(await contentOf(newer)).toEqual(before);
    });
  });

  test("that was renewed with the same key is the same CA", async () => {
    const folder = await copyOfOwn();
    const key = await readFile(join(folder, "ca.key"), "utf8");
    const renewed = await createAuthority("Conveyor Pipeline CA", { days: 5000, key });
    await writeFile(join(folder, "ca.crt"), renewed.certificate);
    expect(await authority(folder)).not.toBe(await authority(own));
    await expect(prepare(folder)).resolves.toMatchObject({ restored: [] });
  });

  test("of another pipeline is refused with both fingerprints and both ways out, and nothing is changed", async () => {
    const folder = await newFolder();
    const fingerprints = [
      (await ensureCertificates(folder, { identities: [] }))[0]!.fingerprint,
      (await ensureCertificates(own, { identities: [] }))[0]!.fingerprint,
    ];
    const before = await contentOf(folder);
    const error = await failure(prepare(folder));
    expect(error.exitCode).toBe(3);
    for (const fingerprint of fingerprints) expect(error.message).toContain(fingerprint);
    expect(error.hint).toContain(`mv ${folder} ${folder}.other`);
    expect(error.hint).toContain("--new-ca");
    expect(await contentOf(folder)).toEqual(before);
    await prepare(folder, { newCa: true });
    expect(await authority(folder)).toBe(before["ca.crt"]!);
  });
});

describe("a dry run", () => {
  test("of a fresh clone works and stores nothing", async () => {
    const folder = join(await newFolder(), "certs");
    const prepared = await withFolderCopy(folder, async (copy) => [await prepare(copy), await contentOf(copy)]);
    expect(prepared).toMatchObject([{ restored: expect.anything() }, { "ca.crt": await authority(own) }]);
    expect(await readdir(join(folder, ".."))).toEqual([]);
  });

  test("issues what a deploy would issue and leaves the folder as it is", async () => {
    const folder = await copyOfOwn();
    await rm(join(folder, "admin.crt"));
    const before = await contentOf(folder);
    const { statuses } = await withFolderCopy(folder, (copy) => prepare(copy));
    expect(statuses.find(({ name }) => name === "admin")?.action).toBe("created");
    expect(await contentOf(folder)).toEqual(before);
  });

  test("leaves out the folders in it", async () => {
    const folder = await copyOfOwn();
    await mkdir(join(folder, "old"));
    await withFolderCopy(folder, async (copy) => {
      expect((await readdir(copy)).sort()).toEqual((await readdir(own)).sort());
    });
  });

  test("names the folder, not its copy, in an error", async () => {
    const folder = await newFolder();
    await ensureCertificates(folder, { identities: [] });
    const error = await failure(withFolderCopy(folder, (copy) => prepare(copy)));
    expect(error.message).toStartWith(`the deployed pipeline has another CA than ${folder}: `);
  });
});
