/** The events of the benchmarks in each form that the pipeline takes: the same values, so that their costs compare. */
import { serializeEvent, type TelemetryEvent } from "../services/domain/event.ts";
import { checkGenericEvent, type GenericEventJson, serializeGenericEvent } from "../services/domain/generic-event.ts";
import { renderLine } from "../services/domain/line-protocol.ts";
import { identityHeaders } from "../services/domain/record-identity.ts";
import type { Outgoing } from "../services/kafka/event-producer.ts";

const MEASUREMENT = "belt";

/** An event of the fleet as one of version 2. */
export function genericOf(event: TelemetryEvent): GenericEventJson {
  const { conveyor, run, seq, ts, speed_mps, load_kg, motor_temp_c, vibration_mm_s, state } = event;
  const fields = { speed_mps, load_kg, motor_temp_c, vibration_mm_s, state };
  return { measurement: MEASUREMENT, source: conveyor, run, seq, time: ts, tags: { site: "north" }, fields };
}

/** What a client writes to the write API: tags and fields in any order. */
export function lineOf(event: TelemetryEvent): string {
  const { conveyor, seq, ts, speed_mps, load_kg, motor_temp_c, vibration_mm_s, state } = event;
  const fields = `speed_mps=${speed_mps},load_kg=${load_kg},motor_temp_c=${motor_temp_c},vibration_mm_s=${vibration_mm_s}`;
  const time = `${ts}${String(seq % 1_000_000).padStart(6, "0")}`;
  return `${MEASUREMENT},site=north,host=${conveyor} ${fields},state="${state}" ${time}`;
}

export const FORMS = ["version 1", "version 2", "line"] as const;
export type Form = (typeof FORMS)[number];

/** The record of an event in Kafka, as the producer makes it. */
export function recordOf(form: Form, event: TelemetryEvent): Pick<Outgoing, "key" | "value" | "headers"> {
  if (form === "version 1") return { key: event.conveyor, value: serializeEvent(event) };
  const { conveyor, run, seq } = event;
  if (form === "version 2") {
    const { point } = checkGenericEvent(JSON.parse(serializeGenericEvent(genericOf(event)))).event!;
    return {
      key: conveyor,
      value: renderLine(point),
      headers: identityHeaders({ run, conveyor, seq, isAssigned: false }),
    };
  }
  const [series, fields, time] = lineOf(event).split(" ") as [string, string, string];
  const [measurement, site, host] = series.split(",") as [string, string, string];
  const headers = identityHeaders({ run: "bench-assigned-1", conveyor: "token", seq, isAssigned: true });
  const key = `${measurement},${host},${site}`;
  return { key, value: `${key} ${fields.split(",").sort().join(",")} ${time}`, headers };
}
