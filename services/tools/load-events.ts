/** The text of a load's events. */
import { serializeEvent, type TelemetryEvent } from "../domain/event.ts";
import { serializeGenericEvent } from "../domain/generic-event.ts";
import { LOAD_SERIES, type LoadEvents } from "../protocol/load-generator.ts";

function serializeAsVersion2({ v: _v, conveyor, run, seq, ts, ...values }: TelemetryEvent): string {
  const fields = { run, seq: { integer: seq }, ...values };
  return serializeGenericEvent({
    measurement: LOAD_SERIES.v2.measurement,
    source: conveyor,
    run,
    seq,
    time: ts,
    fields,
  });
}

export const LOAD_SERIALIZERS: Readonly<Record<LoadEvents, (event: TelemetryEvent) => string>> = {
  v1: serializeEvent,
  v2: serializeAsVersion2,
};
