/** Properties of the certificates; openssl verifies them independently. */
import { beforeEach, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connect, createServer, type Server, type TLSSocket } from "node:tls";
import { OperatorError } from "../../../scripts/cli/errors.ts";
import { authorityId } from "../../../scripts/cli/pki.ts";
import {
  certificateFolder,
  ensureCertificates,
  IDENTITIES,
  identitiesFor,
  namesOf,
  storedIntakeHosts,
} from "../../../scripts/deploy/certificates.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const DAY_MS = 86_400_000;
/** A part of the table that has every property, for fewer openssl calls. */
const SOME = IDENTITIES.filter(({ name }) => ["kafka-0", "influxdb", "admin"].includes(name));

const root = temporaryFolder();
const newFolder = () => mkdtemp(join(root, "certs-"));
let folder: string;
beforeEach(async () => {
  folder = await newFolder();
});

const make = (options: Parameters<typeof ensureCertificates>[1] = {}) =>
  ensureCertificates(folder, { identities: SOME, ...options });
const actions = async (options: Parameters<typeof ensureCertificates>[1] = {}) =>
  Object.fromEntries((await make(options)).map(({ name, action }) => [name, action]));
const read = async (name: string) => new X509Certificate(await readFile(join(folder, `${name}.crt`)));
const contents = async () =>
  await Promise.all(
    (await readdir(folder)).sort().map(async (file) => [file, await readFile(join(folder, file), "utf8")]),
  );
const openssl = async (...args: string[]) => {
  const child = Bun.spawn(["openssl", ...args], { stdout: "pipe", stderr: "pipe" });
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { text: out + error, code };
};
const failure = async (work: Promise<unknown>): Promise<OperatorError> => {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(OperatorError);
  return error as OperatorError;
};

describe("ensureCertificates: first run", () => {
  test("openssl accepts every certificate as server and as client, strictly", async () => {
    const made = await ensureCertificates(folder);
    expect(made.map(({ name }) => name)).toEqual(["ca", ...IDENTITIES.map(({ name }) => name)]);
    for (const { name } of IDENTITIES) {
      for (const purpose of ["sslserver", "sslclient"]) {
        const file = join(folder, `${name}.crt`);
        const verdict = await openssl(
          ...["verify", "-x509_strict", "-purpose", purpose, "-CAfile", join(folder, "ca.crt"), file],
        );
        expect({ name, purpose, ...verdict }).toMatchObject({ name, purpose, code: 0 });
      }
    }
  });

  test("a certificate cannot issue certificates; the CA issues one level", async () => {
    await make();
    expect((await read("ca")).ca).toBe(true);
    expect((await read("influxdb")).ca).toBe(false);
    const { text } = await openssl("x509", "-in", join(folder, "ca.crt"), "-noout", "-text");
    expect(text).toContain("CA:TRUE, pathlen:0");
    expect(text).toContain("Certificate Sign, CRL Sign");
  });

  test("keys are PKCS#8 on P-256, readable only by the owner; a broker's file has key and certificate", async () => {
    await make();
    for (const file of ["ca.key", "kafka-0.key", "kafka-0.pem", "influxdb.key"]) {
      expect({ file, mode: (await stat(join(folder, file))).mode & 0o777 }).toEqual({ file, mode: 0o600 });
    }
    const pem = await readFile(join(folder, "kafka-0.pem"), "utf8");
    // The label of PKCS#8 (RFC 7468); SEC 1 has another one.
    expect(/^-{5}BEGIN ([A-Z ]+)-{5}\n/.exec(pem)?.[1]).toBe("PRIVATE KEY");
    expect(pem).toContain("-----BEGIN CERTIFICATE-----\n");
    const { text } = await openssl("x509", "-in", join(folder, "kafka-0.crt"), "-noout", "-text");
    expect(text).toContain("NIST CURVE: P-256");
  });

  test("names are exactly those of the table; serials are random; validity starts before now", async () => {
    await make();
    const [first, second] = [await read("kafka-0"), await read("influxdb")];
    expect(namesOf(first)).toEqual([...SOME.find(({ name }) => name === "kafka-0")!.subjectAltNames].sort());
    expect(first.subject).toBe("CN=kafka-0");
    expect(first.serialNumber).toHaveLength(32);
    expect(first.serialNumber).not.toBe(second.serialNumber);
    expect(first.validFromDate.getTime()).toBeLessThan(Date.now() - 4 * 60_000);
  });

  test("leaves only certificates and keys in the folder", async () => {
    await make();
    for (const entry of await readdir(folder)) expect(entry).toMatch(/^[a-z0-9-]+\.(crt|key|pem)$/);
  });
});

describe("ensureCertificates: second run", () => {
  test("keeps every file unchanged", async () => {
    await make();
    const before = await contents();
    expect(await actions()).toEqual({ ca: "kept", "kafka-0": "kept", influxdb: "kept", admin: "kept" });
    expect(await contents()).toEqual(before);
  });

  test("renews exactly the certificates that expire within --renew-before", async () => {
    await make({ identities: SOME.slice(0, 1), days: 20, renewBeforeMs: DAY_MS });
    expect(await actions()).toEqual({ ca: "kept", "kafka-0": "renewed", influxdb: "created", admin: "created" });
    expect(await actions()).toEqual({ ca: "kept", "kafka-0": "kept", influxdb: "kept", admin: "kept" });
  });

  test("renews an expired certificate", async () => {
    await make({ days: 30, renewBeforeMs: DAY_MS });
    const later = new Date(Date.now() + 40 * DAY_MS);
    const statuses = await make({ now: later, days: 30, renewBeforeMs: DAY_MS });
    expect(statuses.map(({ name, action, reason }) => [name, action, reason])).toEqual([
      ["ca", "kept", undefined],
      ["kafka-0", "renewed", "expired"],
      ["influxdb", "renewed", "expired"],
      ["admin", "renewed", "expired"],
    ]);
  });

  test("keeps a certificate with more names than wanted where the CA's key is missing; fewer names are an error", async () => {
    const folder = await newFolder();
    const named = (...subjectAltNames: string[]) => [{ ...SOME[0]!, subjectAltNames }];
    await ensureCertificates(folder, { identities: named("DNS:a", "DNS:b") });
    await rm(join(folder, "ca.key"));
    const [, kept] = await ensureCertificates(folder, { identities: named("DNS:a") });
    expect(kept).toMatchObject({ action: "kept" });
    await expect(ensureCertificates(folder, { identities: named("DNS:a", "DNS:c") })).rejects.toMatchObject({
      exitCode: 3,
    });
  });

  test("renews a certificate whose names have changed", async () => {
    await make();
    const changed = SOME.map((identity) =>
      identity.name === "influxdb" ? { ...identity, subjectAltNames: ["DNS:elsewhere"] } : identity,
    );
    expect(await actions({ identities: changed })).toMatchObject({ "kafka-0": "kept", influxdb: "renewed" });
  });

  test("--force reissues every certificate under the same CA", async () => {
    await make();
    const authority = (await read("ca")).fingerprint256;
    expect(await actions({ force: true })).toEqual({
      ca: "kept",
      "kafka-0": "renewed",
      influxdb: "renewed",
      admin: "renewed",
    });
    expect((await read("ca")).fingerprint256).toBe(authority);
  });

  test("reissues every certificate under a new or replaced CA", async () => {
    await make();
    expect(new Set(Object.values(await actions({ newCa: true })))).toEqual(new Set(["renewed"]));
    const other = await newFolder();
    await ensureCertificates(other, { identities: [] });
    for (const file of ["ca.crt", "ca.key"]) await writeFile(join(folder, file), await readFile(join(other, file)));
    const statuses = await make();
    expect(statuses.slice(1).map(({ reason }) => reason)).toEqual(Array(3).fill("issued by another CA"));
  });

  test("renews a CA that would expire before its certificates with the same key; they stay valid", async () => {
    await make();
    const made = Date.now();
    await make({ now: new Date(made + 3200 * DAY_MS) });
    const [leaf, authority] = [await read("influxdb"), await read("ca")];
    expect(await actions({ now: new Date(made + 3300 * DAY_MS) })).toEqual({
      ca: "renewed",
      "kafka-0": "kept",
      influxdb: "kept",
      admin: "kept",
    });
    const renewed = await read("ca");
    const keyOf = ({ publicKey }: X509Certificate) => publicKey.export({ format: "der", type: "spki" }).toString("hex");
    expect(renewed.fingerprint256).not.toBe(authority.fingerprint256);
    expect(keyOf(renewed)).toBe(keyOf(authority));
    expect((await read("influxdb")).fingerprint256).toBe(leaf.fingerprint256);
    expect(leaf.checkIssued(renewed) && leaf.verify(renewed.publicKey)).toBe(true);
  });
});

describe("ensureCertificates: recovery", () => {
  test("reissues after a run that was interrupted between key and certificate", async () => {
    await make();
    await writeFile(join(folder, "influxdb.key"), await readFile(join(folder, "admin.key")));
    const statuses = await make();
    expect(statuses.find(({ name }) => name === "influxdb")).toMatchObject({
      action: "renewed",
      reason: "key and certificate do not match",
    });
  });

  test("repairs unreadable files, missing keys, a missing broker file, permissions, leftovers of a killed run", async () => {
    await make();
    await writeFile(join(folder, "admin.crt"), "no certificate");
    await rm(join(folder, "influxdb.key"));
    await rm(join(folder, "kafka-0.pem"));
    await chmod(join(folder, "kafka-0.key"), 0o644);
    await mkdir(join(folder, ".making-dead"));
    await writeFile(join(folder, ".lock"), "4194399\n");
    expect(await actions()).toEqual({ ca: "kept", "kafka-0": "kept", influxdb: "renewed", admin: "renewed" });
    expect(await readdir(folder)).toContain("kafka-0.pem");
    expect(await readdir(folder)).not.toContain(".making-dead");
    expect((await stat(join(folder, "kafka-0.key"))).mode & 0o777).toBe(0o600);
  });

  test("without the CA's key keeps valid certificates and names the remedy for one that is due", async () => {
    await make();
    await rm(join(folder, "ca.key"));
    expect(await actions()).toEqual({ ca: "kept", "kafka-0": "kept", influxdb: "kept", admin: "kept" });
    const error = await failure(make({ force: true }));
    expect(error.exitCode).toBe(3);
    expect(error.message).toContain("ca.key is missing");
  });

  test.each([
    ["its certificate is missing", () => rm(join(folder, "ca.crt"))],
    ["its certificate is unreadable", () => writeFile(join(folder, "ca.crt"), "no certificate")],
  ])("the CA is issued again with the same key where %s", async (_, damage) => {
    await make();
    const before = await readFile(join(folder, "ca.crt"), "utf8");
    await damage();
    expect(await actions()).toEqual({ ca: "renewed", "kafka-0": "kept", influxdb: "kept", admin: "kept" });
    expect(authorityId(await readFile(join(folder, "ca.crt"), "utf8"))).toBe(authorityId(before));
  });

  test.each([
    ["unreadable, without a key", { "ca.crt": "no certificate", "ca.key": undefined }],
    ["missing, with a damaged key", { "ca.crt": undefined, "ca.key": "no key" }],
    ["of another key", { "ca.key": "admin.key" }],
    ["not that of a CA", { "ca.crt": "admin.crt", "ca.key": "admin.key" }],
  ])("no new CA replaces one whose certificate is %s", async (_, damage) => {
    await make();
    for (const [file, content] of Object.entries(damage)) {
      await rm(join(folder, file));
      if (content?.startsWith("admin")) await cp(join(folder, content), join(folder, file));
      else if (content) await writeFile(join(folder, file), content);
    }
    const before = await contents();
    const error = await failure(make());
    expect({ exitCode: error.exitCode, hint: error.hint }).toMatchObject({
      exitCode: 3,
      hint: expect.stringContaining("--new-ca"),
    });
    expect(await contents()).toEqual(before);
    expect(await actions({ newCa: true })).toMatchObject({ admin: "renewed" });
  });

  test("a clock that is behind replaces no CA", async () => {
    await make();
    const before = await contents();
    const error = await failure(make({ now: new Date(Date.now() - DAY_MS) }));
    expect(error.message).toContain("ca.crt: not valid yet");
    expect(await contents()).toEqual(before);
  });

  test("refuses a concurrent run on the same folder", async () => {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, ".lock"), `${process.pid}\n`);
    expect((await failure(make())).message).toContain(`process ${process.pid} is creating the certificates`);
  });
});

describe("ensureCertificates: invalid input", () => {
  test.each([
    [{ days: 0 }, "--days: must be a whole number from 1 to 825; got 0"],
    [{ days: 1000 }, "--days: must be a whole number from 1 to 825; got 1000"],
    [{ days: 10 }, "--renew-before: must be shorter than the life of a certificate (10 days); got 30 days"],
  ])("%j is refused with flag, rule and value", async (options, message) => {
    const error = await failure(make(options));
    expect(error.exitCode).toBe(2);
    expect(error.message).toBe(message);
  });

  test("without openssl the command exits 3 and names it", async () => {
    const child = Bun.spawn(
      [process.execPath, join(import.meta.dir, "../../../scripts/generate-certs.ts"), "--dir", folder],
      { env: { PATH: "/nonexistent" }, stdout: "pipe", stderr: "pipe" },
    );
    const complaint = await new Response(child.stderr).text();
    expect(await child.exited).toBe(3);
    expect(complaint).toContain("openssl is not installed");
  });
});

describe("mutual TLS", () => {
  /** One mutual-TLS handshake over loopback; resolves to "ok" or the error code. */
  const handshake = async (server: Server, client: Parameters<typeof connect>[0]): Promise<string> => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    try {
      return await new Promise((resolve) => {
        const socket: TLSSocket = connect({ host: "127.0.0.1", port, servername: "localhost", ...client });
        socket.once("data", () => resolve("ok"));
        socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
        socket.once("close", () => resolve("closed"));
      });
    } finally {
      server.close();
    }
  };

  test("accepts own certificates and rejects those of a foreign CA, in both directions", async () => {
    await make();
    const other = await newFolder();
    await ensureCertificates(other, { identities: SOME });
    const material = async (where: string, name: string) => ({
      ca: await readFile(join(where, "ca.crt")),
      cert: await readFile(join(where, `${name}.crt`)),
      key: await readFile(join(where, `${name}.key`)),
    });
    const serve = async (where: string) =>
      createServer({ ...(await material(where, "influxdb")), requestCert: true, rejectUnauthorized: true }, (socket) =>
        socket.end("hello"),
      ).on("tlsClientError", () => {});
    const ours = await material(folder, "admin");
    const theirs = await material(other, "admin");
    expect(await handshake(await serve(folder), ours)).toBe("ok");
    expect(await handshake(await serve(other), ours)).not.toBe("ok");
    expect(await handshake(await serve(folder), { ...theirs, ca: ours.ca })).not.toBe("ok");
    expect(await handshake(await serve(folder), { ca: ours.ca })).not.toBe("ok");
  });
});

test("each namespace has a folder: its certificates contain its name", () => {
  const root = join(import.meta.dir, "../../../certs");
  expect([certificateFolder("conveyor"), certificateFolder("pumps")]).toEqual([root, join(root, "pumps")]);
});

describe("names of the intake for senders outside the cluster", () => {
  const HOSTS = ["telemetry.example.org", "203.0.113.7", "2001:db8::1"];
  const withHosts = async (hosts: readonly string[]) => {
    const some = ["kafka-0", "producer"];
    const identities = identitiesFor(hosts).filter(({ name }) => some.includes(name));
    return await actions({ identities });
  };

  test("are added to the producer's certificate, and reissue it alone: the CA and the brokers stay", async () => {
    expect(await withHosts([])).toEqual({ ca: "created", "kafka-0": "created", producer: "created" });
    const authority = (await read("ca")).fingerprint256;
    expect(await storedIntakeHosts(folder)).toEqual([]);
    expect(await withHosts(HOSTS)).toEqual({ ca: "kept", "kafka-0": "kept", producer: "renewed" });
    const certificate = await read("producer");
    expect(certificate.checkHost("telemetry.example.org")).toBeDefined();
    expect(certificate.checkIP("203.0.113.7")).toBeDefined();
    expect(certificate.checkIP("2001:db8::1")).toBeDefined();
    // Also a name inside the cluster.
    expect(certificate.checkHost("producer.conveyor.svc")).toBeDefined();
    expect((await storedIntakeHosts(folder)).sort()).toEqual([...HOSTS].sort());
    expect(await withHosts(HOSTS)).toEqual({ ca: "kept", "kafka-0": "kept", producer: "kept" });
    expect(await withHosts(["other.example.org"])).toMatchObject({ ca: "kept", producer: "renewed" });
    expect((await read("producer")).checkHost("telemetry.example.org")).toBeUndefined();
    expect(await withHosts([])).toMatchObject({ ca: "kept", "kafka-0": "kept", producer: "renewed" });
    expect((await read("ca")).fingerprint256).toBe(authority);
  });

  test("that the certificate has anyway are not repeated", () => {
    const names = identitiesFor(["localhost", "127.0.0.1"]).find(({ name }) => name === "producer")!.subjectAltNames;
    expect(names).toEqual(IDENTITIES.find(({ name }) => name === "producer")!.subjectAltNames);
  });
});
