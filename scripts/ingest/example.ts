/** Events that are valid at the time when they are printed. */
import { exampleEvent, serializeEvent } from "../../services/domain/event.ts";
import { serializeGenericEvent } from "../../services/domain/generic-event.ts";

export const EXAMPLES = ["v1", "v2", "csv", "line"] as const;
export type Example = (typeof EXAMPLES)[number];

export const isExample = (kind: string): kind is Example => (EXAMPLES as readonly string[]).includes(kind);

/** The example as a file has it, and the command that takes it from a pipe. */
export function exampleText(kind: Example, nowMs: number): { text: string; command: string } {
  const command = "bun scripts/ingest.ts -";
  switch (kind) {
    case "v1":
      return {
        text: `${serializeEvent(exampleEvent({ conveyor: "belt-0-1", run: "r1", seq: 0, ts: nowMs }))}\n`,
        command,
      };
    case "v2": {
      const fields = { flow_l_min: 121.5, motor_temp_c: 48.2, running: true, starts: { integer: "5" } };
      const tags = { site: "north" };
      const event = { measurement: "pump", source: "pump-7", run: "r1", seq: 0, time: nowMs, tags, fields };
      return { text: `${serializeGenericEvent(event)}\n`, command };
    }
    case "csv": {
      const rows = [
        "time,source,site,flow_l_min,motor_temp_c",
        `${new Date(nowMs).toISOString()},pump-7,north,121.5,48.2`,
      ];
      return { text: `${rows.join("\n")}\n`, command: `${command} --measurement pump --tag site` };
    }
    case "line":
      return { text: `pump,site=north,source=pump-7 flow_l_min=121.5,motor_temp_c=48.2 ${nowMs}000000\n`, command };
  }
}
