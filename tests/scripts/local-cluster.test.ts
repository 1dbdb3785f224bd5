/** The flags of `local-cluster.ts down`. The command is not started: it would stop a cluster. */
import { expect, test } from "bun:test";
import { command } from "../../scripts/local-cluster.ts";
import { silentReport } from "./cli/silent-report.ts";

test("down cannot both keep and delete the data: exit 2", async () => {
  const flags = { like: undefined, "install-tools": false, "keep-data": true, "delete-data": true };
  const context = { flags, positionals: ["down"], report: silentReport(), signal: new AbortController().signal };
  await expect(Promise.resolve(command.run(context))).rejects.toMatchObject({
    exitCode: 2,
    message: "--keep-data and --delete-data exclude each other",
  });
});
