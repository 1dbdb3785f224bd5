/**
 * The alert rules as PrometheusRules for prometheus-operator, generated from the ConfigMaps of k8s/prometheus/rules. The
 * deployed Prometheus knows one pipeline; an operator's Prometheus knows the complete cluster, so every selector gets the
 * pipeline's namespaces.
 */
import { parse } from "yaml";
import { withNamespaces } from "../clients/promql.ts";
import type { KubernetesObject } from "../cluster/cluster.ts";

/** API of prometheus-operator's objects. */
export const OPERATOR_API = "monitoring.coreos.com/v1";

const LABEL_NAME = /^(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?)?$/;

/**
 * Labels of a text such as "release=monitoring,team=belts"; none of an empty one.
 * @throws RangeError that names the rule and the value
 */
export function parseLabels(text: string): Record<string, string> {
  const pairs = text.split(",").filter((part) => part.trim() !== "");
  return Object.fromEntries(
    pairs.map((pair) => {
      const [, name = "", value = ""] = /^([^=]*)=(.*)$/.exec(pair.trim()) ?? [];
      if (!LABEL_NAME.test(name) || !LABEL_VALUE.test(value)) {
        throw new RangeError(`must be labels of Kubernetes, NAME=VALUE separated by commas; got "${pair.trim()}"`);
      }
      return [name, value];
    }),
  );
}

/** The text of labels, as parseLabels reads it. */
export const formatLabels = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .map((pair) => pair.join("="))
    .join(",");

interface RuleGroup {
  name: string;
  rules: { alert?: string; expr: string }[];
}

/** kube-prometheus-stack has its own alert of this name, which its configuration of Alertmanager routes. */
const DEAD_MANS_SWITCH = "Watchdog";

/** The rules of the stage that `rulesOf` names, as PrometheusRules; none for other stages. */
export function prometheusRules(
  { rulesOf }: { rulesOf?: string },
  stages: readonly { name: string; objects: readonly KubernetesObject[] }[],
): KubernetesObject[] {
  const namespaces = stages
    .flatMap(({ objects }) => objects)
    .flatMap(({ kind, metadata }) => (kind === "Namespace" ? metadata.name : []))
    .sort()
    .join("|");
  return stages
    .filter(({ name }) => name === rulesOf)
    .flatMap(({ objects }) => objects)
    .flatMap(({ metadata, data = {} }) =>
      Object.entries(data as Record<string, string>)
        .filter(([file]) => metadata.name === `prometheus-rules-${file.replace(/\.yml$/, "")}`)
        .map(([, text]) => ({
          apiVersion: OPERATOR_API,
          kind: "PrometheusRule",
          metadata: structuredClone(metadata),
          spec: { groups: (parse(text) as { groups: RuleGroup[] }).groups.map((group) => scoped(group, namespaces)) },
        })),
    );
}

const scoped = ({ name, rules }: RuleGroup, namespaces: string): RuleGroup => ({
  // Names of groups are unique in a file only; an operator shows them beside those of the cluster.
  name: `conveyor-${name}`,
  rules: rules
    .filter(({ alert }) => alert !== DEAD_MANS_SWITCH)
    .map((rule) => ({ ...rule, expr: withNamespaces(rule.expr, namespaces) })),
});
