/**
 * Pictures of the dashboards over the time of a drill, in the folder of its run: taken while Prometheus and the log store
 * have the data, and shown by the video.
 */
import { readFile } from "node:fs/promises";
import type { DrillResult } from "../recording/result.ts";
import type { RunFolder } from "../recording/run-folder.ts";

/** The dashboards of the pictures, with the caption of each. */
export const PICTURED_DASHBOARDS = {
  "pipeline-overview": "The dashboard over the time of this drill",
  logs: "The log lines of every component over the time of this drill",
} as const;
type Pictured = keyof typeof PICTURED_DASHBOARDS;

export interface DrillPicture {
  /** Name of the drill. */
  drill: string;
  caption: string;
  /** The PNG as a data URL. */
  source: string;
}

/** File name of a picture in the run's folder. */
export const pictureFile = (drill: string, dashboard: Pictured) => `${drill}-${dashboard}.png`;

/** The drill of the pictures: the first one that kills or deletes a pod, else the first one. */
export const drillToPicture = (shown: readonly DrillResult[]): DrillResult | undefined =>
  shown.find(({ name }) => /^(kill|delete)-/.test(name)) ?? shown[0];

/** The pictures that a run's folder has; none of a run without `--record`. */
export async function readPictures(folder: RunFolder, drills: readonly DrillResult[]): Promise<DrillPicture[]> {
  const pictures: DrillPicture[] = [];
  for (const drill of new Set(drills.map(({ name }) => name))) {
    for (const [dashboard, caption] of Object.entries(PICTURED_DASHBOARDS)) {
      const png = await readFile(folder.path(pictureFile(drill, dashboard as Pictured))).catch(() => undefined);
      if (png) pictures.push({ drill, caption, source: `data:image/png;base64,${png.toString("base64")}` });
    }
  }
  return pictures;
}
