/** Kafka's own tools, run inside a broker: with the broker's certificate, which is a super user's, and its own jars. */

/** The settings of the tool's client: the certificate that the broker has. */
const SETTINGS = [
  "security.protocol=SSL",
  "ssl.keystore.type=PEM",
  "ssl.keystore.location=/certs/kafka.pem",
  "ssl.truststore.type=PEM",
  "ssl.truststore.location=/certs/ca.crt",
];

/**
 * A script for `bash -ec` in container kafka of a broker. It leaves nothing there, however it ends: the settings go through
 * a pipe and not through a file, and Java keeps no account of its performance in /tmp.
 * @param tool its class below org.apache.kafka.tools
 * @param listener of this broker: 9091 for what a broker does, 9092 for what a client does
 * @param args words for the shell, quoted where it would take them apart
 */
export function kafkaTool(tool: string, listener: 9091 | 9092, args: readonly string[]): string {
  const java = "exec java -Xmx64m -XX:+UseSerialGC -XX:-UsePerfData -cp '/opt/kafka/libs/*'";
  const settings = `<(printf '%s\\n' ${SETTINGS.join(" ")})`;
  return `${java} org.apache.kafka.tools.${tool} --bootstrap-server localhost:${listener} --command-config ${settings} ${args.join(" ")}`;
}

/** What tools have left in a broker's /tmp; for `bash -c`, one name a line. */
export const LIST_LEFT = "ls -A /tmp | grep -E 'properties|hsperfdata' || true";
