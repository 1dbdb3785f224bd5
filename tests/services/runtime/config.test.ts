import { describe, expect, test } from "bun:test";
import { ConfigError, ConfigReader, readInflux, readKafka, readOps } from "../../../services/runtime/config.ts";

describe("ConfigReader", () => {
  test("reports all problems together, each with variable, rule and value", () => {
    const reader = new ConfigReader(
      { PORT: "http", LEVEL: "loud", URL: "http://plain", BROKERS: "kafka", RATE: "-1", TOKEN_FILE: "/nowhere" },
      () => {
        throw Object.assign(new Error("no such file"), { code: "ENOENT" });
      },
    );
    reader.integer("PORT", { least: 1, most: 65_535, fallback: 1 });
    reader.choice("LEVEL", ["info", "debug"], "info");
    reader.httpsUrl("URL");
    reader.brokers("BROKERS");
    reader.number("RATE", { least: 0, most: 10, fallback: 1 });
    reader.secretFile("TOKEN_FILE");
    reader.text("MISSING");
    let problems: readonly string[] = [];
    try {
      reader.done();
    } catch (error) {
      problems = (error as ConfigError).problems;
    }
    expect(problems).toEqual([
      'PORT: must be a whole number from 1 to 65535; got "http"',
      'LEVEL: must be one of info, debug; got "loud"',
      'URL: must be an https:// address; got "http://plain"',
      'BROKERS: must be a comma list of host:port; got "kafka"',
      'RATE: must be a number from 0 to 10; got "-1"',
      'TOKEN_FILE: must name a readable file (ENOENT); got "/nowhere"',
      "MISSING: is required",
    ]);
  });

  test("uses the default of an absent or empty variable", () => {
    const reader = new ConfigReader({ EMPTY: "" });
    expect(reader.text("EMPTY", "fallback")).toBe("fallback");
    expect(reader.integer("ABSENT", { least: 0, most: 9, fallback: 4 })).toBe(4);
    expect(reader.choices("ABSENT", ["a", "b"], "a,b")).toEqual(["a", "b"]);
    reader.done();
  });

  test("no message contains a secret's value", () => {
    const reader = new ConfigReader({ TOKEN_FILE: "/secret" }, () => "a b");
    reader.secretFile("TOKEN_FILE");
    expect(reader.problems).toEqual(["TOKEN_FILE: must name a file with one value and no whitespace in it"]);
  });

  test("an empty secret file is a problem", () => {
    const reader = new ConfigReader({ TOKEN_FILE: "/secret" }, () => "\n");
    reader.secretFile("TOKEN_FILE");
    expect(() => reader.done()).toThrow(ConfigError);
  });

  test("NODE_TLS_REJECT_UNAUTHORIZED=0 is a problem", () => {
    expect(() => new ConfigReader({ NODE_TLS_REJECT_UNAUTHORIZED: "0" }).done()).toThrow(
      "NODE_TLS_REJECT_UNAUTHORIZED",
    );
  });
});

describe("readKafka", () => {
  const files = (path: string) => `content of ${path}`.replaceAll(" ", "-");
  const kafka = (environment: Record<string, string>) => {
    const reader = new ConfigReader({ KAFKA_BROKERS: "b:9094", KAFKA_TLS_CA: "/ca", ...environment }, files);
    return { config: readKafka(reader), reader };
  };
  const user = { KAFKA_USERNAME: "me", KAFKA_PASSWORD_FILE: "/password" };

  test("without KAFKA_AUTH the client's certificate is required", () => {
    expect(kafka({}).reader.problems).toEqual([
      "KAFKA_TLS_CERT: is required (a path)",
      "KAFKA_TLS_KEY: is required (a path)",
    ]);
    const { config } = kafka({ KAFKA_TLS_CERT: "/cert", KAFKA_TLS_KEY: "/key" });
    expect(config.tls).toEqual({ ca: "content-of-/ca", cert: "content-of-/cert", key: "content-of-/key" });
    expect(config.sasl).toBeUndefined();
  });

  test("SASL needs user and password, and no certificate", () => {
    expect(kafka({ KAFKA_AUTH: "scram-sha-512" }).reader.problems).toEqual([
      "KAFKA_USERNAME: is required",
      "KAFKA_PASSWORD_FILE: is required (a path)",
    ]);
    const { config, reader } = kafka({ KAFKA_AUTH: "scram-sha-512", ...user });
    reader.done();
    expect(config.sasl).toEqual({ mechanism: "scram-sha-512", username: "me", password: "content-of-/password" });
    expect(config.tls.cert).toBeUndefined();
    // Its own endpoints need one nevertheless.
    readOps(reader, config);
    expect(reader.problems).toEqual(["OPS_TLS_CERT: is required (a path)", "OPS_TLS_KEY: is required (a path)"]);
  });

  test("SASL together with half a client certificate is a problem", () => {
    const { reader } = kafka({ KAFKA_AUTH: "plain", ...user, KAFKA_TLS_CERT: "/cert" });
    expect(reader.problems).toEqual(["KAFKA_TLS_KEY: is required (a path)"]);
  });

  test("OAUTHBEARER needs the address of the tokens", () => {
    const oauth = { KAFKA_AUTH: "oauthbearer", ...user };
    expect(kafka({ ...oauth, KAFKA_OAUTH_TOKEN_URL: "http://idp/token" }).reader.problems).toEqual([
      'KAFKA_OAUTH_TOKEN_URL: must be an https:// address; got "http://idp/token"',
    ]);
    const { config } = kafka({ ...oauth, KAFKA_OAUTH_TOKEN_URL: "https://idp/token" });
    expect(config.sasl).toMatchObject({ mechanism: "oauthbearer", tokenUrl: "https://idp/token" });
  });

  test("an unknown mechanism names the known ones", () => {
    expect(kafka({ KAFKA_AUTH: "kerberos", ...user }).reader.problems).toEqual([
      'KAFKA_AUTH: must be one of tls, plain, scram-sha-256, scram-sha-512, oauthbearer; got "kerberos"',
    ]);
  });

  test("the system's CAs are trusted only where the word says so", () => {
    expect(kafka({ KAFKA_TLS_CA: "" }).reader.problems[0]).toBe("KAFKA_TLS_CA: is required (a path)");
    const system = { INFLUX_URL: "https://influx", INFLUX_CA: "system", INFLUX_TOKEN_FILE: "/token" };
    const reader = new ConfigReader(system, files);
    expect(readInflux(reader).ca).toBeUndefined();
    reader.done();
  });
});
