import { expect, test } from "bun:test";
import { createServer } from "node:net";
import { freePorts } from "./free-ports.ts";

test("freePorts returns different free ports outside the range of outgoing connections", async () => {
  const ports = await freePorts(50);
  expect(new Set(ports).size).toBe(50);
  const range = await Bun.file("/proc/sys/net/ipv4/ip_local_port_range")
    .text()
    .catch(() => "32768 60999");
  const [lowest] = range.trim().split(/\s+/).map(Number);
  for (const port of ports) {
    expect(port).toBeWithin(1024, Math.min(30_000, lowest!));
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, "127.0.0.1", resolve);
    });
    await new Promise((resolve) => server.close(resolve));
  }
});
