/** The video: the plan without a browser; then a short real video, whose frames are compared with the record. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findBrowser, withBrowser } from "../../scripts/browser/browser.ts";
import { capture } from "../../scripts/cli/process.ts";
import { mergedEntries, Replay } from "../../scripts/live/replay.ts";
import type { RecordEntry } from "../../scripts/recording/run-record.ts";
import { FramePainter, recordVideo } from "../../scripts/video/video.ts";
import { chapterFile, encode } from "../../scripts/video/video-encoder.ts";
import { type FrameParts, frameParts } from "../../scripts/video/video-frame.ts";
import {
  CHAPTERS,
  chaptersOf,
  drillsToShow,
  type FramePlan,
  framesOf,
  MAX_VIDEO_SECONDS,
  planVideo,
  secondsOf,
} from "../../scripts/video/video-plan.ts";
import { START_MS, syntheticDrill, syntheticDrills } from "../scripts/report/synthetic.ts";

const at = (second: number) => START_MS + second * 1000;
const textOf = (html: string) =>
  html
    .replaceAll(/<[^>]*>/g, " ")
    .replaceAll(/\s+/g, " ")
    .trim();

describe("plan", () => {
  const plan = planVideo(syntheticDrills());
  test("every drill has all chapters, in order, between title and verdict of the run", () => {
    const titles = chaptersOf(plan).map(({ title }) => title);
    const of = (number: number, title: string) => CHAPTERS.map((chapter) => `${number}. ${title}: ${chapter}`);
    expect(titles).toEqual([
      "Title",
      ...of(1, "Synthetic: a processor's pod is deleted"),
      ...of(2, "Synthetic: InfluxDB's disk is full"),
      "Verdict of the run",
    ]);
  });
  test("chapters follow each other without a gap", () => {
    const chapters = chaptersOf(plan);
    for (const [index, { startMs }] of chapters.slice(1).entries()) expect(startMs).toBe(chapters[index]!.endMs);
    expect(chapters.at(-1)!.endMs).toBe(Math.round(secondsOf(plan.segments) * 1000));
  });
  test("a drill with pictures of the dashboards shows them before its verdict", () => {
    const name = plan.drills[1]!.name;
    const pictures = ["the dashboard", "the log lines"].map((caption) => ({ drill: name, caption, source: "data:," }));
    const { segments } = planVideo(syntheticDrills(), pictures);
    const own = segments.filter(({ drill }) => drill?.name === name);
    expect(own.slice(-3).map(({ kind, caption, picture }) => [kind, picture ? caption : ""])).toEqual([
      ["picture", "the dashboard"],
      ["picture", "the log lines"],
      ["verdict", ""],
    ]);
    expect(segments.filter(({ kind }) => kind === "picture")).toHaveLength(2);
  });
  test("at most three minutes, for any number and length of drills", () => {
    const many = Array.from({ length: 20 }, (_, index) => syntheticDrill({ name: `drill-${index}` }));
    expect(secondsOf(planVideo(syntheticDrills({ drills: many })).segments)).toBeLessThanOrEqual(MAX_VIDEO_SECONDS);
    const drill = syntheticDrill();
    const late = at(7200);
    const beats = drill.beats.map((phase) => (phase.name === "proven" ? { ...phase, endedAtMs: late } : phase));
    const long = syntheticDrill({ beats, recording: { ...drill.recording, endedAtMs: late } });
    expect(secondsOf(planVideo(syntheticDrills({ drills: [long] })).segments)).toBeLessThanOrEqual(MAX_VIDEO_SECONDS);
  });
  test("within a drill, record time advances at the displayed speed", () => {
    for (const name of plan.drills.map((drill) => drill.name)) {
      const segments = plan.segments.filter(({ drill }) => drill?.name === name);
      for (const [index, { fromMs }] of segments.slice(1).entries()) expect(fromMs).toBe(segments[index]!.toMs);
      for (const { fromMs, toMs, seconds, speed } of segments) {
        if (speed === 0) expect(toMs).toBe(fromMs);
        else expect((toMs - fromMs) / 1000 / seconds).toBeCloseTo(speed, 6);
      }
    }
  });
  test("record time never decreases: effect before fault, recovery after the end", () => {
    const drill = syntheticDrill();
    const marks = drill.recording.marks.map((mark) =>
      mark.kind === "recovered" ? { ...mark, timeMs: at(500) } : mark,
    );
    const odd = syntheticDrill({
      effect: { timeMs: at(19), proof: "seen early" },
      recording: { ...drill.recording, marks },
    });
    const { segments } = planVideo(syntheticDrills({ drills: [odd] }));
    const own = segments.filter((segment) => segment.drill);
    for (const [index, { fromMs }] of own.slice(1).entries()) expect(fromMs).toBe(own[index]!.toMs);
    expect(own.at(-1)!.toMs).toBe(at(74));
  });
  test("the fault is played in real time", () => {
    const moment = plan.segments.find(({ fromMs, toMs, speed }) => fromMs <= at(20.2) && toMs > at(20.2) && speed > 0);
    expect(moment?.speed).toBe(1);
  });
  test("drillsToShow: failed drills first, one drill per component", () => {
    const named = (name: string, more = {}) => syntheticDrill({ name, title: name, ...more });
    const drills = [
      named("delete-processor"),
      named("kill-processor"),
      named("delete-influxdb"),
      named("freeze-kafka"),
      named("delete-loki", { verdict: "failed" }),
    ];
    const shown = drillsToShow(syntheticDrills({ drills })).map(({ name }) => name);
    expect(shown).toContain("delete-loki");
    expect(shown).toContain("delete-processor");
    expect(shown).not.toContain("kill-processor");
  });
  test("the caption of a drill without a measured effect states that it proves nothing", () => {
    const drills = [syntheticDrill({ verdict: "inconclusive", effect: undefined, recovery: undefined })];
    expect(planVideo(syntheticDrills({ drills })).segments.map(({ caption }) => caption)).toContain(
      "No effect was measured: this drill proves nothing.",
    );
  });
  test("planVideo: a run without a drill throws", () => {
    expect(() => planVideo(syntheticDrills({ drills: [] }))).toThrow("no drill to show in a video");
  });
  test("framesOf: one frame per tick, each with its record time", () => {
    const frames = framesOf(plan, 10);
    expect(frames.length).toBe(Math.round(secondsOf(plan.segments) * 10));
    for (const { segment, stateMs } of frames) expect(stateMs >= segment.fromMs && stateMs <= segment.toMs).toBe(true);
  });
});

describe("frame", () => {
  const result = syntheticDrills({ drills: [syntheticDrill()] });
  const plan = planVideo(result);
  const live: RecordEntry[] = [
    { timeMs: at(0), pods: [{ name: "processor-synthetic-a", workload: "processor", state: "ready", restarts: 0 }] },
    {
      timeMs: at(21),
      pods: [{ name: "processor-synthetic-b", workload: "processor", state: "not ready", restarts: 0 }],
    },
  ];
  const partsAt = (wanted: (frame: FramePlan) => boolean) => {
    const frame = framesOf(plan, 10).findLast(wanted)!;
    return frameParts(frame, new Replay(plan.runId, mergedEntries(result, live)).at(frame.stateMs), result, plan);
  };
  test("a frame shows the pods and marks of its record time", () => {
    const before = partsAt(({ stateMs }) => stateMs < at(20));
    expect(textOf(before.html.pods!)).toContain("● synthetic-a");
    expect(textOf(before.html.timeline!)).not.toContain("fault");
    const during = partsAt(({ stateMs }) => stateMs < at(27));
    expect(textOf(during.html.pods!)).toContain("○ synthetic-b not ready");
  });
  test("the playback speed is shown: real time, faster, paused", () => {
    const labels = new Set(
      framesOf(plan, 10).map((frame) => frameParts(frame, new Replay("r", []).at(0), result, plan).html.speed),
    );
    expect(labels).toContain("real time");
    expect(labels).toContain("paused");
    expect([...labels].some((label) => /^\d+× faster$/.test(label!))).toBe(true);
  });
  test("a command is typed, then its recorded output is shown", () => {
    const { html, overlayClass } = partsAt(({ segment }) => segment.kind === "reading");
    expect(overlayClass).toBe("read");
    expect(textOf(html.overlay!)).toContain("$ bun scripts/audit.ts --since 2m 0 of 12,400 acknowledged events lost");
  });
});

test("chapterFile: escapes ffmpeg's special characters", () => {
  expect(chapterFile({ title: "a=b;c", chapters: [{ title: "#1\\", startMs: 0, endMs: 5 }] })).toBe(
    ";FFMETADATA1\ntitle=a\\=b\\;c\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=5\ntitle=\\#1\\\\\n",
  );
});

/** Pictures are drawn and encoded in seconds; a machine with ten programs in front of the browser takes minutes. */
setDefaultTimeout(300_000);

const browser = findBrowser();
const missing = [!browser && "chromium", !Bun.which("ffmpeg") && "ffmpeg", !Bun.which("ffprobe") && "ffprobe"].filter(
  Boolean,
);

describe.skipIf(missing.length > 0)(
  `a real video${missing.length > 0 ? ` (skipped: apt-get install ${missing.join(" ")})` : ""}`,
  () => {
    const FRAMES_PER_SECOND = 4;
    let folder = "";
    let out = "";
    const result = syntheticDrills({ drills: [syntheticDrill()] });
    // Every segment of the plan, in a fraction of its time.
    const complete = planVideo(result);
    const plan = {
      ...complete,
      segments: complete.segments.map((segment) => ({ ...segment, seconds: Math.max(0.25, segment.seconds * 0.06) })),
    };
    const entries = mergedEntries(result, [
      { timeMs: at(0), pods: [{ name: "processor-synthetic-a", workload: "processor", state: "ready", restarts: 0 }] },
      { timeMs: at(22), pods: [{ name: "processor-synthetic-b", workload: "processor", state: "ready", restarts: 0 }] },
    ]);
    const shown: FrameParts[] = [];
    const run = async (command: string[]) => {
      const { stdout, stderr, exitCode } = await capture(command);
      if (exitCode !== 0) throw new Error(stderr);
      return `${stdout}${stderr}`;
    };
    const imageOf = (index: number) => join(folder, `frame-${index}.png`);
    const frameCount = framesOf(plan, FRAMES_PER_SECOND).length;

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), "conveyor-video-test-"));
      out = join(folder, "drill.mp4");
      await recordVideo({
        result,
        entries,
        out,
        plan,
        framesPerSecond: FRAMES_PER_SECOND,
        onFrame: (_frame, parts) => shown.push(parts),
      });
    });
    afterAll(() => rm(folder, { recursive: true, force: true }));

    test("one stream of H.264 4:2:0 at 1280 × 720, as long as its plan, index at the start, no temporary file", async () => {
      const probe = JSON.parse(
        await run(
          `ffprobe -v error -count_frames -show_streams -show_format -show_chapters -of json ${out}`.split(" "),
        ),
      ) as {
        streams: {
          codec_type: string;
          codec_name: string;
          width: number;
          height: number;
          pix_fmt: string;
          nb_read_frames: string;
        }[];
        format: { duration: string; tags: { title: string } };
        chapters: { tags: { title: string }; start_time: string }[];
      };
      const video = probe.streams.filter(({ codec_type }) => codec_type === "video");
      expect(video.map(({ codec_name, width, height, pix_fmt }) => [codec_name, width, height, pix_fmt])).toEqual([
        ["h264", 1280, 720, "yuv420p"],
      ]);
      expect(Number(video[0]!.nb_read_frames)).toBe(frameCount);
      expect(Number(probe.format.duration)).toBeCloseTo(secondsOf(plan.segments), 0);
      expect(probe.format.tags.title).toContain(result.facts.id);
      expect(probe.chapters.map(({ tags }) => tags.title)).toEqual(chaptersOf(plan).map(({ title }) => title));
      const head = (await readFile(out)).subarray(0, 200_000).toString("latin1");
      expect(head.indexOf("moov")).toBeGreaterThan(0);
      expect(head.indexOf("moov")).toBeLessThan(head.indexOf("mdat"));
      expect((await readdir(folder)).filter((name) => name.includes("unfinished"))).toEqual([]);
    });

    test("shows the recorded run, pods, commands and outputs", () => {
      expect(shown).toHaveLength(frameCount);
      const pods = new Set(
        shown.flatMap(({ html }) => [...html.pods!.matchAll(/class="pod [^>]*>. ([^<]+)</g)].map(([, name]) => name)),
      );
      expect([...pods].sort()).toEqual(["synthetic-a", "synthetic-b"]);
      const all = shown.map(({ html }) => textOf(Object.values(html).join(" "))).join("\n");
      for (const { command, output } of result.drills[0]!.commands) {
        expect(all).toContain(command);
        expect(all).toContain(textOf(output).slice(-40));
      }
      expect(all).toContain(result.drills[0]!.effect!.proof);
      expect(all).toContain(result.facts.id);
    });

    test("long titles, names, outputs and captions stay inside the picture", async () => {
      const long =
        "A very long title of a drill about a broker and its network and everything else that one can say of it ".repeat(
          3,
        );
      const drill = syntheticDrill({
        title: long,
        fault: long,
        hypothesis: long,
        reasons: [long],
        effect: { timeMs: at(20.4), proof: long },
        commands: [{ timeMs: at(21), command: long, output: Array.from({ length: 90 }, () => long).join("\n") }],
        logLines: Array.from({ length: 30 }, (_, index) => ({ timeMs: at(20 + index / 10), pod: long, line: long })),
      });
      const wide = syntheticDrills({ drills: [drill] });
      const widePlan = planVideo(wide);
      const pods = Array.from({ length: 12 }, (_, index) => ({
        name: `processor-synthetic-${index}-abcde`,
        workload: "processor",
        state: "ready" as const,
        restarts: 3,
      }));
      const replay = new Replay(widePlan.runId, mergedEntries(wide, [{ timeMs: at(0), pods }]));
      const frames = framesOf(widePlan, FRAMES_PER_SECOND);
      await withBrowser({ path: browser! }, async (context) => {
        const page = await context.newPage();
        const painter = await FramePainter.open(page, widePlan.runId);
        for (const kind of ["title", "breaks", "live", "reading", "verdict", "end"] as const) {
          const frame = frames.findLast(({ segment }) => segment.kind === kind)!;
          await painter.paint(frameParts(frame, replay.at(frame.stateMs), wide, widePlan));
          const outside = await page.evaluate(() =>
            [...document.querySelectorAll(".frame > *, .frame > header > *, .stage > *, .stage section:not(:empty)")]
              .filter((element) => {
                const { top, left, right, bottom, width } = element.getBoundingClientRect();
                return width > 0 && (top < -1 || left < -1 || right > 1281 || bottom > 721);
              })
              .map(({ id, className, tagName }) => `${tagName}#${id}.${className}`),
          );
          expect(outside, kind).toEqual([]);
        }
      });
    });

    test("a picture of a dashboard is drawn in its first frame", async () => {
      const red = join(folder, "red.png");
      await run(["ffmpeg", "-f", "lavfi", "-i", "color=red:s=1280x720", "-frames:v", "1", red]);
      const source = `data:image/png;base64,${(await readFile(red)).toString("base64")}`;
      const pictured = planVideo(result, [{ drill: result.drills[0]!.name, caption: "a dashboard", source }]);
      const frame = framesOf(pictured, FRAMES_PER_SECOND).find(({ segment }) => segment.kind === "picture")!;
      const state = new Replay(pictured.runId, entries).at(frame.stateMs);
      await withBrowser({ path: browser! }, async (context) => {
        const painter = await FramePainter.open(await context.newPage(), pictured.runId);
        await Bun.write(join(folder, "pictured.png"), await painter.paint(frameParts(frame, state, result, pictured)));
      });
      const center = "crop=1:1:640:360,format=rgb24";
      await run(["ffmpeg", "-i", join(folder, "pictured.png"), "-vf", center, "-f", "rawvideo", join(folder, "pixel")]);
      const [redShare, green, blue] = await readFile(join(folder, "pixel"));
      expect({ red: redShare! > 240, green: green! < 15, blue: blue! < 15 }).toEqual({
        red: true,
        green: true,
        blue: true,
      });
    });

    test("frames of the file equal frames that are drawn from the record, and differ from each other", async () => {
      const frames = framesOf(plan, FRAMES_PER_SECOND);
      const kinds = ["breaks", "live", "reading", "verdict"] as const;
      const picked = kinds.map((kind) => frames.findLastIndex(({ segment }) => segment.kind === kind));
      await withBrowser({ path: browser! }, async (context) => {
        const painter = await FramePainter.open(await context.newPage(), plan.runId);
        const replay = new Replay(plan.runId, entries);
        for (const index of picked) {
          const frame = frames[index]!;
          await Bun.write(
            imageOf(index),
            await painter.paint(frameParts(frame, replay.at(frame.stateMs), result, plan)),
          );
        }
      });
      /** Structural likeness, 1 for the same picture. */
      const likeness = async (inFile: number, drawn: number) => {
        const filter = `[0:v]select=eq(n\\,${inFile}),setpts=0,format=gray[a];[1:v]setpts=0,format=gray[b];[a][b]ssim`;
        const inputs = ["-i", out, "-i", imageOf(drawn), "-lavfi", filter];
        const said = await run(["ffmpeg", "-hide_banner", ...inputs, ..."-frames:v 1 -f null -".split(" ")]);
        return Number(/All:([\d.]+)/.exec(said)?.[1]);
      };
      for (const index of picked) expect(await likeness(index, index)).toBeGreaterThan(0.97);
      expect(await likeness(picked[0]!, picked[1]!)).toBeLessThan(0.95);
      expect(await likeness(picked[1]!, picked[2]!)).toBeLessThan(0.95);
    });

    test("charts that are updated in place equal those of the same frame on a new page, pixel by pixel", async () => {
      const frames = framesOf(plan, FRAMES_PER_SECOND);
      const last = frames.findLastIndex(({ segment }) => segment.kind === "live");
      const replay = new Replay(plan.runId, entries);
      await withBrowser({ path: browser! }, async (context) => {
        /** Canvases and labels of the last live frame, after the frames from `first` on. */
        const chartsAfter = async (first: number) => {
          const page = await context.newPage();
          const painter = await FramePainter.open(page, plan.runId);
          for (let index = first; index <= last; index++) {
            const frame = frames[index]!;
            await painter.paint(frameParts(frame, replay.at(frame.stateMs), result, plan));
          }
          return await page.evaluate(() => [
            document.querySelector(".strip")!.innerHTML,
            ...[...document.querySelectorAll("canvas")].map((canvas) => canvas.toDataURL()),
          ]);
        };
        const charts = await chartsAfter(0);
        expect(charts.length).toBeGreaterThan(3);
        expect((await chartsAfter(last)).map((chart, index) => chart === charts[index])).not.toContain(false);
      });
    });

    test("encode: a failure reports ffmpeg's message and leaves no file", async () => {
      async function* broken() {
        yield new TextEncoder().encode("no picture");
      }
      const bad = join(folder, "bad.mp4");
      const error = await encode(broken(), { out: bad, title: "t", framesPerSecond: 4, chapters: [] }).then(
        () => undefined,
        (reason: Error) => reason,
      );
      expect(error?.message).toStartWith("ffmpeg ended with exit");
      expect((await readdir(folder)).filter((name) => name.startsWith("bad"))).toEqual([]);
    });

    test("an interrupt leaves no file", async () => {
      const stopped = join(folder, "stopped.mp4");
      const abort = new AbortController();
      const error = await recordVideo({
        result,
        entries,
        out: stopped,
        plan,
        framesPerSecond: FRAMES_PER_SECOND,
        signal: abort.signal,
        onFrame: () => abort.abort(),
      }).then(
        () => undefined,
        (reason: Error) => reason,
      );
      expect(error?.name).toBe("AbortError");
      expect((await readdir(folder)).filter((name) => name.startsWith("stopped"))).toEqual([]);
    });
  },
);
