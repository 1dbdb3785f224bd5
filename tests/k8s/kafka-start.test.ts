/** The brokers' start scripts on folders like a broker's, with a fake java that answers as Kafka's tools do. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadManifests } from "../../scripts/deploy/manifests.ts";

const map = (await loadManifests()).find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "kafka");
const scripts = map!.data as Record<string, string>;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "conveyor-kafka-start-"));
  for (const name of ["bin", "config", "data/log", "tmp", "secrets/kafka-cluster-id"]) {
    await mkdir(join(folder, name), { recursive: true });
  }
  await writeFile(join(folder, "config/server.properties"), "process.roles=broker,controller");
  await writeFile(join(folder, "config/in-sync.sh"), 'echo "$*" > "$FOLDER/watched"');
  await writeFile(join(folder, "secrets/kafka-cluster-id/cluster-id"), "the-id");
});
afterEach(async () => await rm(folder, { recursive: true, force: true }));

/** Stands for the broker's listener of port 9091. */
let listener: Bun.TCPSocketListener;
beforeEach(() => {
  listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
});
afterEach(() => listener.stop(true));

/** Runs a script of the broker `name` below the folder; `java` is the body of the fake program. */
async function run(script: string, name: string, java: string, ...parameters: string[]) {
  await writeFile(join(folder, "bin/java"), `#!/bin/bash\n${java}\n`);
  await chmod(join(folder, "bin/java"), 0o755);
  const text = scripts[script]!.replaceAll(/(?<=[\s"'=:(])\/(config|data|secrets|tmp|opt)\//g, `${folder}/$1/`)
    .replace(/PAUSE_SECONDS=\d+/, "PAUSE_SECONDS=0")
    .replace("/dev/tcp/127.0.0.1/9091", `/dev/tcp/127.0.0.1/${listener.port}`);
  const child = Bun.spawn(["bash", "-c", text, script, ...parameters], {
    env: { PATH: `${join(folder, "bin")}:${process.env.PATH}`, POD_NAME: name, FOLDER: folder, HEAP_OPTIONS: "-Xmx1m" },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { exitCode: await child.exited, stdout, stderr };
}

describe("start.sh", () => {
  const JAVA = 'echo "$*" >> "$FOLDER/calls"';
  const calls = async () =>
    (await readFile(join(folder, "calls"), "utf8"))
      .trim()
      .split("\n")
      .map((line) =>
        line.includes("StorageTool format") ? "format" : line.includes(" kafka.Kafka ") ? "start" : line,
      );
  const formatted = (nodes: string) => writeFile(join(folder, "secrets/kafka-cluster-id/formatted"), nodes);

  test("the first start formats the volume", async () => {
    expect((await run("start.sh", "kafka-1", JAVA)).exitCode).toBe(0);
    expect(await calls()).toEqual(["format", "start"]);
    expect(await readFile(join(folder, "watched"), "utf8")).toEndWith("/libs/*.jar\n");
  });

  test("the settings of a size come after the common ones, and the node's own ones last", async () => {
    await writeFile(join(folder, "config/size.properties"), "broker.session.timeout.ms=9000");
    expect((await run("start.sh", "kafka-1", JAVA)).exitCode).toBe(0);
    const lines = (await readFile(join(folder, "tmp/server.properties"), "utf8")).trim().split("\n");
    expect(lines.slice(0, 3)).toEqual([
      "process.roles=broker,controller",
      "broker.session.timeout.ms=9000",
      "node.id=1",
    ]);
  });

  test("a node that joins later formats its volume, a formatted one is kept", async () => {
    await formatted("0,11");
    expect((await run("start.sh", "kafka-1", JAVA)).exitCode).toBe(0);
    expect(await calls()).toEqual(["format", "start"]);
    await rm(join(folder, "calls"));
    await formatted("0,1,2");
    await writeFile(join(folder, "data/log/meta.properties"), "");
    expect((await run("start.sh", "kafka-1", JAVA)).exitCode).toBe(0);
    expect(await calls()).toEqual(["start"]);
  });

  test("a node of the cluster with an empty volume does not start, and names the recipe", async () => {
    await formatted("0,1,2");
    const { exitCode, stderr } = await run("start.sh", "kafka-1", JAVA);
    expect(exitCode).toBe(1);
    expect(stderr).toStartWith("The volume of kafka-1 is empty, but the node has been part of this cluster");
    expect(stderr).toContain(
      `kubectl -n conveyor patch secret kafka-cluster-id --type=merge -p '{"data":{"formatted":null}}'`,
    );
    await expect(calls()).rejects.toThrow("ENOENT");
  });
});

describe("in-sync.sh", () => {
  const row = (leader: string, replicas: string, isr: string) =>
    `\tTopic: t\tPartition: 0\tLeader: ${leader}\tReplicas: ${replicas}\tIsr: ${isr}\tElr: \tLastKnownElr: `;
  /** A java that answers with one text after the other, the last one for ever; an empty one fails. */
  const answers = (...texts: string[]) => `
    n=$(cat "$FOLDER/rounds" 2> /dev/null || echo 0); echo $((n + 1)) > "$FOLDER/rounds"
    texts=(${texts.map((text) => `$'${text.replaceAll("\t", "\\t").replaceAll("\n", "\\n")}'`).join(" ")})
    text=\${texts[n < \${#texts[@]} ? n : \${#texts[@]} - 1]}
    [[ -n $text ]] || exit 1
    printf '%s\\n' "$text"`;
  const rounds = async (...texts: string[]) => {
    const { exitCode, stderr } = await run("in-sync.sh", "kafka-1", answers(...texts), "-cp", "/opt/kafka/libs/a.jar");
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(await Bun.file(join(folder, "tmp/in-sync")).exists()).toBe(true);
    return Number(await readFile(join(folder, "rounds"), "utf8"));
  };

  test("waits until the broker answers and is in sync in every partition", async () => {
    const both = (isr: string) => `${row("0", "0,1,2", "0,2,1")}\n${row("2", "2,0,1", isr)}`;
    expect(await rounds("", both("2"), both("2,0"), both("2,0,1"))).toBe(4);
  });

  test("does not wait for partitions of others, with other brokers missing, or without a leader", async () => {
    expect(await rounds(`${row("0", "0,2,11", "0")}\n${row("1", "0,1,2", "1")}\n${row("none", "0,1,2", "0")}`)).toBe(1);
  });

  test("starts no JVM before the listener is open", async () => {
    listener.stop(true);
    const firstSleep = join(folder, "bin/sleep");
    await writeFile(firstSleep, "#!/bin/bash\nkill $PPID\n");
    await chmod(firstSleep, 0o755);
    expect((await run("in-sync.sh", "kafka-1", 'touch "$FOLDER/rounds"', "a.jar")).exitCode).not.toBe(0);
    expect(await Bun.file(join(folder, "rounds")).exists()).toBe(false);
  });

  test("a check runs with the lowest priority and the broker's Java options, after a pause", async () => {
    await writeFile(join(folder, "bin/sleep"), '#!/bin/bash\necho "sleep" >> "$FOLDER/calls"\n');
    await chmod(join(folder, "bin/sleep"), 0o755);
    const java = `echo "$(nice) $*" >> "$FOLDER/calls"\n${answers(row("0", "0,1", "0,1"))}`;
    expect((await run("in-sync.sh", "kafka-1", java, "-XX:Option", "-cp", "a.jar")).exitCode).toBe(0);
    const [pause, check] = (await readFile(join(folder, "calls"), "utf8")).split("\n");
    expect(pause).toBe("sleep");
    expect(check).toStartWith("19 -XX:Option -cp a.jar ");
  });

  test("a file of an earlier start does not count", async () => {
    await writeFile(join(folder, "tmp/in-sync"), "");
    const early = `[[ ! -e $FOLDER/tmp/in-sync ]] || exit 9\n${answers(row("0", "0,1", "0,1"))}`;
    expect((await run("in-sync.sh", "kafka-1", early, "a.jar")).exitCode).toBe(0);
    expect(await readFile(join(folder, "rounds"), "utf8")).toBe("1\n");
  });
});
