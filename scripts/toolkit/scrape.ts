/**
 * Reads the metrics of a workload's pods through port-forwards, over TLS verified against the project's CA, and does
 * the little arithmetic that a check needs. Dashboards and alerts use Prometheus; this is for commands that must work
 * without it.
 */
import { request } from "node:https";
import {
  Histogram,
  parseMetrics,
  quantile,
  readHistogram,
  readSum,
  type Sample,
} from "../../services/domain/exposition.ts";
import { type Cluster, NAMESPACE } from "./cluster.ts";
import { OperatorError } from "./errors.ts";
import { readSecret } from "./live-secrets.ts";

export { Histogram, parseMetrics, quantile, readHistogram, readSum, type Sample };

const OPS_PORT = 9464;
/** A scrape is a few kilobytes from a process that is at work; longer means that it is wedged. */
const SCRAPE_LIMIT_MS = 10_000;

/** A GET over TLS through a forwarded port; the certificate must be `servername`'s, from `ca`. */
export function getVerified(port: number, path: string, ca: string, servername: string, signal?: AbortSignal) {
  return new Promise<{ status: number; body: string }>((resolve, reject) => {
    const call = request(
      { host: "127.0.0.1", port, path, ca, servername, timeout: SCRAPE_LIMIT_MS, ...(signal ? { signal } : {}) },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
        );
        response.on("error", reject);
      },
    );
    call.on("timeout", () => call.destroy(new Error(`no answer within ${SCRAPE_LIMIT_MS / 1000} s`)));
    call.on("error", reject);
    call.end();
  });
}

/** Metrics of every running pod of a workload, together. @throws OperatorError when a pod cannot be read. */
export async function scrape(cluster: Cluster, workload: string, signal?: AbortSignal): Promise<Sample[]> {
  const ca = (await readSecret(cluster, `${workload}-tls`))["ca.crt"] ?? "";
  const pods = (await cluster.pods(workload)).filter(({ status }) => status.phase === "Running");
  if (pods.length === 0) throw new OperatorError(`no running pod of ${workload} to read metrics from`);
  const answers = await Promise.all(
    pods.map(async ({ metadata }) => {
      const forward = await cluster.portForward(`pod/${metadata.name}`, OPS_PORT, NAMESPACE);
      try {
        const { status, body } = await getVerified(
          forward.port,
          "/metrics",
          ca,
          `${workload}.${NAMESPACE}.svc`,
          signal,
        );
        if (status !== 200) throw new OperatorError(`/metrics of ${metadata.name} answered ${status}`);
        return parseMetrics(body);
      } finally {
        await forward.close();
      }
    }),
  );
  return answers.flat();
}
