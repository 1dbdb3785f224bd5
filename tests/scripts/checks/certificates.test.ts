import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $ } from "zx";
import { judgeCertificates } from "../../../scripts/checks/certificates.ts";

$.quiet = true;
let folder = "";
const file = (name: string) => join(folder, name);
const text = (name: string) => readFile(file(name), "utf8");

async function makeCa(name: string) {
  await $`openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj ${`/CN=${name}`} -keyout ${file(`${name}.key`)} -out ${file(`${name}.crt`)}`;
}
async function makeLeaf(name: string, ca: string, days: number) {
  await $`openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj ${`/CN=${name}`} -keyout ${file(`${name}.key`)} -out ${file(`${name}.csr`)}`;
  await $`openssl x509 -req -in ${file(`${name}.csr`)} -CA ${file(`${ca}.crt`)} -CAkey ${file(`${ca}.key`)} -CAcreateserial -days ${days} -out ${file(`${name}.crt`)}`;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "conveyor-judge-"));
  await makeCa("ours");
  await makeCa("foreign");
  await makeLeaf("good", "ours", 20);
  await makeLeaf("short", "ours", 3);
  await makeLeaf("stranger", "foreign", 20);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function judge(certificate: string, key = certificate) {
  const entries = { "tls.crt": await text(`${certificate}.crt`), "tls.key": await text(`${key}.key`) };
  return judgeCertificates("producer-tls", entries, new X509Certificate(await text("ours.crt")), Date.now())[0]!;
}

describe("judgeCertificates", () => {
  test("a certificate of the CA with its key has days left and no problem", async () => {
    const facts = await judge("good");
    expect(facts.problem).toBeUndefined();
    expect(facts.daysLeft).toBeWithin(19, 21);
    expect(facts.where).toBe("producer-tls/tls.crt");
  });
  test("a foreign CA's certificate is named", async () => {
    expect((await judge("stranger")).problem).toBe("was not issued by this deployment's CA");
  });
  test("a key of another certificate is named", async () => {
    expect((await judge("good", "short")).problem).toBe("does not fit its key");
  });
  test("too few days are named with the rule", async () => {
    expect((await judge("short")).problem).toMatch(/^has [23] days left \(at least 7\)$/);
  });
  test("a missing certificate is a problem, not a pass", () => {
    return text("ours.crt").then((ca) => {
      expect(judgeCertificates("x", {}, new X509Certificate(ca), 0)[0]!.problem).toBe("is missing");
    });
  });
  test("each .pem of a Secret is judged: key and chain in one file", async () => {
    const pem = `${await text("good.key")}${await text("good.crt")}`;
    const ca = new X509Certificate(await text("ours.crt"));
    expect(judgeCertificates("kafka-tls", { "kafka-0.pem": pem, "ca.crt": "x" }, ca, Date.now())).toMatchObject([
      { where: "kafka-tls/kafka-0.pem" },
    ]);
  });
  test("garbage is a problem that names the entry", async () => {
    const ca = new X509Certificate(await text("ours.crt"));
    const [facts] = judgeCertificates("x", { "tls.crt": "garbage", "tls.key": "garbage" }, ca, Date.now());
    expect(facts!.problem).toStartWith("cannot be read: ");
  });
});
