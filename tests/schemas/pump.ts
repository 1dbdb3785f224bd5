/** The schema of the tests, and its file. */
import { join } from "node:path";
import { parse } from "yaml";
import { readSchema } from "../../services/domain/event-schema.ts";

export const PUMP_FILE = join(import.meta.dir, "pump.yaml");
export const PUMP_TEXT = await Bun.file(PUMP_FILE).text();
export const PUMP = readSchema(parse(PUMP_TEXT));
