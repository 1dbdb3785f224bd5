import type { History, HistoryMeta, Kind, Records } from "../../../scripts/audit/history.ts";

/** A small history, written by hand. */
export function memoryHistory(meta: HistoryMeta, records: { [K in Kind]?: readonly Records[K][] }): History {
  return {
    meta,
    recorded: (kind) => records[kind] !== undefined,
    async each(kind, visit) {
      for (const record of records[kind] ?? []) visit(record);
    },
  };
}
