import { describe, expect, test } from "bun:test";
import { join } from "node:path";

describe("runService with an invalid configuration", () => {
  for (const entry of ["producer", "processor", "setup", "lag-exporter"]) {
    test(`${entry} ends with exit 1 and one line that lists every problem`, async () => {
      const child = Bun.spawn([process.execPath, join(import.meta.dir, `../../../services/${entry}.ts`)], {
        env: { KAFKA_BROKERS: "nowhere", NODE_TLS_REJECT_UNAUTHORIZED: "0" },
        stdout: "pipe",
        stderr: "pipe",
      });
      const output = await new Response(child.stdout).text();
      expect(await child.exited).toBe(1);
      const line = JSON.parse(output.trim()) as { event: string; level: string; problems: string[] };
      expect(line).toMatchObject({ event: "configuration_invalid", level: "error" });
      expect(line.problems.length).toBeGreaterThan(3);
      expect(line.problems.join("\n")).toContain("NODE_TLS_REJECT_UNAUTHORIZED");
      expect(line.problems.join("\n")).toContain("KAFKA_TLS_CA: is required (a path)");
    });
  }
});
