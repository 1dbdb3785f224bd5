/**
 * A Kafka and an InfluxDB that this project does not run: SASL over TLS without client certificates, a user with few rights,
 * an organization and a bucket with other names. Real servers, real services.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } from "kafkajs";
import { PROCESSOR_GROUP } from "../../services/domain/kafka-layout.ts";
import { Environment } from "./environment.ts";
import { Pipeline, skipReason, until } from "./harness.ts";

const skipped = await skipReason();
/** A start of a service, or stored events: seconds, minutes on a busy machine. */
const STEP_LIMIT_MS = 150_000;
const LIMIT_MS = 500_000;

const PASSWORD = "test-password-of-every-user";
/** kafkajs authenticates again 10 s before the end of a session, so here every two seconds. */
const SESSION_MS = 12_000;
/** Longer than one session of two seconds, with events before and after it. */
const LOAD_MS = 5000;
const USERS = ["admin", "owner", "limited"] as const;
const LOGIN = "org.apache.kafka.common.security";

/** The clients' listener with SASL; brokers and controllers keep their mutual TLS. */
const SETTINGS = {
  "listener.security.protocol.map": "CLIENT:SASL_SSL,REPLICATION:SSL,CONTROLLER:SSL",
  "listener.name.client.ssl.client.auth": "none",
  "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN,OAUTHBEARER",
  "listener.name.client.scram-sha-512.sasl.jaas.config": `${LOGIN}.scram.ScramLoginModule required;`,
  "listener.name.client.scram-sha-512.connections.max.reauth.ms": String(SESSION_MS),
  "listener.name.client.scram-sha-256.sasl.jaas.config": `${LOGIN}.scram.ScramLoginModule required;`,
  "listener.name.client.plain.sasl.jaas.config": `${LOGIN}.plain.PlainLoginModule required user_admin="${PASSWORD}";`,
  "listener.name.client.oauthbearer.sasl.jaas.config": `${LOGIN}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="kafka";`,
};

const TOPICS = { TOPIC: "events-external", DLQ_TOPIC: "dead-letters-external" };

describe.skipIf(skipped !== undefined)(`external Kafka${skipped ? ` (skipped: ${skipped})` : ""}`, () => {
  let pipeline: Pipeline;
  let passwordFile: string;
  let influx: Record<string, string>;

  /** Environment of a service that connects as a user. */
  const as = (username: string, auth = "scram-sha-512"): Record<string, string> => ({
    KAFKA_AUTH: auth,
    KAFKA_USERNAME: username,
    KAFKA_PASSWORD_FILE: passwordFile,
    KAFKA_TLS_CERT: "",
    KAFKA_TLS_KEY: "",
    OPS_TLS_CERT: pipeline.servers.tlsPaths("producer").cert,
    OPS_TLS_KEY: pipeline.servers.tlsPaths("producer").key,
  });
  const setup = (username: string, environment: Record<string, string> = {}) =>
    pipeline.setup({
      ...TOPICS,
      ...as(username),
      ...influx,
      REPLICATION_FACTOR: "3",
      MIN_INSYNC_REPLICAS: "2",
      KAFKA_STORE: "external",
      INFLUX_STORE: "external",
      ...environment,
    });

  const allow = async (
    username: string,
    rights: readonly [keyof typeof AclOperationTypes, keyof typeof AclResourceTypes, string][],
  ) => {
    const admin = await pipeline.admin();
    await admin.createAcls({
      acl: rights.map(([operation, resourceType, resourceName]) => ({
        principal: `User:${username}`,
        host: "*",
        operation: AclOperationTypes[operation],
        permissionType: AclPermissionTypes.ALLOW,
        resourceType: AclResourceTypes[resourceType],
        resourceName,
        resourcePatternType: ResourcePatternTypes.LITERAL,
      })),
    });
    await admin.disconnect();
  };

  beforeAll(async () => {
    pipeline = await Pipeline.start(1, {
      settings: SETTINGS,
      scram: [
        ...USERS.map((name) => `SCRAM-SHA-512=[name=${name},password=${PASSWORD}]`),
        `SCRAM-SHA-256=[name=admin,password=${PASSWORD}]`,
      ],
    });
    await pipeline.prepare();
    const { servers } = pipeline;
    const file = async (name: string, text: string) => {
      await writeFile(join(servers.folder, name), text);
      return join(servers.folder, name);
    };
    passwordFile = await file("password", `${PASSWORD}\n`);
    const token = await file("external-token", await servers.onboardInflux());
    influx = { INFLUX_TOKEN_FILE: token, INFLUX_READ_TOKEN_FILE: token };
    pipeline.saslOfAdmin = { mechanism: "scram-sha-512", username: "admin", password: PASSWORD };
    pipeline.toolEnvironment = { ...servers.environment("admin"), ...as("admin") };
  }, LIMIT_MS);
  afterAll(async () => await pipeline?.stop());

  test(
    "setup of a user without the right to create names each topic and the command that creates it",
    async () => {
      const failure = String(await setup("limited").catch((error: unknown) => error));
      for (const topic of Object.values(TOPICS)) {
        expect(failure).toContain(`topic ${topic} is missing or hidden, and creating it is refused`);
        expect(failure).toContain(`kafka-topics.sh --create --topic ${topic} --partitions`);
      }
      expect(failure).toContain("TOPIC_AUTHORIZATION_FAILED");
      expect(failure).not.toContain(PASSWORD);
    },
    LIMIT_MS,
  );

  test(
    "setup of a user with the right creates the topics, and says what one broker cannot promise",
    async () => {
      await allow("owner", [
        ["CREATE", "CLUSTER", "kafka-cluster"],
        ["ALL", "GROUP", PROCESSOR_GROUP],
        ...Object.values(TOPICS).map((topic) => ["ALL", "TOPIC", topic] as const),
      ] as Parameters<typeof allow>[1]);
      const first = await setup("owner");
      expect(first.created).toEqual(Object.values(TOPICS).map((topic) => `topic ${topic}`));
      expect(first.unchanged).toEqual(["bucket telemetry: writable, readable"]);
      expect(first.problems).toContain(
        `topic ${TOPICS.TOPIC}: 1 replica per partition: the loss of a broker loses acknowledged events`,
      );
      expect(first.problems).toContain(
        `topic ${TOPICS.TOPIC}: min.insync.replicas is 1, must be at least 2: an acknowledged event may have one copy`,
      );
      const second = await setup("owner");
      expect([second.created, second.changed, second.removed]).toEqual([[], [], []]);
    },
    LIMIT_MS,
  );

  test(
    "setup names the rights without which no event flows, and then those without which less works",
    async () => {
      const { TOPIC, DLQ_TOPIC } = TOPICS;
      await allow("limited", [
        ["DESCRIBE", "TOPIC", TOPIC],
        ["DESCRIBE", "TOPIC", DLQ_TOPIC],
      ]);
      const failure = String(await setup("limited").catch((error: unknown) => error));
      for (const right of [`WRITE on TOPIC ${TOPIC}`, `READ on TOPIC ${TOPIC}`, `WRITE on TOPIC ${DLQ_TOPIC}`]) {
        expect(failure).toContain(`missing right ${right}`);
      }
      expect(failure).toContain("missing right READ on GROUP processor");
      await allow("limited", [
        ["WRITE", "TOPIC", TOPIC],
        ["READ", "TOPIC", TOPIC],
        ["WRITE", "TOPIC", DLQ_TOPIC],
        ["READ", "GROUP", PROCESSOR_GROUP],
      ]);
      const { problems } = await setup("limited");
      const missing = (problems as string[]).filter((problem) => problem.includes("missing right"));
      expect(missing.map((problem) => problem.replace(/:[^:]*$/, ""))).toEqual([
        `topic ${TOPIC}: its configuration cannot be read (missing right DESCRIBE_CONFIGS)`,
        `topic ${DLQ_TOPIC}: its configuration cannot be read (missing right DESCRIBE_CONFIGS)`,
        `missing right READ on TOPIC ${DLQ_TOPIC}`,
        "missing right READ on GROUP probe-* (prefixed)",
        "missing right READ on GROUP processor.step-over",
      ]);
    },
    LIMIT_MS,
  );

  test(
    "events of a user with few rights are stored across several sessions, and the audit loses none",
    async () => {
      const { DLQ_TOPIC, TOPIC } = TOPICS;
      const environment = await Environment.open(pipeline, "external", 0, { group: PROCESSOR_GROUP });
      const settings = { ...as("limited"), TOPIC, DLQ_TOPIC };
      const producer = await environment.producer({ ...settings, SOURCE: "simulated", RATE_EVENTS_PER_SECOND: "500" });
      const processor = await environment.processor({ ...settings, ...influx });
      await Promise.all([producer.ready(STEP_LIMIT_MS), processor.ready(STEP_LIMIT_MS)]);
      await Bun.sleep(LOAD_MS);
      const { run } = JSON.parse((await producer.get("/ledger")).text) as { run: string };
      expect(await producer.stop()).toBe(0);
      await until("the stored events", STEP_LIMIT_MS, async () =>
        (await processor.metric("conveyor_processor_points_written_total")) > 2000 ? true : undefined,
      );
      const verdict = await environment.audit([run]);
      expect(verdict.laws.filter(({ status }) => status === "failed")).toEqual([]);
      const passed = verdict.laws.filter(({ status }) => status === "passed").map(({ law }) => law);
      expect(passed).toEqual(["L1", "L2", "L3", "P1", "V1", "D1", "D2", "O1"]);
      expect(verdict.counts).toMatchObject({ lost: 0, twice_in_kafka: 0, twice_in_influxdb: 0 });
      expect(verdict.counts.in_influxdb).toBeGreaterThan(2000);
      expect(await processor.stop()).toBe(0);
      for (const { raw } of [producer, processor]) expect(raw.join("\n")).not.toContain(PASSWORD);
    },
    LIMIT_MS,
  );

  test(
    "each SASL mechanism connects; a wrong password and a missing CA do not",
    async () => {
      const metadata = { kind: "kafka", ...pipeline.kafka, op: "metadata" } as const;
      const base = pipeline.toolEnvironment!;
      const connect = async (environment: Record<string, string>) => {
        pipeline.toolEnvironment = { ...base, ...environment };
        return await pipeline.probe(metadata).then(
          ({ brokers }) => `${brokers.length} brokers`,
          (error: unknown) => String(error),
        );
      };
      const { cert, key } = await pipeline.servers.tlsFiles("influxdb");
      const tokens = Bun.serve({
        port: 0,
        tls: { cert, key },
        fetch: async (request) => {
          const body = new URLSearchParams(await request.text());
          const isKnown = request.headers.get("authorization") === `Basic ${btoa(`admin:${PASSWORD}`)}`;
          if (!isKnown || body.get("grant_type") !== "client_credentials")
            return new Response("no client", { status: 401 });
          const now = Math.floor(Date.now() / 1000);
          const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
          // The broker's validator for tests accepts tokens without a signature.
          const access_token = `${part({ alg: "none" })}.${part({ sub: "admin", iat: now, exp: now + 60 })}.`;
          return Response.json({ access_token, expires_in: 60 });
        },
      });
      const oauth = { ...as("admin", "oauthbearer"), KAFKA_OAUTH_TOKEN_URL: `https://localhost:${tokens.port}/token` };
      try {
        const wrong = join(pipeline.servers.folder, "wrong");
        await writeFile(wrong, "wrong");
        const [plain, scram256, bearer] = [
          await connect(as("admin", "plain")),
          await connect(as("admin", "scram-sha-256")),
          await connect(oauth),
        ];
        expect([plain, scram256, bearer]).toEqual(["1 brokers", "1 brokers", "1 brokers"]);
        expect(await connect({ ...as("admin"), KAFKA_PASSWORD_FILE: wrong })).toContain("Authentication failed");
        expect(await connect({ ...oauth, KAFKA_PASSWORD_FILE: wrong })).toContain("/token answered 401");
        // Without a CA file the system's trusted CAs count, and none of them has issued this certificate.
        expect(await connect({ KAFKA_TLS_CA: "system" })).toMatch(/self.signed|unable to (get|verify)/i);
      } finally {
        tokens.stop(true);
        pipeline.toolEnvironment = base;
      }
    },
    LIMIT_MS,
  );
});
