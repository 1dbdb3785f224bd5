/** Goal: the expiry that is reported is that of the certificate which the server presents. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Server } from "bun";
import { loadManifests, podTemplateOf } from "../../../scripts/deploy/manifests.ts";
import type { ClientTls } from "../../../services/runtime/config.ts";
import { servedExpirySeconds } from "../../../services/runtime/served-certificates.ts";
import { certificateExpirySeconds } from "../../../services/runtime/service.ts";
import { newTestCertificate, testCertificate } from "../certificate.ts";

describe("servedExpirySeconds", () => {
  let tls: ClientTls;
  let server: Server<undefined>;
  beforeAll(async () => {
    tls = await testCertificate();
    server = Bun.serve({ port: 0, tls: { cert: tls.cert, key: tls.key }, fetch: () => new Response("") });
  });
  afterAll(() => server.stop(true));

  test("is the end of the server's certificate", async () => {
    expect(await servedExpirySeconds(`localhost:${server.port}`, tls)).toBe(certificateExpirySeconds(tls.cert));
  });

  test("a server of another CA is an error", async () => {
    const { ca } = await newTestCertificate();
    await expect(servedExpirySeconds(`localhost:${server.port}`, { ...tls, ca })).rejects.toThrow();
  });

  test("a port where nothing listens is an error", async () => {
    await expect(servedExpirySeconds("localhost:1", tls)).rejects.toThrow();
  });
});

test("every Service with TLS is watched by the lag exporter, or reports its own certificate", async () => {
  const objects = await loadManifests();
  const ports = (object: (typeof objects)[number]) =>
    (object.spec as { clusterIP?: string; ports?: { name: string; port: number }[] } | undefined)?.ports ?? [];
  const served = objects
    .filter(({ kind, metadata }) => kind === "Service" && !metadata.name.endsWith("-headless"))
    .flatMap((service) =>
      ports(service)
        .filter(({ name }) => name === "https")
        .map(({ port }) => `${service.metadata.name}.${service.metadata.namespace}.svc:${port}`),
    );
  const deployment = objects.find(({ kind, metadata }) => kind === "Deployment" && metadata.name === "lag-exporter")!;
  const [container] = podTemplateOf(deployment)!.spec.containers as { env: { name: string; value?: string }[] }[];
  const watched = container!.env.find(({ name }) => name === "CERTIFICATE_ENDPOINTS")!.value!.split(",");
  expect(watched.sort()).toEqual(served.sort());
});
