import { expect, test } from "bun:test";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import { startIntake } from "../../../services/producer/intake.ts";
import { Health } from "../../../services/runtime/health.ts";
import { startLivenessServer } from "../../../services/runtime/liveness.ts";
import { Logger } from "../../../services/runtime/log.ts";
import { Metrics } from "../../../services/runtime/metrics.ts";
import { startOpsServer } from "../../../services/runtime/ops-server.ts";
import { testCertificate } from "../certificate.ts";

const hasIpv6 = Object.values(networkInterfaces()).some((addresses) =>
  addresses?.some(({ family }) => family === "IPv6"),
);
const LOOPBACKS = ["127.0.0.1", ...(hasIpv6 ? ["::1"] : [])];

const answers = (host: string, port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect({ host, port }, () => {
      socket.destroy();
      resolve(true);
    }).on("error", () => resolve(false));
  });

test("every port of the services listens on IPv4 and IPv6: pods of a cluster may have addresses of one family only", async () => {
  const { cert, key } = await testCertificate();
  const tls = { cert, key };
  const silent = new Logger("test", "error", {}, () => {});
  const ops = startOpsServer({ port: 0, tls }, new Health(), new Metrics("producer").registry);
  const liveness = startLivenessServer({ livenessPort: 0, tls }, new Health(), silent, 60_000)!;
  const intake = startIntake({ port: 0, tls } as Parameters<typeof startIntake>[0]);
  for (const port of [ops.port!, await liveness.listening, intake.port]) {
    for (const host of LOOPBACKS) expect([host, await answers(host, port)]).toEqual([host, true]);
  }
  liveness.stop();
  await intake.stop();
  await ops.stop();
});
