/** What a deploy from a bare workstation must show in the pods of the cluster. */
import { expect, test } from "bun:test";
import type { Pod } from "../../../scripts/cluster/cluster.ts";
import { requirePushed } from "../../../scripts/conformance/bare-workstation.ts";

const PREFIX = "127.0.0.1:15871/team/conveyor";
const digest = `sha256:${"a".repeat(64)}`;
const pod = (images: readonly string[], initImages: readonly string[] = []): Pod =>
  ({
    spec: {
      containers: images.map((image) => ({ name: "c", image })),
      initContainers: initImages.map((image) => ({ name: "i", image })),
    },
  }) as unknown as Pod;
const services = `${PREFIX}/services:1.0.0@${digest}`;
const agent = `${PREFIX}/kafka-metrics-agent:1.0.1@${digest}`;
const kafka = "docker.io/apache/kafka:4.3.1";

test("the own images are those that were pushed, by digest; others are not looked at", () => {
  expect(requirePushed([pod([kafka], [agent]), pod([services]), pod([services])], PREFIX)).toEqual([agent, services]);
});

test.each([
  ["loaded", "conveyor.invalid/services:1.0.0"],
  ["from another registry", `registry.lan/conveyor/services:1.0.0@${digest}`],
  ["without a digest", `${PREFIX}/services:1.0.0`],
])("an own image that is %s is refused and named", (_, image) => {
  expect(() => requirePushed([pod([image], [agent])], PREFIX)).toThrow(`not pulled by digest from ${PREFIX}: ${image}`);
});

test("an own image that no pod runs is an error: nothing was shown", () => {
  expect(() => requirePushed([pod([kafka], [agent])], PREFIX)).toThrow("no pod runs the image services");
});
