/**
 * The network policies, evaluated: the connections that all policies together allow, not the text of single ones.
 */
import { describe, expect, test } from "bun:test";
import { containersOf, loadManifests, podTemplateOf } from "../../scripts/deploy/manifests.ts";
import { matches, type Peer, type Policy, type Rule } from "./reading.ts";

const objects = await loadManifests();
const written = objects.filter(({ kind }) => kind === "NetworkPolicy") as Policy[];
/** The policy of `deploy --expose`. Without it the intake is closed to the outside. */
const [policies, exposing] = [false, true].map((isExposing) =>
  written.filter(({ metadata }) => (metadata.name === "intake") === isExposing),
) as [Policy[], Policy[]];
const NAME = "app.kubernetes.io/name";
const INSTANCE = "app.kubernetes.io/instance";

interface Pod {
  name: string;
  namespace: string;
  /** Labels of its namespace besides the name. */
  namespaceLabels?: Record<string, string>;
  labels: Record<string, string>;
  ports: { name: string; containerPort: number }[];
}

const workloads: Pod[] = objects.flatMap((object) => {
  const template = podTemplateOf(object);
  if (!template) return [];
  const ports = containersOf(template.spec).flatMap((container) => (container.ports ?? []) as Pod["ports"]);
  const labels = template.metadata?.labels ?? {};
  return [{ name: labels[NAME] ?? "", namespace: object.metadata.namespace ?? "", labels, ports }];
});
const podOf = (name: string) => workloads.find((pod) => pod.name === name)!;
/** Pods that commands start, and one without labels. */
const ingest: Pod = {
  name: "ingest",
  namespace: "conveyor",
  labels: { [NAME]: "ingest", [INSTANCE]: "ingest" },
  ports: [],
};
const [observer, loadGenerator] = ["observer", "load-generator"].map(
  (name): Pod => ({ name, namespace: "conveyor", labels: { [NAME]: name, [INSTANCE]: name }, ports: [] }),
) as [Pod, Pod];
const started = [ingest, observer, loadGenerator];
const unlabelled: Pod = { name: "unlabelled", namespace: "conveyor", labels: {}, ports: [] };
const dns: Pod = {
  name: "dns",
  namespace: "kube-system",
  labels: { "k8s-app": "kube-dns" },
  ports: [{ name: "dns", containerPort: 53 }],
};
const stranger: Pod = { ...unlabelled, name: "stranger", namespace: "elsewhere" };
/** An address outside the pods: the internet, or the API server. */
const OUTSIDE = "outside";

/** Link-local addresses are processes of the node: neither pods nor the internet. */
const NODE_ADDRESSES = /^169\.254\./;

function peerMatches(peer: Peer, policy: Policy, pod: Pod | typeof OUTSIDE): boolean {
  if (peer.ipBlock) return !NODE_ADDRESSES.test(peer.ipBlock.cidr);
  if (pod === OUTSIDE) return false;
  const inNamespace = peer.namespaceSelector
    ? matches(peer.namespaceSelector, { "kubernetes.io/metadata.name": pod.namespace, ...pod.namespaceLabels })
    : pod.namespace === policy.metadata.namespace;
  return inNamespace && matches(peer.podSelector ?? {}, pod.labels);
}

function portMatches(rule: Rule, port: number, target: Pod | typeof OUTSIDE): boolean {
  return (
    !rule.ports ||
    rule.ports.some(
      ({ port: allowed }) =>
        allowed === undefined ||
        allowed === port ||
        (target !== OUTSIDE &&
          target.ports.some(({ name, containerPort }) => name === allowed && containerPort === port)),
    )
  );
}

/** Whether no policy of that direction selects the pod, or one of them allows the connection. */
function allowed(
  direction: "ingress" | "egress",
  pod: Pod,
  other: Pod | typeof OUTSIDE,
  port: number,
  all: readonly Policy[] = policies,
): boolean {
  const type = direction === "ingress" ? "Ingress" : "Egress";
  const own = all.filter(
    ({ metadata, spec }) =>
      metadata.namespace === pod.namespace && spec.policyTypes.includes(type) && matches(spec.podSelector, pod.labels),
  );
  if (own.length === 0) return true;
  return own.some((policy) =>
    (policy.spec[direction] ?? []).some((rule) => {
      const peers = direction === "ingress" ? rule.from : rule.to;
      const target = direction === "ingress" ? pod : other;
      return (!peers || peers.some((peer) => peerMatches(peer, policy, other))) && portMatches(rule, port, target);
    }),
  );
}

const reaches = (from: Pod, to: Pod, port: number) =>
  allowed("egress", from, to, port) && allowed("ingress", to, from, port);

describe("allowed connections", () => {
  const servers = ["kafka", "influxdb", "producer", "processor"].map(podOf);
  const clients = [...servers, podOf("setup"), ...started, unlabelled, stranger];
  const connections = clients.flatMap((from) =>
    servers.flatMap((to) =>
      to.ports
        .filter(({ containerPort }) => reaches(from, to, containerPort))
        .map(({ name }) => `${from.name} → ${to.name} ${name}`),
    ),
  );

  test("are exactly those that the pipeline needs", () => {
    expect(connections.sort()).toEqual(
      [
        "ingest → kafka client",
        "load-generator → producer intake",
        "observer → influxdb https",
        "observer → kafka metrics",
        "observer → processor ops",
        "observer → producer ops",
        "kafka → kafka controller",
        "kafka → kafka replication",
        "processor → influxdb https",
        "processor → kafka client",
        "producer → kafka client",
        "setup → influxdb https",
        "setup → kafka client",
      ].sort(),
    );
  });

  test("only Prometheus, the observer and the lag exporter reach metrics; only Grafana and they reach Prometheus", () => {
    const watched = ["kafka", "influxdb", "producer", "processor", "lag-exporter", "prometheus", "alertmanager"];
    const ports = ["ops", "metrics", "https"];
    const everybody = [...workloads, ...started, unlabelled, stranger];
    const readers = [...watched, "kube-state-metrics"].flatMap((name) => {
      const to = podOf(name);
      return to.ports
        .filter((port) => ports.includes(port.name))
        .flatMap((port) =>
          everybody
            .filter((from) => reaches(from, to, port.containerPort))
            .map((from) => `${from.name} → ${name} ${port.name}`),
        );
    });
    expect(readers.filter((one) => !one.startsWith("prometheus → ")).sort()).toEqual([
      // InfluxDB serves its metrics on its only port.
      "grafana → influxdb https",
      "grafana → prometheus https",
      // The expiry of their certificates.
      "lag-exporter → alertmanager https",
      "lag-exporter → influxdb https",
      "lag-exporter → kube-state-metrics https",
      "lag-exporter → prometheus https",
      "observer → influxdb https",
      "observer → kafka metrics",
      "observer → lag-exporter ops",
      "observer → processor ops",
      "observer → producer ops",
      "processor → influxdb https",
      "setup → influxdb https",
    ]);
    expect(readers.filter((one) => one.startsWith("prometheus → ")).sort()).toEqual([
      "prometheus → alertmanager https",
      "prometheus → influxdb https",
      "prometheus → kafka metrics",
      "prometheus → kube-state-metrics https",
      "prometheus → lag-exporter ops",
      "prometheus → processor ops",
      "prometheus → producer ops",
      "prometheus → prometheus https",
    ]);
  });

  test("the Prometheus of a namespace with the label reaches every metrics port, and nothing else does from there", () => {
    const prometheus = { ...stranger, labels: { [NAME]: "prometheus" } };
    const namespaceLabels = { "conveyor.dev/scrape": "true" };
    const scraped = workloads.filter((to) =>
      to.ports.some(({ containerPort }) => allowed("ingress", to, podOf("prometheus"), containerPort)),
    );
    expect(scraped.map(({ name }) => name).sort()).toEqual([
      ...["alertmanager", "grafana", "influxdb", "kafka", "kube-state-metrics", "lag-exporter", "loki", "processor"],
      ...["producer", "prometheus", "promtail", "victorialogs", "vlagent"],
    ]);
    for (const to of scraped) {
      for (const { name, containerPort } of to.ports) {
        const expected = allowed("ingress", to, podOf("prometheus"), containerPort);
        const reached = allowed("ingress", to, { ...prometheus, namespaceLabels }, containerPort);
        expect([to.name, name, reached]).toEqual([to.name, name, expected]);
        // Without the label of the namespace, or of the pod.
        expect(allowed("ingress", to, prometheus, containerPort)).toBe(false);
        expect(allowed("ingress", to, { ...stranger, namespaceLabels }, containerPort)).toBe(false);
      }
    }
  });

  test("only pods with the required namespace and label reach the intake", () => {
    const producer = podOf("producer");
    const label = { "conveyor.dev/intake-client": "true" };
    expect(reaches({ ...stranger, labels: label }, producer, 8443)).toBe(false);
    const policy = policies.find(({ metadata }) => metadata.name === "producer")!;
    expect(policy.spec.ingress?.[0]?.from).toEqual([
      { namespaceSelector: { matchLabels: label }, podSelector: { matchLabels: label } },
    ]);
  });

  test("only pods with another allowed connection reach DNS", () => {
    const asking = [
      ...["kafka", "influxdb", "producer", "processor", "setup"].map(podOf),
      ...started,
      unlabelled,
    ].filter((pod) => reaches(pod, dns, 53));
    expect(asking.map(({ name }) => name).sort()).toEqual([
      "ingest",
      "kafka",
      "load-generator",
      "observer",
      "processor",
      "producer",
      "setup",
    ]);
  });

  test("out of the pods are the setup job's to the API server's ports only", () => {
    const all = [...["kafka", "influxdb", "producer", "processor", "setup"].map(podOf), ...started, unlabelled];
    const out = all.flatMap((pod) =>
      [22, 53, 80, 443, 6443, 8086, 9092]
        .filter((port) => allowed("egress", pod, OUTSIDE, port))
        .map((port) => `${pod.name} ${port}`),
    );
    expect(out).toEqual(["setup 443", "setup 6443"]);
  });
});

test("from outside nothing is reached, and with the intake exposed that port of the producers alone", () => {
  const reached = (all: readonly Policy[]) =>
    workloads.flatMap((to) =>
      to.ports
        .filter(({ containerPort }) => allowed("ingress", to, OUTSIDE, containerPort, all))
        .map(({ name, containerPort }) => `${to.name} ${name} ${containerPort}`),
    );
  expect(exposing).toHaveLength(1);
  expect(reached(policies)).toEqual([]);
  expect(reached(written)).toEqual(["producer intake 8443"]);
});

describe("every namespace", () => {
  test.each(objects.filter(({ kind }) => kind === "Namespace").map(({ metadata }) => metadata.name))(
    "%s denies everything by default, both ways",
    (namespace) => {
      const deny = policies.filter(
        ({ metadata, spec }) =>
          metadata.namespace === namespace &&
          JSON.stringify(spec) === JSON.stringify({ podSelector: {}, policyTypes: ["Ingress", "Egress"] }),
      );
      expect(deny).toHaveLength(1);
    },
  );
});

describe.each(written.map((policy) => [policy.metadata.name, policy] as const))("policy %s", (_, policy) => {
  const rules = [...(policy.spec.ingress ?? []), ...(policy.spec.egress ?? [])];
  const peers = rules.flatMap(({ from, to }) => [...(from ?? []), ...(to ?? [])]);
  const pods = [...workloads, ...started];

  test("selects an existing pod", () => {
    expect(
      pods.some(
        ({ namespace, labels }) => namespace === policy.metadata.namespace && matches(policy.spec.podSelector, labels),
      ),
    ).toBe(true);
  });

  test("every peer in a declared namespace matches an existing pod", () => {
    for (const peer of peers.filter(({ podSelector, namespaceSelector }) => podSelector && !namespaceSelector)) {
      expect(
        pods.some(
          ({ namespace, labels }) => namespace === policy.metadata.namespace && matches(peer.podSelector!, labels),
        ),
        JSON.stringify(peer),
      ).toBe(true);
    }
  });

  test("every rule lists ports, and a named port exists in the target pod", () => {
    for (const rule of policy.spec.ingress ?? []) {
      expect(rule.ports?.length).toBeGreaterThan(0);
      const own = workloads.filter(
        ({ namespace, labels }) => namespace === policy.metadata.namespace && matches(policy.spec.podSelector, labels),
      );
      for (const { port } of rule.ports ?? []) {
        if (typeof port === "string") expect(own.flatMap(({ ports }) => ports.map(({ name }) => name))).toContain(port);
      }
    }
    for (const rule of policy.spec.egress ?? []) {
      expect(rule.ports?.length).toBeGreaterThan(0);
      const targets = workloads.filter((pod) => (rule.to ?? []).some((peer) => peerMatches(peer, policy, pod)));
      for (const { port } of rule.ports ?? []) {
        if (typeof port === "string")
          expect(targets.flatMap(({ ports }) => ports.map(({ name }) => name))).toContain(port);
      }
    }
  });
});

test("every allowed egress has a matching ingress, and the reverse", () => {
  const pods = [...workloads, ...started];
  const half: string[] = [];
  for (const from of pods) {
    for (const to of workloads) {
      if (from.namespace !== to.namespace) continue;
      for (const { name, containerPort } of to.ports) {
        const [out, into] = [allowed("egress", from, to, containerPort), allowed("ingress", to, from, containerPort)];
        // The setup job's egress to the API server's ports is not limited to pods.
        if (out !== into && !allowed("egress", from, OUTSIDE, containerPort)) {
          half.push(`${from.name} → ${to.name} ${name}: ${out ? "no ingress rule" : "no egress rule"}`);
        }
      }
    }
  }
  expect(half).toEqual([]);
});

test("no policy contains an empty list: the API server drops it, and each deploy would change the object", () => {
  const empty = policies.filter(({ spec }) => spec.ingress?.length === 0 || spec.egress?.length === 0);
  expect(empty.map(({ metadata }) => metadata.name)).toEqual([]);
});

test("no policy repeats a rule: a repeated one is an unedited copy", () => {
  const twice = policies.flatMap(({ metadata, spec }) =>
    [spec.ingress ?? [], spec.egress ?? []].flatMap((rules) => {
      const texts = rules.map((rule) => JSON.stringify(rule));
      return texts
        .filter((text, index) => texts.indexOf(text) !== index)
        .map((text) => `${metadata.namespace}/${metadata.name}: ${text}`);
    }),
  );
  expect(twice).toEqual([]);
});
