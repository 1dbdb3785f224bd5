/** A temporary CA and a certificate for localhost, created once per test run. */
import { createAuthority, issueCertificate } from "../../scripts/cli/pki.ts";

export interface TestCertificate {
  ca: string;
  cert: string;
  key: string;
}

let created: Promise<TestCertificate> | undefined;

/** The same one for all tests of a run. */
export function testCertificate(): Promise<TestCertificate> {
  created ??= newTestCertificate();
  return created;
}

/** A new CA and a new certificate. */
export async function newTestCertificate(): Promise<TestCertificate> {
  const authority = await createAuthority("ca", { days: 1 });
  const subject = { commonName: "localhost", names: ["DNS:localhost", "IP:127.0.0.1"] };
  const { certificate, key } = await issueCertificate(authority, subject, { days: 1 });
  return { ca: authority.certificate, cert: certificate, key };
}
