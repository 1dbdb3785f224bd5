/** Queries of panels: Prometheus, InfluxDB and the log store of a cluster, through port-forwards with verified TLS. */
import { isAbort, OperatorError } from "../cli/errors.ts";
import { TelemetryStore } from "../clients/influxdb.ts";
import type { LogStore } from "../clients/log-backend.ts";
import { openLogStore } from "../clients/log-store.ts";
import { PrometheusReader } from "../clients/prometheus.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { type Dashboard, languageOf, type Panel, type Target, textOf } from "../dashboards/definitions.ts";
import type { Frame, Period, SeriesFrame, TableFrame, Value } from "./frame.ts";
import { pipelineStatus } from "./home.ts";
import type { PipelineStatus } from "./home-page.ts";
import { labelValues, logLines, logRates } from "./log-query.ts";
import { type Choices, queryText, stepOf } from "./query-text.ts";

/** More curves cannot be distinguished. */
export const MAX_SERIES = 60;
/** More rows are for a query of one's own. */
const MAX_ROWS = 500;

/** A connection that is opened when it is needed, and again after a failure: a port-forward ends with its pod. */
class Connection<T extends { close(): Promise<void> }> {
  #opened: Promise<T> | undefined;

  constructor(private readonly open: () => Promise<T>) {}

  /** @throws the error of the client, or of the second attempt when the connection was broken */
  async use<R>(work: (client: T) => Promise<R>): Promise<R> {
    const isOpened = this.#opened !== undefined;
    try {
      return await work(await this.#client());
    } catch (error) {
      // An answer of the server, a missing server, or a page that was closed: the connection is not the reason.
      if (!isOpened || isAbort(error) || error instanceof OperatorError) throw error;
      await this.close();
      return await work(await this.#client());
    }
  }

  #client(): Promise<T> {
    this.#opened ??= this.open().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    });
    return this.#opened;
  }

  async close(): Promise<void> {
    const opened = this.#opened;
    this.#opened = undefined;
    await opened?.then((client) => client.close()).catch(() => {});
  }
}

/** The first elements up to a bound, and how many are beyond it. */
function bounded<T>(all: readonly T[], most: number): { shown: T[]; rest: { notShown?: number } } {
  return { shown: all.slice(0, most), rest: all.length > most ? { notShown: all.length - most } : {} };
}

type FluxRow = Record<string, string | number | boolean | null>;

export class PanelData implements AsyncDisposable {
  readonly #prometheus: Connection<PrometheusReader>;
  readonly #influx: Connection<TelemetryStore>;
  readonly #logs: Connection<LogStore>;

  constructor(cluster: Cluster) {
    this.#prometheus = new Connection(() => PrometheusReader.open(cluster));
    this.#influx = new Connection(() => TelemetryStore.open(cluster));
    this.#logs = new Connection(() => openLogStore(cluster));
  }

  async close(): Promise<void> {
    await Promise.all([this.#prometheus.close(), this.#influx.close(), this.#logs.close()]);
  }
  [Symbol.asyncDispose] = () => this.close();

  /** The figures of the first page. Never throws. */
  async status(signal: AbortSignal): Promise<PipelineStatus> {
    return await pipelineStatus((work) => this.#prometheus.use(work), signal);
  }

  /** What a panel shows of a period. @throws Error with the message of the queried server */
  async read(
    dashboard: Dashboard,
    panel: Panel,
    period: Period,
    choices: Choices,
    signal: AbortSignal,
  ): Promise<Frame> {
    const language = languageOf(panel);
    const texts = (panel.targets ?? []).map((target) => ({
      target,
      text: queryText(textOf(target), language, dashboard, period, choices),
    }));
    if (language === "logql") return await this.#readLogs(panel, texts[0]!.text, period, signal);
    if (language === "flux") return await this.#readFlux(panel, texts[0]!.text);
    return panel.type === "table"
      ? await this.#readTable(texts[0]!, signal)
      : await this.#readCurves(texts, period, signal);
  }

  async #readLogs(panel: Panel, text: string, period: Period, signal: AbortSignal): Promise<Frame> {
    if (panel.type !== "logs") return await this.#logs.use((store) => logRates(store, text, period, signal));
    const { entries, isCut } = await this.#logs.use((store) => logLines(store, text, period, signal));
    return {
      kind: "logs",
      isCut,
      lines: entries.map(({ timeNs, level, service, pod, line, run, conveyor, seq, event, container }) => ({
        timeMs: Number(timeNs.slice(0, -6)),
        level,
        service,
        pod,
        text: line,
        fields: Object.entries({ pod, container, event, run, conveyor, seq }).filter(
          (field): field is [string, string] => field[1] !== undefined && field[1] !== "",
        ),
      })),
    };
  }

  async #readCurves(
    texts: readonly { target: Target; text: string }[],
    period: Period,
    signal: AbortSignal,
  ): Promise<SeriesFrame> {
    const stepMs = stepOf(period);
    const first = Math.ceil(period.fromMs / stepMs) * stepMs;
    const count = Math.max(1, Math.floor((period.toMs - first) / stepMs) + 1);
    const timesMs = Array.from({ length: count }, (_, index) => first + index * stepMs);
    const found = await Promise.all(
      texts.map(async ({ target, text }) => {
        const series = await this.#prometheus.use((prometheus) => prometheus.range(text, timesMs, signal));
        return series.map(({ labels, values }) => ({
          label: legendOf(target, labels),
          values: values.map((value) => (value !== null && Number.isFinite(value) ? value : null)),
        }));
      }),
    );
    const { shown, rest } = bounded(found.flat(), MAX_SERIES);
    return { kind: "series", timesMs, series: shown, ...rest };
  }

  async #readTable({ target, text }: { target: Target; text: string }, signal: AbortSignal): Promise<TableFrame> {
    const samples = await this.#prometheus.use((prometheus) => prometheus.query(text, signal));
    const names = [...new Set(samples.flatMap(({ labels }) => Object.keys(labels)))].filter(
      (name) => name !== "__name__",
    );
    const rows = samples.map(({ labels, value }) => [...names.map((name) => labels[name] ?? ""), value]);
    rows.sort((a, b) => Number(a.at(-1)) - Number(b.at(-1)));
    const { shown, rest } = bounded(rows, MAX_ROWS);
    return { kind: "table", columns: [...names, target.refId === "A" ? "value" : target.refId], rows: shown, ...rest };
  }

  async #readFlux(panel: Panel, text: string): Promise<Frame> {
    const rows = await this.#influx.use((influx) => influx.query<FluxRow>(text));
    return panel.type === "table" ? fluxTable(rows) : fluxSeries(rows);
  }

  /** The choices of a variable with a query. */
  async choicesOf(dashboard: Dashboard, name: string, signal: AbortSignal): Promise<string[]> {
    const variable = dashboard.templating.list?.find((one) => one.name === name);
    if (!variable) throw new OperatorError(`the dashboard has no variable ${name}`);
    if (variable.type === "custom") return String(variable.query).split(",");
    if (variable.datasource?.type === "loki") return await this.#logs.use((store) => labelValues(store, name, signal));
    if (variable.datasource?.type !== "influxdb" || typeof variable.query === "string") return [];
    const text = variable.query.query ?? "";
    const rows = await this.#influx.use((influx) => influx.query<{ _value: string }>(text));
    return rows.map(({ _value }) => _value).sort();
  }
}

/** The label of a curve: the legend's text with the values of its labels, or all labels. */
export function legendOf({ legendFormat }: Target, labels: Record<string, string>): string {
  if (legendFormat) return legendFormat.replaceAll(/\{\{\s*(\w+)\s*\}\}/g, (_, name: string) => labels[name] ?? "");
  const parts = Object.entries(labels).filter(([name]) => name !== "__name__");
  return parts.map(([name, value]) => `${name}=${value}`).join(" ") || "value";
}

/** Columns of Flux that describe the query, not the data. */
const FLUX_COLUMNS = new Set(["result", "table", "_start", "_stop", "_measurement", "_field", "_time", "_value"]);

/** Rows with a time, a value and labels as curves; a row without a time is a single value. */
export function fluxSeries(rows: readonly FluxRow[]): SeriesFrame {
  const times = new Set<number>();
  const curves = new Map<string, Map<number, Value>>();
  for (const row of rows) {
    const timeMs = typeof row._time === "string" ? Date.parse(row._time) : 0;
    const label = Object.entries(row)
      .filter(([name]) => !FLUX_COLUMNS.has(name))
      .map(([, value]) => String(value))
      .join(" ");
    times.add(timeMs);
    const values = curves.get(label) ?? new Map<number, Value>();
    curves.set(label, values.set(timeMs, typeof row._value === "number" ? row._value : null));
  }
  const timesMs = [...times].sort((a, b) => a - b);
  const { shown, rest } = bounded([...curves], MAX_SERIES);
  const series = shown.map(([label, values]) => ({
    label: label || "value",
    values: timesMs.map((timeMs) => values.get(timeMs) ?? null),
  }));
  return { kind: "series", timesMs, series, ...rest };
}

export function fluxTable(rows: readonly FluxRow[]): TableFrame {
  const columns = Object.keys(rows[0] ?? {}).filter((name) => !FLUX_COLUMNS.has(name));
  const cell = (value: FluxRow[string] | undefined) => (typeof value === "number" ? value : String(value ?? ""));
  const { shown, rest } = bounded(rows, MAX_ROWS);
  return { kind: "table", columns, rows: shown.map((row) => columns.map((name) => cell(row[name]))), ...rest };
}
