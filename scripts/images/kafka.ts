/**
 * Apache Kafka from its Maven packages: the jars, and an archive of the classes that a broker loads at its start, at the same
 * path as in the official image. With `java -XX:SharedArchiveFile=/opt/kafka/kafka.jsa` a broker starts in about half the
 * time. The JVM uses it only when the class path starts with the same jars in the same order (sorted by name), and otherwise
 * starts without it.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { causeChain, isAbort, OperatorError } from "../cli/errors.ts";
import { must, runLogged } from "../cli/process.ts";
import { ensurePart, isBuilt, type Part, partDir, partKey } from "../local-cluster/index.ts";
import { BASE, fromPart, JAVA, type LayerSource } from "./layers.ts";

export const KAFKA_VERSION = "4.3.1";
/** The version that Kafka 4.3.1 was released with. */
const LOG4J_VERSION = "2.25.3";
export const DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8";

const ARTIFACTS: readonly (readonly [group: string, artifact: string, version: string])[] = [
  ["org.apache.kafka", "kafka_2.13", KAFKA_VERSION],
  ["org.apache.kafka", "kafka-tools", KAFKA_VERSION],
  ["org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION],
];

function pom(): string {
  const dependencies = ARTIFACTS.map(
    ([group, artifact, version]) =>
      `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`,
  );
  return [
    '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>',
    "<groupId>conveyor</groupId><artifactId>kafka-libs</artifactId><version>1</version>",
    `<dependencies>${dependencies.join("")}</dependencies></project>`,
    "",
  ].join("\n");
}

/** Kafka's jars, in `libs/` of the part's folder. */
export const KAFKA_JARS: Part = {
  name: "kafka-jars",
  version: KAFKA_VERSION,
  recipe: `${pom()}${DEPENDENCY_PLUGIN}`,
  requires: [{ command: "mvn", why: "fetches Kafka's jars", aptPackage: "maven" }],
  async build(out, context) {
    const file = join(context.work, "pom.xml");
    await writeFile(file, pom());
    const goal = `${DEPENDENCY_PLUGIN}:copy-dependencies`;
    const settings = ["-DincludeScope=runtime", `-DoutputDirectory=${join(out, "libs")}`];
    await runLogged(["mvn", "--batch-mode", "--file", file, goal, ...settings], context);
    // Independent of the user's umask: brokers run as another user.
    await must(["chmod", "-R", "u=rwX,go=rX", join(out, "libs")]);
    // The same time as in the image's layer: the class archive identifies its jars by it.
    await must(["find", out, "-exec", "touch", "--no-dereference", "--date=@0", "{}", "+"]);
  },
};

/** Start of a broker on two busy cores. */
const TRAINING_LIMIT_MS = 120_000;

/** One combined node on loopback with the features of the pipeline's brokers: TLS on all listeners, PEM, the authorizer. */
const TRAINING_PROPERTIES = `process.roles=broker,controller
node.id=0
controller.quorum.voters=0@localhost:9093
listeners=CLIENT://:9092,REPLICATION://:9091,CONTROLLER://:9093
advertised.listeners=CLIENT://localhost:9092,REPLICATION://localhost:9091
listener.security.protocol.map=CLIENT:SSL,REPLICATION:SSL,CONTROLLER:SSL
inter.broker.listener.name=REPLICATION
controller.listener.names=CONTROLLER
ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location=/training/node.pem
ssl.truststore.type=PEM
ssl.truststore.location=/training/ca.pem
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:localhost
log.dirs=/training/data
offsets.topic.replication.factor=1
`;

const TRAINING_LOGGING = `Configuration:
  Appenders:
    Console:
      name: console
      PatternLayout: { pattern: "%d %p %m (%c)%n" }
  Loggers:
    Root:
      level: INFO
      AppenderRef: { ref: console }
`;

/** Runs inside the tree: format, start until the broker serves, stop, write the archive. */
const TRAINING_SCRIPT = `set -eu
cd /training
classes=$(printf '%s:' /opt/kafka/libs/*.jar)
classes=\${classes%:}
java -cp "$classes" kafka.tools.StorageTool format --cluster-id AAAAAAAAAAAAAAAAAAAAAA --config training.properties
java -XX:DumpLoadedClassList=classes.lst -Xmx512m -Dlog4j2.configurationFile=/training/log4j2.yaml -cp "$classes" \\
  kafka.Kafka training.properties >broker.log 2>&1 &
broker=$!
until grep -q 'Kafka Server started' broker.log; do
  kill -0 $broker || { cat broker.log; exit 1; }
  sleep 0.1
done
kill $broker
# Ended by SIGTERM (128 + 15), not by an error.
wait $broker || [ $? -eq 143 ]
# G1 whatever the machine: only it writes the archived objects, which every collector can read.
java -Xshare:dump -XX:+UseG1GC -Xmx512m -XX:SharedClassListFile=classes.lst -XX:SharedArchiveFile=/training/kafka.jsa -cp "$classes"
java -Xshare:on -XX:SharedArchiveFile=/training/kafka.jsa -XX:+UseSerialGC -cp "$classes" kafka.Kafka --version
`;

/** Enters the tree in new namespaces, so that the machine's network and mounts are not changed. */
const ENTER_SCRIPT = `set -eu
hostname localhost
ip link set lo up
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$1" bash /training/train.sh
`;

/** The archive of Kafka's classes, created by starting a broker once. */
const KAFKA_CLASSES: Part = {
  name: "kafka-classes",
  version: KAFKA_VERSION,
  get recipe() {
    return [KAFKA_JARS, TRAINING_PROPERTIES, TRAINING_LOGGING, TRAINING_SCRIPT, ENTER_SCRIPT, JAVA.key()]
      .map((input) => (typeof input === "string" ? input : partKey(input)))
      .join("\n");
  },
  requires: [
    { command: "unshare", why: "starts a broker in a separate network", aptPackage: "util-linux" },
    { command: "chroot", why: "starts a broker in the image's file system", aptPackage: "coreutils" },
    { command: "ip", why: "starts a broker in a separate network", aptPackage: "iproute2" },
    { command: "openssl", why: "creates the temporary certificate of the trained broker", aptPackage: "openssl" },
  ],
  async build(out, context) {
    const tree = join(context.work, "tree");
    const training = join(tree, "training");
    await must(["rm", "-rf", tree]);
    await mkdir(training, { recursive: true });
    for (const layer of [...BASE.layers(), ...JAVA.layers()]) {
      if (layer.kind === "tar") await must(["tar", "--extract", "--file", layer.tar, "--directory", tree], context);
    }
    await mkdir(join(tree, "opt/kafka"), { recursive: true });
    await must(["cp", "-a", join(partDir(KAFKA_JARS), "libs"), join(tree, "opt/kafka/libs")]);
    await writeFile(join(tree, "etc/hosts"), "127.0.0.1 localhost\n");
    await writeFile(join(training, "training.properties"), TRAINING_PROPERTIES);
    await writeFile(join(training, "log4j2.yaml"), TRAINING_LOGGING);
    await writeFile(join(training, "train.sh"), TRAINING_SCRIPT);
    const [key, ca] = [join(training, "key.pem"), join(training, "ca.pem")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2", "-nodes"];
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    await must(["openssl", "req", "-x509", ...curve, ...subject, "-keyout", key, "-out", ca], context);
    await Bun.write(join(training, "node.pem"), `${await Bun.file(key).text()}${await Bun.file(ca).text()}`);
    context.update("start a broker once");
    const namespaces = ["--mount", "--net", "--uts", "--pid", "--fork", "--kill-child"];
    await runLogged(["unshare", ...namespaces, "sh", "-c", ENTER_SCRIPT, "enter", tree], {
      ...context,
      timeoutMs: TRAINING_LIMIT_MS,
    });
    await must(["mv", join(training, "kafka.jsa"), join(out, "kafka.jsa")]);
  },
};

const jars = fromPart(KAFKA_JARS, (folder) => [
  { kind: "folder", folder: join(folder, "libs"), prefix: "opt/kafka/libs", owner: { uid: 0, gid: 0 } },
]);

/** Set when the class archive could not be created; the next run tries again. */
let classesFailed = false;

/** The class archive, if it could be created; an image without it only starts slower. */
const classes: LayerSource = {
  tools: KAFKA_CLASSES.requires,
  key: () => (classesFailed ? "without class archive" : partKey(KAFKA_CLASSES)),
  async ensure(report, signal) {
    if (await isBuilt(KAFKA_CLASSES)) return;
    try {
      await ensurePart(KAFKA_CLASSES, report, signal);
    } catch (error) {
      if (signal?.aborted || isAbort(error) || !(error instanceof OperatorError)) throw error;
      classesFailed = true;
      report.warn(`Kafka's image has no class archive, brokers start slower: ${causeChain(error).join("; ")}`);
    }
  },
  layers: () =>
    classesFailed
      ? []
      : [
          {
            kind: "files",
            files: [{ path: "opt/kafka/kafka.jsa", from: join(partDir(KAFKA_CLASSES), "kafka.jsa"), mode: 0o444 }],
          },
        ],
};
/** Bottom first. */
export const KAFKA_LAYERS: readonly LayerSource[] = [BASE, JAVA, jars, classes];
