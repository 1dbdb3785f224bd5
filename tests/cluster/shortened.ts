/** Rules and configuration of Prometheus with every duration divided, so that hours become minutes. */
import { parse, stringify } from "yaml";

/** 5 m → 10 s, 1 h → 2 m, 6 h → 12 m; the shortest window still holds several scrapes. */
const FACTOR = 30;
const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/** "5m" → "10s". @throws RangeError for an invalid duration. */
export function shorter(duration: string): string {
  const match = /^(\d+)([smhd])$/.exec(duration);
  if (!match) throw new RangeError(`must be a number and s, m, h or d; got "${duration}"`);
  const seconds = (Number(match[1]) * SECONDS[match[2] as keyof typeof SECONDS]) / FACTOR;
  return `${Math.max(1, Math.round(seconds))}s`;
}

interface RuleFile {
  groups: { rules: { expr: string; for?: string }[] }[];
}

/** A rule file with shorter windows and delays; names and thresholds stay. */
export function shortenedRules(text: string): string {
  const file = parse(text) as RuleFile;
  for (const { rules } of file.groups) {
    for (const rule of rules) {
      rule.expr = rule.expr.replaceAll(/\[(\d+[smhd])\]/g, (_, duration: string) => `[${shorter(duration)}]`);
      if (rule.for) rule.for = shorter(rule.for);
    }
  }
  return stringify(file);
}

/** Prometheus' configuration with scrapes and evaluations every two seconds. */
export function shortenedConfiguration(text: string): string {
  return text
    .replaceAll(/scrape_interval: \d+s/g, "scrape_interval: 2s")
    .replaceAll(/scrape_timeout: \d+s/g, "scrape_timeout: 2s")
    .replace("evaluation_interval: 15s", "evaluation_interval: 2s");
}
