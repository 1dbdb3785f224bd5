/**
 * A real Kubernetes on one Linux machine, from packages: no container registry, no Docker, no virtual machine.
 *
 *   bun scripts/local-cluster.ts up          create or start it
 *   bun scripts/local-cluster.ts status      running programs and readiness
 *   bun scripts/local-cluster.ts down        stop it; `up` continues with its data
 *
 * It runs in separate namespaces; outside them there is only one network link to it. `npm start` creates it when needed.
 */

import { defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import type { Report } from "./cli/report.ts";
import {
  type ClusterStatus,
  describeVariant,
  down,
  kubeconfigPath,
  kubectlPath,
  status,
  up,
  VARIANT_NAMES,
  type VariantName,
} from "./local-cluster/index.ts";

function printStatus(report: Report, now: ClusterStatus): void {
  report.print(`local cluster: ${now.state}`);
  if (now.like) report.print(`  like        ${now.like}: ${describeVariant(now.like)}`);
  const versions = Object.entries(now.versions).map(([name, version]) => `${name} ${version}`);
  report.print(`  versions    ${versions.join(", ")}`);
  report.print(`  kubeconfig  ${now.kubeconfig} (context ${now.context})`);
  if (now.subnets)
    report.print(
      `  ranges      nodes ${now.subnets.nodes}, pods ${now.subnets.pods}, services ${now.subnets.services}`,
    );
  if (now.api_server) {
    const { address, ready, detail } = now.api_server;
    report.print(`  API server  ${address} ${ready ? "ready" : `not ready${detail ? `: ${detail}` : ""}`}`);
  }
  for (const node of now.nodes)
    report.print(`  ${node.name.padEnd(11)} ${node.ready ? "Ready" : "NotReady"} (${node.detail})`);
  for (const program of now.programs) {
    const since = program.state === "running" ? ` since ${program.since}` : "";
    report.print(`  ${program.name.padEnd(26)} ${program.state}${program.pid ? ` pid ${program.pid}` : ""}${since}`);
  }
  if (now.policy_proof) {
    const { before, after, denied_after_ms } = now.policy_proof;
    report.print(
      `  policies    enforced: "${before}" before a deny-all policy, "${after}" ${denied_after_ms} ms after it`,
    );
  }
}

export const command = defineCommand({
  name: "scripts/local-cluster.ts",
  summary: "a real Kubernetes on this Linux machine, from packages",
  usage: ["up [--like NAME] [--install-tools]", "down [--delete-data]", "status [--json]", "kubeconfig"],
  flags: {
    like: {
      type: "string",
      choices: VARIANT_NAMES,
      valueName: "NAME",
      description: "up: a new cluster that has properties of this kind of cluster",
    },
    "install-tools": { type: "boolean", description: "up: install missing Debian packages with apt-get" },
    "delete-data": { type: "boolean", description: "down: remove volumes and database too" },
    "keep-data": { type: "boolean", description: "down: keep volumes and database, which is the default" },
  },
  positionals: [
    { name: "ACTION", description: "operation", required: true, choices: ["up", "down", "status", "kubeconfig"] },
  ],
  examples: [
    [
      "bun scripts/local-cluster.ts up",
      "create or start it; the first time on a machine compiles Kubernetes (some 6 minutes on 2 cores)",
    ],
    [
      "bun scripts/local-cluster.ts status --json",
      "programs, versions, readiness; exit 0 only when everything is ready",
    ],
    [
      "bun scripts/local-cluster.ts up --like kind",
      "one with the properties of a kind cluster; docs/local-cluster.md lists them",
    ],
    ["export KUBECONFIG=$(bun scripts/local-cluster.ts kubeconfig)", "use it with kubectl"],
    ["bun scripts/local-cluster.ts down", "stop it; the next up restores volumes and objects"],
    [
      "bun scripts/local-cluster.ts down --delete-data",
      "remove it with its data; built programs and images stay in the cache folder",
    ],
  ],
  notes: [
    "Needs Linux (Debian), root, Go and some small tools; the command lists everything that is missing.",
    "Programs and images are kept under $XDG_CACHE_HOME/conveyor, the cluster under $XDG_STATE_HOME/conveyor.",
  ],
  async run({ flags, positionals, report, signal }) {
    switch (positionals[0]) {
      case "up": {
        const startedAt = performance.now();
        const like = flags.like as VariantName | undefined;
        const { kubeconfig } = await up(report, { installTools: flags["install-tools"], like, signal });
        report.result({
          state: "ready",
          kubeconfig,
          duration_ms: Math.round(performance.now() - startedAt),
          steps: report.steps,
        });
        report.print(`the local cluster is ready\n  export KUBECONFIG=${kubeconfig}\n  ${kubectlPath()} get pods -A`);
        return;
      }
      case "down": {
        if (flags["keep-data"] && flags["delete-data"]) {
          throw new OperatorError("--keep-data and --delete-data exclude each other", { exitCode: EXIT.usage });
        }
        const result = await down(report, { deleteData: flags["delete-data"], signal });
        report.result(result);
        if (result.was_there)
          report.print(
            result.kept_data ? "stopped; `up` continues with its data, `down --delete-data` removes it" : "removed",
          );
        else report.print(result.kept_data ? "not running; its data is kept" : "there is no local cluster");
        return;
      }
      case "status": {
        const now = await status();
        report.result(now);
        printStatus(report, now);
        return now.state === "ready" ? EXIT.ok : EXIT.failed;
      }
      default:
        report.result({ kubeconfig: kubeconfigPath() });
        report.print(kubeconfigPath());
        report.info(`# export KUBECONFIG=${kubeconfigPath()}`);
    }
  },
});

if (import.meta.main) await runCommand(command);
