import { describe, expect, test } from "bun:test";
import { createAuthority, issueCertificate } from "../../../scripts/cli/pki.ts";
import {
  counterGain,
  histogramGain,
  parseMetrics,
  podsGoneSince,
  quantile,
  readHistogram,
  readSum,
  scrape,
} from "../../../scripts/clients/pod-metrics.ts";
import type { Cluster } from "../../../scripts/cluster/cluster.ts";

const text = `# HELP events_total Events
# TYPE events_total counter
events_total{reason="a \\"quoted\\" one",topic="t"} 3
events_total{reason="b"} 4
latency_seconds_bucket{le="0.1"} 50
latency_seconds_bucket{le="1"} 99
latency_seconds_bucket{le="+Inf"} 100
latency_seconds_sum 12.5
latency_seconds_count 100
up 1
`;

describe("parseMetrics", () => {
  test("reads names, labels with escapes, and values", () => {
    expect(parseMetrics(text)[0]).toEqual({
      name: "events_total",
      labels: { reason: 'a "quoted" one', topic: "t" },
      value: 3,
    });
  });
  test("readSum adds the series of a name, and is 0 for an unknown one", () => {
    expect(readSum(parseMetrics(text), "events_total")).toBe(7);
    expect(readSum(parseMetrics(text), "nothing_total")).toBe(0);
  });
});

describe("quantile", () => {
  const histogram = readHistogram(parseMetrics(text), "latency_seconds");
  test("interpolates inside the bucket as PromQL does", () => {
    expect(quantile(histogram, 0.25)).toBeCloseTo(0.05);
    expect(quantile(histogram, 0.5)).toBeCloseTo(0.1);
    expect(quantile(histogram, 0.745)).toBeCloseTo(0.55);
  });
  test("gives the highest bound for what lies beyond it", () => {
    expect(quantile(histogram, 0.999)).toBe(1);
  });
  test("is not a number when nothing was observed", () => {
    expect(quantile(histogram.minus(histogram), 0.5)).toBeNaN();
  });
  test("minus leaves what was observed in between", () => {
    const later = readHistogram(
      parseMetrics(text.replace('"0.1"} 50', '"0.1"} 60').replace("count 100", "count 110")),
      "latency_seconds",
    );
    const between = later.minus(histogram);
    expect(between.count).toBe(10);
    expect(between.buckets.get(0.1)).toBe(10);
  });
});

describe("counter gain between two samples, with added and removed pods", () => {
  const pod = (startedSeconds: number, events: number) =>
    parseMetrics(`process_start_time_seconds ${startedSeconds}
events_total{reason="a"} ${events}
latency_seconds_bucket{le="1"} ${events}
latency_seconds_bucket{le="+Inf"} ${events}
latency_seconds_count ${events}
`);
  const samples = {
    before: new Map([
      ["stays", pod(1, 100)],
      ["restarts", pod(1, 500)],
      ["goes", pod(1, 4000)],
    ]),
    after: new Map([
      ["stays", pod(1, 130)],
      ["restarts", pod(9, 7)],
      ["comes", pod(9, 20)],
    ]),
  };

  test("a removed pod does not reduce the gain; a new or restarted pod counts from zero", () => {
    expect(counterGain(samples.before, samples.after, "events_total")).toBe(30 + 7 + 20);
    const observed = histogramGain(samples.before, samples.after, "latency_seconds");
    expect(observed.count).toBe(57);
    expect(observed.buckets.get(1)).toBe(57);
  });

  test("who went is named", () => {
    expect(podsGoneSince(samples.before, samples.after)).toEqual(["goes"]);
    expect(podsGoneSince(samples.after, samples.after)).toEqual([]);
  });
});

describe("scrape", () => {
  /** Two pods, of which the second one does not serve; the metrics of those that were read. */
  async function read(secondIsReady: boolean): Promise<string[]> {
    const authority = await createAuthority("ca", { days: 1 });
    const subject = { commonName: "producer", names: ["DNS:producer.conveyor.svc"] };
    const { certificate, key } = await issueCertificate(authority, subject, { days: 1 });
    using server = Bun.serve({
      ...{ port: 0, hostname: "127.0.0.1", tls: { cert: certificate, key } },
      fetch: () => new Response(text),
    });
    const pod = (name: string, isReady: boolean) => ({
      metadata: { name },
      status: { phase: "Running", conditions: [{ type: "Ready", status: isReady ? "True" : "False" }] },
    });
    const cluster = {
      get: async () => ({ data: { "ca.crt": Buffer.from(authority.certificate).toString("base64") } }),
      runningPods: async () => [pod("producer-0", true), pod("producer-1", secondIsReady)],
      portForward: async (target: string) => {
        if (target === "pod/producer-1") throw new Error("connection refused");
        return { port: server.port, [Symbol.asyncDispose]: async () => {} };
      },
    };
    return [...(await scrape(cluster as unknown as Cluster, "producer")).keys()];
  }

  test("skips a pod that was just added and does not serve yet", async () => {
    expect(await read(false)).toEqual(["producer-0"]);
  });

  test("fails when a pod that is Ready cannot be read", async () => {
    await expect(read(true)).rejects.toThrow("connection refused");
  });
});
