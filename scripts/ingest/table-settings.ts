/** How a table is read: the flags of a command, over a mapping file in YAML. */
import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import {
  type CsvSettings,
  type CsvSettingTexts,
  csvSettings,
  mergedSettings,
  settingsIn,
} from "../../services/domain/formats/csv-settings.ts";
import { UnreadableError } from "../../services/domain/formats/unreadable-error.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";

/** @throws OperatorError (exit 2) that names the setting, the rule and the value */
export async function tableSettings(
  texts: CsvSettingTexts,
  { run, mapping }: { run?: string | undefined; mapping?: string | undefined },
): Promise<CsvSettings> {
  try {
    const given = csvSettings(texts, run);
    if (mapping === undefined) return given;
    const text = await readFile(mapping, "utf8").catch((cause: unknown) => {
      throw new OperatorError(`--mapping: no file "${mapping}"`, { exitCode: EXIT.usage, cause });
    });
    return mergedSettings(settingsIn(parseMapping(text)), given);
  } catch (error) {
    if (error instanceof UnreadableError)
      throw new OperatorError(error.message, { exitCode: EXIT.usage, hint: error.hint });
    throw error;
  }
}

function parseMapping(text: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    throw new OperatorError("--mapping: must be YAML", { exitCode: EXIT.usage, cause });
  }
}
