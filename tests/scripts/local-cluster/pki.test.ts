import { describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { type CertificateRequest, ensurePki, kubeconfigText } from "../../../scripts/local-cluster/pki.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const folder = temporaryFolder();

const requests: CertificateRequest[] = [
  { name: "server", authority: "ca", commonName: "server", names: ["DNS:a.example", "IP:198.19.0.2"] },
  { name: "client", authority: "ca", commonName: "client", organization: "group" },
  { name: "etcd", authority: "etcd-ca", commonName: "etcd" },
];
const certificate = async (name: string) => new X509Certificate(await readFile(join(folder, `${name}.crt`)));

describe("ensurePki", () => {
  test("creates each certificate once, by its authority, with the requested names", async () => {
    const made = await ensurePki(folder, requests);
    expect(made.sort()).toEqual(["ca", "client", "etcd", "etcd-ca", "front-proxy-ca", "server", "service-accounts"]);
    const [ca, etcdCa, server, etcd] = await Promise.all(["ca", "etcd-ca", "server", "etcd"].map(certificate));
    expect(server!.verify(ca!.publicKey)).toBe(true);
    expect(etcd!.verify(ca!.publicKey)).toBe(false);
    expect(etcd!.verify(etcdCa!.publicKey)).toBe(true);
    expect(server!.subjectAltName).toBe("DNS:a.example, IP Address:198.19.0.2");
    expect((await certificate("client")).subject).toBe("O=group\nCN=client");
    expect(server!.ca).toBe(false);
    expect(await ensurePki(folder, requests)).toEqual([]);
  });

  test("a changed request renews only that certificate; authorities and tokens stay valid", async () => {
    const [ca, key, client] = await Promise.all(
      ["ca.crt", "service-accounts.key", "client.crt"].map((name) => readFile(join(folder, name), "utf8")),
    );
    const changed = requests.map((request) =>
      request.name === "server" ? { ...request, names: ["DNS:b.example"] } : request,
    );
    expect(await ensurePki(folder, changed)).toEqual(["server"]);
    expect((await certificate("server")).subjectAltName).toBe("DNS:b.example");
    expect(await readFile(join(folder, "ca.crt"), "utf8")).toBe(ca!);
    expect(await readFile(join(folder, "service-accounts.key"), "utf8")).toBe(key!);
    expect(await readFile(join(folder, "client.crt"), "utf8")).toBe(client!);
  });

  test("a missing authority renews the certificates that it had signed", async () => {
    await rm(join(folder, "etcd-ca.crt"));
    expect((await ensurePki(folder, requests)).sort()).toEqual(["etcd", "etcd-ca", "server"]);
    expect((await certificate("etcd")).verify((await certificate("etcd-ca")).publicKey)).toBe(true);
  });

  test("keys are readable only by their owner, and no temporary file remains", async () => {
    for (const name of await readdir(folder)) {
      if (name.endsWith(".key")) expect((await Bun.file(join(folder, name)).stat()).mode & 0o077).toBe(0);
      expect(name).not.toMatch(/csr|ext|new/);
    }
  });

  test("kubeconfigText has everything that a client needs", async () => {
    const config = JSON.parse(await kubeconfigText(folder, "client", "https://198.19.0.2:6443", "here"));
    expect(config["current-context"]).toBe("here");
    const data = Buffer.from(config.users[0].user["client-certificate-data"], "base64").toString();
    expect(new X509Certificate(data).subject).toBe("O=group\nCN=client");
  });
});
