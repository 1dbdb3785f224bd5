/** The first page: what it says of the pipeline's figures, and which files of runs it serves. */
import { describe, expect, test } from "bun:test";
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runFile, runLinks } from "../../../scripts/viewer/home.ts";
import { type PipelineStatus, verdictOf } from "../../../scripts/viewer/home-page.ts";

const working: PipelineStatus = {
  ...{ inPerSecond: 500, outPerSecond: 500, lagEvents: 3, freshShare: 1, podsReady: 11, podsDesired: 11 },
  alerts: [],
};
const alert = (severity: string) => ({ name: "X", severity, summary: `a ${severity} alert`, labels: "", sinceMs: 0 });

describe("verdictOf", () => {
  test.each<[string, Partial<PipelineStatus>, string]>([
    ["all is well", {}, "Working"],
    ["no events arrive", { inPerSecond: 0, outPerSecond: 0 }, "Working"],
    ["a warning", { alerts: [alert("warning")] }, "Working, with warnings"],
    ["a pod is not Ready", { podsReady: 10 }, "Degraded"],
    ["nothing is stored", { outPerSecond: 0 }, "Not working"],
    ["a critical alert", { alerts: [alert("warning"), alert("critical")] }, "Critical alert"],
    ["a critical alert, and nothing is stored", { outPerSecond: 0, alerts: [alert("critical")] }, "Not working"],
    ["Prometheus does not answer", { inPerSecond: null, problem: "no Prometheus" }, "Unknown"],
  ])("%s", (_name, more, text) => {
    const verdict = verdictOf({ ...working, ...more });
    expect(verdict.text).toBe(text);
    expect(verdict.why).not.toBe("");
  });
});

test("the newest finished run of each kind, with its video; only reports and videos are served", async () => {
  await using root = await mkdtempDisposable(join(tmpdir(), "conveyor-home-"));
  const put = async (id: string, ...files: string[]) => {
    await mkdir(join(root.path, id));
    for (const file of files) await writeFile(join(root.path, id, file), file);
  };
  await put("20260101T000000Z-drills", "report.html", "result.json");
  await put("20260102T000000Z-drills-2", "report.html", "run.mp4");
  // Interrupted before its report.
  await put("20260103T000000Z-drills", "live.ndjson");
  await put("20260101T000000Z-load-test", "report.html");
  await put("notes", "report.html");
  expect((await runLinks(root.path)).map(({ url }) => url)).toEqual([
    "/runs/20260101T000000Z-load-test/report.html",
    "/runs/20260102T000000Z-drills-2/report.html",
    "/runs/20260102T000000Z-drills-2/run.mp4",
  ]);
  expect(await (await runFile("20260102T000000Z-drills-2/run.mp4", root.path))!.text()).toBe("run.mp4");
  for (const path of [
    "20260101T000000Z-drills/result.json",
    "notes/report.html",
    "../report.html",
    "20260101T000000Z-drills/x/report.html",
  ]) {
    expect(await runFile(path, root.path)).toBeUndefined();
  }
  expect(await runLinks(join(root.path, "missing"))).toEqual([]);
});
