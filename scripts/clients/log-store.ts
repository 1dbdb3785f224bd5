/** The log store that a cluster has. It keeps the lines of deleted pods, which the API server does not. */
import { EXIT, OperatorError } from "../cli/errors.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { type LogBackend, type LogStore, StoreConnection } from "./log-backend.ts";
import { LOKI, LokiStore } from "./loki.ts";
import { VICTORIA_LOGS, VictoriaLogsStore } from "./victorialogs.ts";

export const LOG_BACKENDS = { loki: LOKI, victorialogs: VICTORIA_LOGS } as const satisfies Record<string, LogBackend>;

/** The deployed store; undefined without one. */
export async function deployedLogBackend(cluster: Cluster): Promise<LogBackend | undefined> {
  for (const backend of Object.values(LOG_BACKENDS)) {
    if (await cluster.get("deployment", backend.name)) return backend;
  }
  return undefined;
}

/** Opens the deployed store, or the named one; the caller closes it. @throws OperatorError (exit 3) without it */
export async function openLogStore(cluster: Cluster, name?: LogBackend["name"]): Promise<LogStore> {
  const backend = await deployedLogBackend(cluster);
  if (!backend || (name && backend.name !== name)) {
    const title = name ? LOG_BACKENDS[name].title : "log store";
    throw new OperatorError(`no ${title} is deployed in namespace ${NAMESPACE} of context ${cluster.context}`, {
      exitCode: EXIT.precondition,
      hint: "bun scripts/deploy.ts deploys one (--logs loki|victorialogs); bun scripts/logs.ts --source pods reads the pods themselves",
    });
  }
  const connection = await StoreConnection.open(cluster, backend);
  return backend.name === "loki" ? new LokiStore(connection) : new VictoriaLogsStore(connection);
}
