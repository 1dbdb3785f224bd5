import { expect, test } from "bun:test";
import { panelsOf, readDashboards } from "../../../scripts/dashboards/definitions.ts";
import { formatValue } from "../../../scripts/viewer/units.ts";

test.each([
  [null, "s", undefined, "–"],
  [0, "s", undefined, "0 s"],
  [0.0123, "s", undefined, "12.3 ms"],
  [90, "s", 1, "90.0 s"],
  [5400, "s", undefined, "90 min"],
  [200_000, "s", undefined, "2.31 d"],
  [0.1234, "percentunit", 2, "12.34 %"],
  [1536, "bytes", undefined, "1.5 KiB"],
  [1536, "Bps", undefined, "1.5 KiB/s"],
  [1_234_567, "short", undefined, "1.23 M"],
  [999, "eps", 0, "999 events/s"],
  [12_345, "eps", undefined, "12.3 k events/s"],
  [81.25, "celsius", 1, "81.3 °C"],
  [1.5, "suffix: mm/s", undefined, "1.5 mm/s"],
  [300, "d", 0, "300 d"],
  [17, "none", undefined, "17"],
] as const)("%p %s with %p decimals: %s", (value, unit, decimals, text) => {
  expect(formatValue(value, unit, decimals)).toBe(text);
});

test("every unit of the dashboards has a text", () => {
  for (const { fieldConfig } of readDashboards().flatMap(panelsOf)) {
    const { unit = "none" } = fieldConfig?.defaults ?? {};
    if (unit === "none") continue;
    // An unknown unit is printed as it is named.
    if (!unit.startsWith("suffix:")) expect(formatValue(1.5, unit)).not.toEndWith(` ${unit.length > 1 ? unit : "?"}`);
  }
});
