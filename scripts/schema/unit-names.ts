/** Units as the ends of field names write them. */

/** Names that mean one unit only: "_t", "_f", "_n", "_mw" and "_nm" mean several. */
const UNITS: Readonly<Record<string, string>> = {
  ...{ c: "°C", degc: "°C", deg_c: "°C", celsius: "°C", degf: "°F", deg_f: "°F", k: "K", deg: "°" },
  ...{ bar: "bar", mbar: "mbar", pa: "Pa", hpa: "hPa", kpa: "kPa", mpa: "MPa", psi: "psi" },
  ...{ um: "µm", mm: "mm", cm: "cm", m: "m", km: "km", m2: "m²", m3: "m³", l: "l", ml: "ml", g: "g", kg: "kg" },
  ...{ mm_s: "mm/s", m_s: "m/s", mps: "m/s", km_h: "km/h", kmh: "km/h", m_s2: "m/s²", rpm: "rpm" },
  ...{ l_s: "l/s", l_min: "l/min", l_h: "l/h", m3_h: "m³/h", kg_h: "kg/h", kn: "kN" },
  ...{ mv: "mV", v: "V", kv: "kV", ma: "mA", a: "A", w: "W", kw: "kW", wh: "Wh", kwh: "kWh", va: "VA", ohm: "Ω" },
  ...{ ns: "ns", us: "µs", ms: "ms", s: "s", min: "min", h: "h", hz: "Hz", khz: "kHz", mhz: "MHz" },
  ...{ pct: "%", percent: "%", ppm: "ppm", ppb: "ppb", db: "dB", lux: "lx", bytes: "B" },
};

/** The unit that the end of a field's name says, such as "mm/s" of vibration_mm_s; undefined: none. */
export function unitOf(field: string): string | undefined {
  const words = field.toLowerCase().split("_");
  // The longer end first: "_mm_s" is not seconds. The first word is never a unit.
  for (let from = Math.max(1, words.length - 2); from < words.length; from++) {
    const end = words.slice(from).join("_");
    if (Object.hasOwn(UNITS, end)) return UNITS[end];
  }
  return undefined;
}
