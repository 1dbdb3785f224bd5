/** Quantities of Kubernetes as numbers. */

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  m: 1e-3,
  ...Object.fromEntries(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].map((unit, index) => [unit, 1024 ** (index + 1)])),
  ...Object.fromEntries(["k", "M", "G", "T", "P", "E"].map((unit, index) => [unit, 1000 ** (index + 1)])),
};

/** Bytes, cores or pieces of a quantity: "16Gi", "250m", "4". NaN for another notation. */
export function quantity(text: string | undefined): number {
  const [, number, unit = ""] = /^(\d+(?:\.\d+)?)([A-Za-z]*)$/.exec(text ?? "") ?? [];
  return Number(number ?? Number.NaN) * (UNITS[unit] ?? Number.NaN);
}
