/** The certificates and Secrets of the way with cert-manager and External Secrets: those of generate-certs and deploy. */
import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { KubernetesObject } from "../../scripts/cluster/cluster.ts";
import { IDENTITIES } from "../../scripts/deploy/certificates.ts";
import { loadManifests, MANIFEST_FOLDER, parseManifest } from "../../scripts/deploy/manifests.ts";
import { recipeOf } from "../../scripts/deploy/secrets.ts";

const FILES = ["authority.yaml", "certificates.yaml", "kafka-tls.yaml", "logging/certificates.yaml"];
const objects = (
  await Promise.all(
    FILES.map(async (name) => {
      const path = join("cert-manager", name);
      return parseManifest(await readFile(join(MANIFEST_FOLDER, path), "utf8"), path);
    }),
  )
).flat();
const secrets = (await loadManifests()).filter(({ kind }) => kind === "Secret");

type Certificate = KubernetesObject & {
  spec: { secretName: string; commonName: string; dnsNames: string[]; ipAddresses?: string[]; isCA?: true };
};
const certificates = objects.filter(({ kind }) => kind === "Certificate") as Certificate[];

describe("certificates of cert-manager", () => {
  test("are those of generate-certs, with the same names", () => {
    const leaves = certificates.filter(({ spec }) => !spec.isCA);
    const namesOf = ({ spec: { commonName, dnsNames, ipAddresses = [] } }: Certificate) => ({
      name: commonName,
      subjectAltNames: [
        ...dnsNames.map((name) => `DNS:${name}`),
        ...ipAddresses.map((address) => `IP:${address}`),
      ].sort(),
    });
    const expected = IDENTITIES.map(({ name, subjectAltNames }) => ({
      name,
      subjectAltNames: [...subjectAltNames].sort(),
    }));
    const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);
    expect(leaves.map(namesOf).sort(byName)).toEqual(expected.sort(byName));
  });

  test("fill the Secrets that pods mount, in their namespaces, with keys in PKCS#8", () => {
    for (const { spec, metadata } of certificates.filter(({ spec }) => !spec.isCA)) {
      expect(spec).toMatchObject({ privateKey: { algorithm: "ECDSA", size: 256, encoding: "PKCS8" } });
      if (/^kafka-\d$/.test(spec.commonName)) {
        expect(spec).toMatchObject({ additionalOutputFormats: [{ type: "CombinedPEM" }] });
        continue;
      }
      const secret = secrets.find((one) => one.metadata.name === spec.secretName);
      expect(secret).toMatchObject({ type: "kubernetes.io/tls", metadata: { namespace: metadata.namespace } });
      expect(recipeOf(secret!).entries.map(({ source }) => source)).toContain(`${spec.commonName}.crt`);
    }
  });

  test("are issued in their own namespace, and the brokers' Secret has the keys that they read", () => {
    const issuers = objects
      .filter(({ kind }) => kind === "Issuer")
      .map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
    expect(issuers.sort()).toEqual([
      "conveyor-logging/conveyor-ca",
      "conveyor/conveyor-ca",
      "conveyor/conveyor-self-signed",
    ]);
    const combined = objects.find(({ kind }) => kind === "ExternalSecret") as KubernetesObject & {
      spec: { target: { name: string }; data: { secretKey: string; remoteRef: { key: string } }[] };
    };
    expect(combined.spec.target.name).toBe("kafka-tls");
    const keys = recipeOf(secrets.find(({ metadata }) => metadata.name === "kafka-tls")!).entries.map(({ key }) => key);
    expect(combined.spec.data.map(({ secretKey }) => secretKey)).toEqual(keys);
    const read = [...new Set(combined.spec.data.map(({ remoteRef }) => remoteRef.key))].sort();
    expect(read).toEqual(["kafka-0-tls", "kafka-1-tls", "kafka-2-tls"]);
    const role = objects.find(({ kind }) => kind === "Role") as KubernetesObject & { rules: object[] };
    expect(role.rules).toEqual([{ apiGroups: [""], resources: ["secrets"], resourceNames: read, verbs: ["get"] }]);
  });
});

test("docs/gitops.md lists the Secrets that no certificate fills, with their keys", async () => {
  const page = await readFile(join(import.meta.dir, "../../docs/gitops.md"), "utf8");
  for (const secret of secrets) {
    const { how, entries } = recipeOf(secret);
    if (how === "fill-from") continue;
    const keys = entries.map(({ key }) => `\`${key}\``).join(", ") || "none: the setup job fills it";
    expect(page).toContain(`| \`${secret.metadata.name}\` | ${keys} |`);
  }
});
