import { beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { judgeCertificates } from "../../../scripts/checks/certificates.ts";
import { createAuthority, issueCertificate, type KeyPair } from "../../../scripts/cli/pki.ts";

let ours: KeyPair;
const pairs: Record<string, KeyPair> = {};

beforeAll(async () => {
  ours = await createAuthority("ours", { days: 30 });
  const foreign = await createAuthority("foreign", { days: 30 });
  pairs.good = await issueCertificate(ours, { commonName: "good" }, { days: 20 });
  pairs.short = await issueCertificate(ours, { commonName: "short" }, { days: 3 });
  pairs.stranger = await issueCertificate(foreign, { commonName: "stranger" }, { days: 20 });
});

function judge(certificate: string, key = certificate) {
  const entries = { "tls.crt": pairs[certificate]!.certificate, "tls.key": pairs[key]!.key };
  return judgeCertificates("producer-tls", entries, new X509Certificate(ours.certificate), Date.now())[0]!;
}

describe("judgeCertificates", () => {
  test("reports days left and no problem for a certificate of the CA with its key", async () => {
    const facts = judge("good");
    expect(facts.problem).toBeUndefined();
    expect(facts.daysLeft).toBeWithin(19, 21);
    expect(facts.where).toBe("producer-tls/tls.crt");
  });
  test("reports a certificate of a foreign CA", async () => {
    expect(judge("stranger").problem).toBe("was not issued by this deployment's CA");
  });
  test("reports the key of another certificate", async () => {
    expect(judge("good", "short").problem).toBe("does not match its key");
  });
  test("reports too few days with the minimum", async () => {
    expect(judge("short").problem).toMatch(/^has [23] days left \(at least 7\)$/);
  });
  test("reports a missing certificate", () => {
    expect(judgeCertificates("x", {}, new X509Certificate(ours.certificate), 0)[0]!.problem).toBe("is missing");
  });
  test("checks each .pem of a Secret: key and chain in one file", async () => {
    const pem = `${pairs.good!.key}${pairs.good!.certificate}`;
    const ca = new X509Certificate(ours.certificate);
    expect(judgeCertificates("kafka-tls", { "kafka-0.pem": pem, "ca.crt": "x" }, ca, Date.now())).toMatchObject([
      { where: "kafka-tls/kafka-0.pem" },
    ]);
  });
  test("names the entry of an unreadable certificate", async () => {
    const ca = new X509Certificate(ours.certificate);
    const [facts] = judgeCertificates("x", { "tls.crt": "garbage", "tls.key": "garbage" }, ca, Date.now());
    expect(facts!.problem).toStartWith("cannot be read: ");
  });
});
