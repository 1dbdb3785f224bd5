/** The flags of `dead-letters.ts`. They are checked before a cluster is selected. */
import { expect, test } from "bun:test";
import { command } from "../../scripts/dead-letters.ts";
import { silentReport } from "./cli/silent-report.ts";

test.each([
  ["list", { partition: 3 }],
  ["show", { offset: 120 }],
  ["replay", { partition: 0, offset: 0 }],
  ["step-over", { partition: 3 }],
  ["step-over", { offset: 120 }],
  ["step-over", {}],
])("%s with %p: exit 2, since step-over alone has a place, and needs the whole of it", async (action, place) => {
  const context = {
    flags: {
      since: 1,
      reason: [],
      limit: 1,
      context: "no-such-context",
      local: false,
      "dry-run": false,
      "types-fixed": false,
      ...place,
    },
    positionals: [action],
    report: silentReport(),
    signal: new AbortController().signal,
  };
  await expect(Promise.resolve(command.run(context as never))).rejects.toMatchObject({
    exitCode: 2,
    message: expect.stringContaining("--partition and --offset"),
  });
});
