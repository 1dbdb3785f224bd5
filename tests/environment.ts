/** Environment variables for the tests of one file or group. */
import { afterAll, beforeAll } from "bun:test";

/** Sets variables before the tests of the file or group that calls this, and restores them afterwards. */
export function setEnvironment(variables: Record<string, string>): void {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  beforeAll(() => void Object.assign(process.env, variables));
  afterAll(() => {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });
}
