import { describe, expect, test } from "bun:test";
import { ConfigError, ConfigReader } from "../../../services/runtime/config.ts";

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
