/** Runs a service: reads its configuration, handles signals, and logs why it ends. */
import { X509Certificate } from "node:crypto";
import { type CommonConfig, ConfigError, ConfigReader } from "./config.ts";
import { Logger } from "./log.ts";
import { SERVICES_VERSION } from "./metrics.ts";
import { Shutdown } from "./shutdown.ts";

export interface ServiceFrame {
  log: Logger;
  shutdown: Shutdown;
}

/**
 * Reads the configuration, then starts the service. Exit 1 with one line that lists every problem when the
 * configuration is wrong; exit 1 when starting fails.
 */
export async function runService<C extends { common: CommonConfig }>(
  service: string,
  read: (reader: ConfigReader) => C,
  start: (config: C, frame: ServiceFrame) => Promise<void>,
): Promise<void> {
  let log = new Logger(service);
  const reader = new ConfigReader();
  let config: C;
  try {
    config = read(reader);
    reader.done();
  } catch (error) {
    const problems = error instanceof ConfigError ? error.problems : [String(error)];
    log.error("configuration_invalid", { problems });
    process.exit(1);
  }
  log = new Logger(service, config.common.logLevel, { pod: config.common.podName });
  const shutdown = new Shutdown(log);
  shutdown.listen();
  log.info("starting", { version: SERVICES_VERSION, bun: Bun.version });
  try {
    await start(config, { log, shutdown });
  } catch (error) {
    log.error("start_failed", { error, stack: error instanceof Error ? error.stack : undefined });
    await shutdown.begin("start failed", 1);
  }
}

/** Earliest end of the certificates, seconds since the epoch; of each PEM text the first one counts. */
export function certificateExpirySeconds(...pems: readonly (string | undefined)[]): number {
  const ends = pems.flatMap((pem) => (pem ? [Date.parse(new X509Certificate(pem).validTo)] : []));
  return Math.floor(Math.min(...ends) / 1000);
}
