/** Kafka's own tools, run in a broker with its jars and its certificate, which is a super user's. */

/** Client settings of the tool: the broker's certificate. */
const SETTINGS = [
  "security.protocol=SSL",
  "ssl.keystore.type=PEM",
  "ssl.keystore.location=/certs/kafka.pem",
  "ssl.truststore.type=PEM",
  "ssl.truststore.location=/certs/ca.crt",
];

/**
 * A script for `bash -ec` in container kafka of a broker. It leaves no file, however it ends: the settings are read from a
 * pipe, and Java writes no performance data to /tmp.
 * @param tool class in org.apache.kafka.tools
 * @param listener 9091 with the rights of a broker, 9092 with those of a client
 * @param args arguments, quoted for the shell
 */
export function kafkaTool(tool: string, listener: 9091 | 9092, args: readonly string[]): string {
  const java = "exec java -Xmx64m -XX:+UseSerialGC -XX:-UsePerfData -cp '/opt/kafka/libs/*'";
  const settings = `<(printf '%s\\n' ${SETTINGS.join(" ")})`;
  return `${java} org.apache.kafka.tools.${tool} --bootstrap-server localhost:${listener} --command-config ${settings} ${args.join(" ")}`;
}

/** Lists files that tools left in a broker's /tmp; for `bash -c`, one name a line. */
export const LIST_LEFT = "ls -A /tmp | grep -E 'properties|hsperfdata' || true";
