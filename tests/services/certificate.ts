/** A throw-away CA and a certificate for localhost, made once per test run. */
import { createAuthority, issueCertificate } from "../../scripts/cli/pki.ts";

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
  const authority = await createAuthority("ca", { days: 1 });
  const subject = { commonName: "localhost", names: ["DNS:localhost", "IP:127.0.0.1"] };
  const { certificate, key } = await issueCertificate(authority, subject, { days: 1 });
  return { ca: authority.certificate, cert: certificate, key };
}
