/** Which text format the first lines show. */
import { expect, test } from "bun:test";
import { textFormatOf } from "../../../../services/domain/formats/text-format.ts";

test.each([
  ["line protocol", "pump,site=north flow=1 1764489600", "line"],
  ["line protocol whose first line is invalid", "pump flow=\npump flow=1 1764489600", "line"],
  ["line protocol with other spaces in names", "pump,site=Halle\u00a03 flow=1\npump,site=Halle\u00a04 flow=2", "line"],
  ["line protocol behind comments", "# DML\npump flow=1", "line"],
  ["NDJSON whose first line is invalid", 'pump flow=\n{"v":2}', "ndjson"],
  ["a table", "time,flow\n1764489600,1", "csv"],
  ["neither", "pump\nflow", "ndjson"],
] as const)("%s", (_, text, format) => {
  expect(textFormatOf(text, true)).toBe(format);
});
