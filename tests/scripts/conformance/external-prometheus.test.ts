import { expect, test } from "bun:test";
import type { Cluster } from "../../../scripts/cluster/cluster.ts";
import { externalPrometheusCase } from "../../../scripts/conformance/external-prometheus.ts";
import {
  OPERATOR_NAMESPACE,
  OPERATOR_OBJECTS,
  PROMETHEUS_OBJECTS,
} from "../../../scripts/conformance/prometheus-operator.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { silentReport } from "../cli/silent-report.ts";

test("the case deploys with the release label of a Prometheus in its own namespace, which may scrape", () => {
  const folder = temporaryFolder();
  const { steps } = externalPrometheusCase({} as Cluster, folder, silentReport());
  expect(steps.map(({ name }) => name)).toEqual([
    "up",
    "images",
    "operator",
    "deploy",
    "scrapes",
    "validate",
    "audit",
    "destroy",
  ]);
  const { command } = steps.find(({ name }) => name === "deploy")!;
  expect(command).toContain(`--external ${folder}/external.yaml`);
  const [, name, value] = /--monitor-labels (\w+)=(\w+)/.exec(command)!;
  const prometheus = PROMETHEUS_OBJECTS.find(({ kind }) => kind === "Prometheus")!;
  expect(prometheus.spec).toMatchObject({ serviceMonitorSelector: { matchLabels: { [name!]: value } } });
  const namespaces = [...OPERATOR_OBJECTS, ...PROMETHEUS_OBJECTS].flatMap(({ metadata }) => metadata.namespace ?? []);
  expect(new Set(namespaces)).toEqual(new Set([OPERATOR_NAMESPACE]));
  const own = OPERATOR_OBJECTS.find(({ kind }) => kind === "Namespace")!;
  expect(own.metadata).toMatchObject({ name: OPERATOR_NAMESPACE, labels: { "conveyor.dev/scrape": "true" } });
});
