/** Values with the units of Grafana that the dashboards use. Runs in the page too. */

const DECIMAL = ["", "k", "M", "G", "T"];
const BINARY = ["B", "KiB", "MiB", "GiB", "TiB"];
const SUFFIXES: Readonly<Record<string, string>> = {
  celsius: " °C",
  velocityms: " m/s",
  masskg: " kg",
  eps: " events/s",
  wps: " writes/s",
  ops: " operations/s",
  reqps: " requests/s",
  d: " d",
};

/** At most three significant digits, or the panel's decimals. */
function digits(value: number, decimals: number | undefined): string {
  if (decimals !== undefined) return value.toFixed(decimals);
  const size = Math.abs(value);
  return String(Number(value.toFixed(size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3)));
}

function scaled(value: number, base: number, units: readonly string[], decimals: number | undefined): [string, string] {
  let [size, unit] = [value, 0];
  while (Math.abs(size) >= base && unit < units.length - 1) [size, unit] = [size / base, unit + 1];
  return [digits(size, unit === 0 && Number.isInteger(size) ? 0 : decimals), units[unit]!];
}

function duration(seconds: number, decimals: number | undefined): string {
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 0.001) return `${digits(seconds * 1e6, undefined)} µs`;
  if (size < 1) return `${digits(seconds * 1000, undefined)} ms`;
  if (size < 120) return `${digits(seconds, decimals)} s`;
  if (size < 7200) return `${digits(seconds / 60, decimals)} min`;
  return size < 172_800 ? `${digits(seconds / 3600, decimals)} h` : `${digits(seconds / 86_400, decimals)} d`;
}

/** The unit of an axis, whose ticks are numbers only; empty where a tick needs its unit. */
export const axisUnit = (unit: string): string =>
  (unit.startsWith("suffix:") ? unit.slice("suffix:".length) : (SUFFIXES[unit] ?? "")).trim();

/** A value as text. @param unit a unit of Grafana; unknown ones are printed as suffix */
export function formatValue(value: number | null, unit = "none", decimals?: number): string {
  if (value === null) return "–";
  if (unit === "s") return duration(value, decimals);
  if (unit === "percentunit") return `${digits(value * 100, decimals)} %`;
  if (unit === "bytes" || unit === "Bps") {
    const [text, name] = scaled(value, 1024, BINARY, decimals);
    return `${text} ${name}${unit === "Bps" ? "/s" : ""}`;
  }
  if (unit === "none") return digits(value, decimals);
  const suffix = unit.startsWith("suffix:") ? ` ${unit.slice("suffix:".length).trim()}` : (SUFFIXES[unit] ?? "");
  if (unit !== "short" && suffix === "") return `${digits(value, decimals)} ${unit}`;
  const [text, name] = scaled(value, 1000, DECIMAL, decimals);
  return `${text}${name ? ` ${name}` : ""}${suffix}`;
}
