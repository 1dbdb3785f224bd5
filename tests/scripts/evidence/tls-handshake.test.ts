/** Handshakes find the TLS properties of real `openssl s_server` processes, each with one special property. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { waitFor } from "../../../scripts/cli/wait.ts";
import { ensureCertificates } from "../../../scripts/deploy/certificates.ts";
import { examine, readHandshake } from "../../../scripts/evidence/tls-handshake.ts";
import { freePort } from "../../servers/free-ports.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const folder = temporaryFolder();
const servers: Bun.Subprocess[] = [];
const file = (name: string) => join(folder, name);

beforeAll(async () => {
  const names = ["DNS:here.example"];
  await ensureCertificates(folder, {
    identities: [
      { name: "server", subjectAltNames: names },
      { name: "client", subjectAltNames: ["DNS:client"] },
    ],
  });
});
afterAll(() => {
  for (const server of servers) server.kill();
});

async function listening(port: number): Promise<void> {
  await waitFor(
    async () => {
      const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } });
      socket.end();
      return { done: true, value: true };
    },
    { what: `port ${port} to listen`, limitMs: 10_000, intervalMs: 20 },
  );
}

async function serve(...flags: string[]): Promise<number> {
  const port = await freePort();
  const identity = ["-cert", file("server.crt"), "-key", file("server.key"), "-CAfile", file("ca.crt")];
  servers.push(
    Bun.spawn(["openssl", "s_server", "-accept", `127.0.0.1:${port}`, ...identity, "-quiet", ...flags], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    }),
  );
  await listening(port);
  return port;
}

const client = () => ({ ca: file("ca.crt"), cert: file("client.crt"), key: file("client.key") });
const examined = async (port: number, servername = "here.example") =>
  await examine({ host: "127.0.0.1", port, servername }, client());

describe("examine", () => {
  test("a strict server: TLS 1.2 and 1.3, one suite, certificate verified for its name, no client certificate", async () => {
    const port = await serve("-min_protocol", "TLSv1.2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384");
    const found = await examined(port);
    expect(found).toMatchObject({
      protocols: { TLSv1: false, "TLSv1.1": false, "TLSv1.2": true, "TLSv1.3": true },
      negotiated: { protocol: "TLSv1.3" },
      tls12Ciphers: ["ECDHE-ECDSA-AES256-GCM-SHA384"],
      verified: true,
      clientCertificate: "none",
      refusal: "",
    });
    expect(found?.certificate.subject).toBe("CN=server");
    // The same server with a name that its certificate does not have.
    expect(await examined(port, "elsewhere.example")).toMatchObject({ verified: false });
  });

  test("an old server: TLS 1.0, and a suite without authenticated encryption", async () => {
    const port = await serve("-min_protocol", "TLSv1", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0");
    expect(await examined(port)).toMatchObject({
      protocols: { TLSv1: true, "TLSv1.1": true },
      tls12Ciphers: ["ECDHE-ECDSA-AES128-SHA"],
    });
  });

  test("a required client certificate differs from an optional one", async () => {
    const required = await examined(await serve("-Verify", "2", "-verify_return_error"));
    expect(required).toMatchObject({ clientCertificate: "required", verified: true });
    expect(required?.refusal).not.toBe("");
    expect(await examined(await serve("-verify", "2"))).toMatchObject({ clientCertificate: "wanted", refusal: "" });
  });

  test("a server without TLS is undefined", async () => {
    const plain = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("plain") });
    try {
      expect(await examined(plain.port!)).toBeUndefined();
    } finally {
      await plain.stop(true);
    }
  });
});

test("readHandshake: a version that openssl does not support is no rejection", () => {
  const output =
    "CONNECTED\n40:error:0A0000BF:SSL routines:tls_setup_handshake:no protocols available\nNew, (NONE), Cipher is (NONE)\n";
  expect(readHandshake(output)).toMatchObject({ ok: false, reason: "no protocols available" });
});
