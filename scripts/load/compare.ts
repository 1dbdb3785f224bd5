/** Two load tests side by side: settings, measures and their difference. */
import { formatStages } from "../../services/domain/load-stages.ts";
import type { LoadEvents } from "../../services/protocol/load-generator.ts";
import type { LoadTestResult } from "../recording/result.ts";
import { METRICS, type MetricName } from "./thresholds.ts";

export interface ComparedRow {
  name: string;
  a: string;
  b: string;
  /** The difference; empty for equal or missing values. */
  change: string;
}

const shown = (value: number | null | undefined) =>
  value == null ? "–" : Number(value.toPrecision(6)).toLocaleString("en", { maximumFractionDigits: 4 });

function changeOf(a: number | null | undefined, b: number | null | undefined): string {
  if (a == null || b == null || a === b) return "";
  const difference = `${b > a ? "+" : "−"}${shown(Math.abs(b - a))}`;
  return a === 0 ? difference : `${difference} (${b > a ? "+" : "−"}${Math.abs(((b - a) / a) * 100).toFixed(0)} %)`;
}

/** Version of a run's events. */
export const eventsOf = ({ facts }: LoadTestResult): LoadEvents => facts.events ?? "v1";

export function compareRows(a: LoadTestResult, b: LoadTestResult): ComparedRow[] {
  const text = (name: string, of: (result: LoadTestResult) => string): ComparedRow => ({
    name,
    a: of(a),
    b: of(b),
    change: of(a) === of(b) ? "" : "differs",
  });
  const number = (name: string, of: (result: LoadTestResult) => number | null | undefined): ComparedRow => ({
    name,
    a: shown(of(a)),
    b: shown(of(b)),
    change: changeOf(of(a), of(b)),
  });
  const images = (result: LoadTestResult) =>
    Object.entries(result.facts.images)
      .find(([name]) => name.includes("/services:"))?.[1]
      .slice(-12) ?? "–";
  return [
    text("run", ({ facts }) => facts.id),
    text("verdict", ({ passed, facts }) => (facts.interrupted ? "interrupted" : passed ? "passed" : "failed")),
    text("profile", ({ profile }) => profile),
    text("events", eventsOf),
    text("stages", ({ stages }) => formatStages(stages)),
    text("services' image", images),
    text("kubernetes", ({ facts }) => facts.cluster.kubernetes),
    number("offered", ({ ledger }) => ledger.offered),
    number("acknowledged", ({ ledger }) => ledger.acknowledged),
    number("stored", ({ ledger }) => ledger.stored),
    number("failed", ({ ledger }) => ledger.failed),
    number("unknown", ({ ledger }) => ledger.unknown),
    ...(Object.keys(METRICS) as MetricName[]).map((name) => number(name, ({ measured }) => measured?.[name])),
    number("changes of replicas", ({ scaling }) => scaling.length),
  ];
}

export function compareText(a: LoadTestResult, b: LoadTestResult): string {
  const rows = [{ name: "", a: "A", b: "B", change: "A → B" }, ...compareRows(a, b)];
  const width = (column: "name" | "a" | "b") => Math.max(...rows.map((row) => row[column].length));
  const [first, second, third] = [width("name"), width("a"), width("b")];
  return rows
    .map((row) =>
      `${row.name.padEnd(first)}  ${row.a.padStart(second)}  ${row.b.padStart(third)}  ${row.change}`.trimEnd(),
    )
    .join("\n");
}
