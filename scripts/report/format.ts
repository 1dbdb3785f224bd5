/** Formats of numbers and times on reports, live page and video. It runs in browsers too. */
import type { DrillRecovery } from "../recording/result.ts";

/** 12,345 */
export const formatCount = (value: number): string => Math.round(value).toLocaleString("en-US");

/** "1 event", "2 events"; "0 events". */
export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${formatCount(count)} ${count === 1 ? one : many}`;

/** A number with three significant digits, and all digits before the point. */
export function threeDigits(value: number): number {
  const size = Math.abs(value);
  const decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return Number(value.toFixed(decimals));
}

/** 0.042, 3.14, 27.5, 1,234 */
export function formatNumber(value: number): string {
  const short = threeDigits(value);
  return Math.abs(value) >= 100 || Number.isInteger(value) ? formatCount(short) : String(short);
}

/** For axes: 950, 1.5k, 20k, 3M. */
export function formatShort(value: number): string {
  const size = Math.abs(value);
  for (const [limit, suffix] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const) {
    if (size >= limit) return `${Number((value / limit).toPrecision(3))}${suffix}`;
  }
  return String(Number(value.toPrecision(3)));
}

/** "820 ms", "4.2 s", "1 min 12 s", "2 h 5 min". */
export function formatMs(ms: number): string {
  if (Math.abs(ms) < 1000) return `${Math.round(ms)} ms`;
  if (Math.abs(ms) < 59_950) return `${Number((ms / 1000).toFixed(1))} s`;
  const seconds = Math.round(ms / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  if (hours > 0) return minutes > 0 ? `${hours} h ${minutes} min` : `${hours} h`;
  return seconds % 60 > 0 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
}

/** "4.2 s"; "< 1.2 s" where no outage was measured and a longer one would have been. */
export const recoveryTime = ({ measured_ms, below }: DrillRecovery): string =>
  `${below ? "< " : ""}${formatMs(measured_ms)}`;

/** Time of day, UTC: 07:12:30. */
export const formatClock = (timeMs: number): string => new Date(timeMs).toISOString().slice(11, 19);

/** 2026-11-25 07:12:30 UTC */
export const formatMoment = (timeMs: number): string =>
  `${new Date(timeMs).toISOString().slice(0, 19).replace("T", " ")} UTC`;

/** Time since an origin: "+12.5 s", "−3 s", "+2:05". @param inMinutes from two minutes on when absent. */
export function formatOffset(ms: number, inMinutes = Math.abs(ms) >= 120_000): string {
  const sign = ms < 0 ? "−" : "+";
  const size = Math.abs(ms);
  if (!inMinutes) return `${sign}${Number((size / 1000).toFixed(1))} s`;
  const seconds = Math.round(size / 1000);
  return `${sign}${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** "a", "a and b", "a, b and c". */
export const listed = (items: readonly string[]): string =>
  items.length < 2 ? (items[0] ?? "") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;

/** GiB with one digit. */
export const formatGib = (bytes: number): string => `${Number((bytes / 1024 ** 3).toFixed(1))} GiB`;
