/**
 * A real Kubernetes on one Linux machine, from packages: no container registry, no Docker, no virtual machine.
 *
 *   bun scripts/local-cluster.ts up          makes it, or finds it up
 *   bun scripts/local-cluster.ts status      what runs, and whether it works
 *   bun scripts/local-cluster.ts down        removes it with its data
 *
 * It lives in namespaces of its own; the only thing outside is one link to it. `npm start` makes it when it is needed.
 */

import { type CommandSpec, runCommand } from "./cli/command.ts";
import { EXIT } from "./cli/errors.ts";
import type { Report } from "./cli/report.ts";
import { type ClusterStatus, down, kubeconfigPath, kubectlPath, status, up } from "./local-cluster/lifecycle.ts";

const FLAGS = {
  "install-tools": { type: "boolean", description: "up: install missing Debian packages with apt-get" },
  "keep-data": { type: "boolean", description: "down: keep volumes and database for the next up" },
} as const;

const spec: CommandSpec<typeof FLAGS> = {
  name: "scripts/local-cluster.ts",
  summary: "a real Kubernetes on this Linux machine, from packages",
  usage: ["up [--install-tools]", "down [--keep-data]", "status [--json]", "kubeconfig"],
  flags: FLAGS,
  positionals: [
    { name: "ACTION", description: "what to do", required: true, choices: ["up", "down", "status", "kubeconfig"] },
  ],
  examples: [
    [
      "bun scripts/local-cluster.ts up",
      "make it; the first time on a machine compiles Kubernetes (some 6 minutes on 2 cores)",
    ],
    [
      "bun scripts/local-cluster.ts status --json",
      "programs, versions, readiness; exit 0 only when all of it is ready",
    ],
    ["export KUBECONFIG=$(bun scripts/local-cluster.ts kubeconfig)", "use it with kubectl"],
    ["bun scripts/local-cluster.ts down --keep-data", "stop it; volumes and objects are there again at the next up"],
    [
      "bun scripts/local-cluster.ts down",
      "remove it with its data; built programs and images stay in the cache folder",
    ],
  ],
  notes: [
    "Needs Linux (Debian), root, Go and some small tools; what is missing is named all at once.",
    "Programs and images are kept under $XDG_CACHE_HOME/conveyor, the cluster under $XDG_STATE_HOME/conveyor.",
  ],
};

function printStatus(report: Report, now: ClusterStatus): void {
  report.print(`local cluster: ${now.state}`);
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

if (import.meta.main) {
  await runCommand(spec, async ({ flags, positionals, report, signal }) => {
    switch (positionals[0]) {
      case "up": {
        const startedAt = performance.now();
        const { kubeconfig } = await up(report, { installTools: flags["install-tools"], signal });
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
        const result = await down(report, { keepData: flags["keep-data"], signal });
        report.result(result);
        if (result.was_there) report.print(result.kept_data ? "stopped; `up` carries on with its data" : "removed");
        else report.print(result.kept_data ? "it does not run; its data is kept" : "there is no local cluster");
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
  });
}
