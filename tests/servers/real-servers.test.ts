import { expect, test } from "bun:test";
import { loadManifests } from "../../scripts/deploy/manifests.ts";
import { brokerProperties } from "./real-servers.ts";

const PORTS = [0, 1, 2].map((node) => ({
  client: 20_000 + node,
  replication: 21_000 + node,
  controller: 22_000 + node,
}));

/** Settings that depend on the place of a broker. */
const PLACED = [
  "node.id",
  "controller.quorum.voters",
  "listeners",
  "advertised.listeners",
  "ssl.keystore.location",
  "ssl.truststore.location",
  "log.dirs",
];

function settings(properties: string): Record<string, string> {
  const lines = properties.split("\n").filter((line) => line.includes("=") && !line.startsWith("#"));
  return Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2) as [string, string]));
}

test("brokerProperties equals the manifest's settings but for addresses and paths", async () => {
  const map = (await loadManifests()).find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "kafka");
  const expected = settings((map!.data as Record<string, string>)["server.properties"]!);
  const actual = settings(await brokerProperties(1, PORTS, "/servers"));
  expect(Object.keys(actual).sort()).toEqual([...new Set([...Object.keys(expected), ...PLACED])].sort());
  for (const name of PLACED) delete expected[name];
  expect(actual).toMatchObject(expected);
  expect(actual).toMatchObject({ "node.id": "1", "log.dirs": "/servers/kafka-1-data" });
});

test("brokerProperties limits replicas to the number of brokers", async () => {
  const single = settings(await brokerProperties(0, PORTS.slice(0, 1), "/servers"));
  expect(single).toMatchObject({
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "min.insync.replicas": "1",
    "transaction.state.log.min.isr": "1",
  });
});
