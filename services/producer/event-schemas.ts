/**
 * The schemas in force in a pod: the ConfigMap event-schemas, mounted as a folder. The kubelet replaces the files while the
 * pod runs, so they are read again and again: a changed schema needs no restart.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Refusal } from "../domain/event.ts";
import { checkSchema, type NumberForm } from "../domain/event-schema.ts";
import type { Point } from "../domain/line-protocol.ts";
import { isSchemaFile, SchemaFiles } from "../domain/schema-files.ts";
import type { Logger } from "../runtime/log.ts";

/** The kubelet itself needs up to a minute to replace the files. */
const REREAD_MS = 5000;

interface EventSchemasOptions {
  /** A folder that does not exist holds no schema: the ConfigMap is optional. */
  folder: string;
  log: Logger;
  /** Called once for each faulty file of a changed folder. */
  onFaulty?: () => void;
  now?: () => number;
}

export class EventSchemas {
  readonly #files = new SchemaFiles();
  readonly #now: () => number;
  #text = "{}";
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: EventSchemasOptions) {
    this.#now = options.now ?? (() => performance.now());
    this.#refresh();
  }

  /** The point with the types of its schema, or why it is refused. */
  check(point: Point, numbers: NumberForm): Refusal | Point {
    if (this.#now() - this.#readAt >= REREAD_MS) this.#refresh();
    return checkSchema(this.#files.schemas, point, numbers);
  }

  #refresh(): void {
    this.#readAt = this.#now();
    const { folder, log, onFaulty } = this.options;
    const texts = readFolder(folder);
    const text = JSON.stringify(texts);
    if (text === this.#text) return;
    this.#text = text;
    for (const { file, error } of this.#files.read(texts)) {
      log.error("event_schema_invalid", { file, error });
      onFaulty?.();
    }
    const { byMeasurement, unknownMeasurements } = this.#files.schemas;
    log.info("event_schemas", { measurements: [...byMeasurement.keys()], unknown_measurements: unknownMeasurements });
  }
}

/** Texts of the folder's files by name. An unreadable file is empty, which is no schema. */
function readFolder(folder: string): Record<string, string> {
  const read = <T>(work: () => T, otherwise: T): T => {
    try {
      return work();
    } catch {
      return otherwise;
    }
  };
  const names = read(() => readdirSync(folder), []).filter(isSchemaFile);
  return Object.fromEntries(
    names.sort().map((name) => [name, read(() => readFileSync(join(folder, name), "utf8"), "")]),
  );
}
