/** What the sub-commands share: the filter, one read of the topic, and their counts. */
import type { Schemas } from "../../services/domain/event-schema.ts";
import type { CommandContext } from "../cli/command.ts";
import type { ExitCode } from "../cli/errors.ts";
import type { ProbeSession } from "../clients/probe-session.ts";
import type { Cluster } from "../cluster/cluster.ts";
import {
  type DeadLetterFilter,
  eachDeadLetter,
  type ReplayStatus,
  replayStatusOf,
  type StoredDeadLetter,
} from "./topic.ts";

export interface DeadLetterSession extends Pick<CommandContext<Record<never, never>>, "report" | "signal"> {
  cluster: Cluster;
  /** The services' image. */
  image: string;
  probes: ProbeSession;
  filter: DeadLetterFilter;
  /** show: at most this many. */
  limit: number;
  /** step-over: the first offset of the batch. */
  place: { partition: number; offset: number } | undefined;
  /** replay and step-over: change nothing. */
  isDryRun: boolean;
  /** replay: the points whose types made InfluxDB refuse events are deleted. */
  typesFixed: boolean;
  /** Of the deployed pipeline. */
  schemas: Schemas;
}

export type SubCommand = (session: DeadLetterSession) => Promise<ExitCode>;

/** Visits every dead letter of the filter with its replay status. */
export async function eachWithStatus(
  { probes, filter, typesFixed, schemas, signal }: DeadLetterSession,
  visit: (deadLetter: StoredDeadLetter, status: ReplayStatus) => void,
): Promise<void> {
  const nowMs = Date.now();
  await eachDeadLetter(probes, filter, signal, (deadLetter) =>
    visit(deadLetter, replayStatusOf(deadLetter, nowMs, { typesFixed, schemas })),
  );
}
