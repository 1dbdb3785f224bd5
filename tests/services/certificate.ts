/** A throw-away CA and a certificate for localhost, made once per test run. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

async function openssl(...args: string[]): Promise<void> {
  const child = Bun.spawn(["openssl", ...args], { stdout: "ignore", stderr: "pipe" });
  if ((await child.exited) !== 0) throw new Error(await new Response(child.stderr).text());
}

export interface TestCertificate {
  ca: string;
  cert: string;
  key: string;
}

let made: Promise<TestCertificate> | undefined;

/** The same one for all tests of a run. */
export function testCertificate(): Promise<TestCertificate> {
  made ??= newTestCertificate();
  return made;
}

/** A new CA and a new certificate. */
export async function newTestCertificate(): Promise<TestCertificate> {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-test-ca-"));
  try {
    const at = (name: string) => join(folder, name);
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    await openssl(
      "req",
      "-x509",
      ...curve,
      "-days",
      "1",
      "-subj",
      "/CN=ca",
      "-keyout",
      at("ca.key"),
      "-out",
      at("ca.crt"),
    );
    await openssl("req", ...curve, "-subj", "/CN=localhost", "-keyout", at("tls.key"), "-out", at("tls.csr"));
    await Bun.write(at("ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
    const sign = ["x509", "-req", "-in", at("tls.csr"), "-CA", at("ca.crt"), "-CAkey", at("ca.key"), "-CAcreateserial"];
    await openssl(...sign, "-days", "1", "-extfile", at("ext"), "-out", at("tls.crt"));
    const [ca, cert, key] = await Promise.all(
      ["ca.crt", "tls.crt", "tls.key"].map((name) => readFile(at(name), "utf8")),
    );
    return { ca: ca!, cert: cert!, key: key! };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
