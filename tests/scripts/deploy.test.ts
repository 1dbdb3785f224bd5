/** Contradictory flags are rejected before a cluster is created. The command is not started: it would create one. */
import { describe, expect, test } from "bun:test";
import { EXIT, OperatorError } from "../../scripts/cli/errors.ts";
import { checkDeployFlags } from "../../scripts/deploy.ts";

const none = { local: false, auto: false };

describe("checkDeployFlags", () => {
  test.each([
    [{ local: true, auto: true }, "--local and --auto exclude each other"],
    [{ ...none, local: true, context: "staging" }, "--context and --local exclude each other"],
    [{ ...none, registry: "registry.lan/belts", kind: "dev" }, "--registry and --kind exclude each other"],
    [
      { ...none, local: true, registry: "belts" },
      '--registry: must be HOST[:PORT]/PATH, path in lower case, without scheme and tag; got "belts"',
    ],
  ])("rejects %j", (flags, message) => {
    try {
      checkDeployFlags(flags);
    } catch (error) {
      expect(error).toBeInstanceOf(OperatorError);
      expect({ message: (error as Error).message, exitCode: (error as OperatorError).exitCode }).toEqual({
        message,
        exitCode: EXIT.usage,
      });
      return;
    }
    throw new Error(`accepted: ${JSON.stringify(flags)}`);
  });

  test.each([
    [none],
    [{ ...none, auto: true }],
    [{ ...none, auto: true, context: "staging" }],
    [{ ...none, local: true }],
    [{ ...none, context: "kind-dev", kind: "dev" }],
    [{ ...none, context: "staging", registry: "registry.example.org/team" }],
  ])("accepts %j", (flags) => {
    expect(() => checkDeployFlags(flags)).not.toThrow();
  });
});
