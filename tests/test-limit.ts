/**
 * Namespace of the tests, and time limit of tests and hooks that set none, loaded by every `bun test` (bunfig.toml). Bun's default of 5 s is too short for a
 * test that starts processes on a busy machine. bunfig.toml has no key for it, and setDefaultTimeout is valid for one
 * file, so each test file is loaded with a call of it.
 */
import { plugin } from "bun";

// Tests do not depend on what was deployed from this machine.
process.env.CONVEYOR_NAMESPACE ??= "conveyor";

const LIMIT_MS = 60_000;

plugin({
  name: "test-limit",
  setup({ onLoad }) {
    onLoad({ filter: /\.test\.ts$/ }, async ({ path }) => ({
      // On the first line, so that line numbers stay right.
      contents: `import { setDefaultTimeout as setTestLimit } from "bun:test"; setTestLimit(${LIMIT_MS}); ${await Bun.file(path).text()}`,
      loader: "ts",
    }));
  },
});
