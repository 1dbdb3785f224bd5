/** kafkaTool's script leaves no file in the broker. It runs in a shell with a fake Java, in a folder that shows every file. */
import { expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kafkaTool } from "../cluster/kafka-tool.ts";

test.each([0, 3])("kafkaTool passes the settings to a tool that exits %d and leaves no file", async (exitCode) => {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-kafka-tool-"));
  try {
    const [bin, seen] = [join(folder, "bin"), join(folder, "seen")];
    await mkdir(bin);
    await mkdir(seen);
    // Prints its arguments and its settings, read once, as a tool does.
    const java = `#!/bin/bash
printf '%s\\n' "$@" > ${seen}/arguments
while [ "$1" != --command-config ]; do shift; done
echo "$2" > ${seen}/config
cat "$2" > ${seen}/settings
exit ${exitCode}
`;
    await writeFile(join(bin, "java"), java, { mode: 0o755 });
    const script = kafkaTool("ConsoleProducer", 9091, ["--topic", "t", "--reader-property", "headers.separator='##'"]);
    const child = Bun.spawn(["bash", "-ec", script], { env: { PATH: `${bin}:${process.env.PATH}` }, stdin: "ignore" });
    expect(await child.exited).toBe(exitCode);
    const read = async (name: string) => (await readFile(join(seen, name), "utf8")).trim().split("\n");
    expect(await read("settings")).toEqual([
      "security.protocol=SSL",
      "ssl.keystore.type=PEM",
      "ssl.keystore.location=/certs/kafka.pem",
      "ssl.truststore.type=PEM",
      "ssl.truststore.location=/certs/ca.crt",
    ]);
    const words = await read("arguments");
    expect(words).toContain("-XX:-UsePerfData");
    expect(words.slice(-4)).toEqual(["--topic", "t", "--reader-property", "headers.separator=##"]);
    // A pipe of this shell, which ends with it.
    const [config] = await read("config");
    expect(config).toMatch(/^\/dev\/fd\/\d+$/);
    expect((await readdir(seen)).sort()).toEqual(["arguments", "config", "settings"]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("no cluster test writes a settings file into a broker", async () => {
  const folder = join(import.meta.dir, "../cluster");
  for (const name of await readdir(folder)) {
    if (!name.endsWith(".ts")) continue;
    expect(`${name}: ${/> *\/tmp\/\S+/.exec(await readFile(join(folder, name), "utf8"))?.[0]}`).toBe(
      `${name}: undefined`,
    );
  }
});
