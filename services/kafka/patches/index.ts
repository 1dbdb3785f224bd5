/**
 * The known defects of kafkajs 2.2.4, patched at start: one file per defect, each with its test of the same name below
 * tests/services/kafka/patches/. kafkajs has had no release since 2023.
 *
 * Settings in ../client.ts avoid two more (a consumer crashes after 5 retries, a connection attempt ends after 1 s), and
 * ../event-producer.ts those of send() (tests/services/kafka/kafkajs-send.test.ts).
 */
import { version } from "kafkajs/package.json";
import { clockAges } from "./clock-ages.ts";
import { clockHeartbeat } from "./clock-heartbeat.ts";
import { clockRequestTimeout } from "./clock-request-timeout.ts";
import { connectHangs } from "./connect-hangs.ts";
import { deadBrokerStopsAll } from "./dead-broker-stops-all.ts";
import { forgottenMemberId } from "./forgotten-member-id.ts";
import { goneBroker } from "./gone-broker.ts";
import { idleTimer } from "./idle-timer.ts";
import { leaderMovedRejoins } from "./leader-moved-rejoins.ts";
import { lostCoordinator } from "./lost-coordinator.ts";
import { lostPosition } from "./lost-position.ts";
import { missingCodecs } from "./missing-codecs.ts";
import type { Patch } from "./patch.ts";
import { refetchInProcess } from "./refetch-in-process.ts";
import { replacedSeedBroker } from "./replaced-seed-broker.ts";
import { silentLeader } from "./silent-leader.ts";
import { silentMetadataBroker } from "./silent-metadata-broker.ts";
import { independentDecode, slowDecode } from "./slow-decode.ts";
import { staleCoordinator } from "./stale-coordinator.ts";
import { staleLeader } from "./stale-leader.ts";
import { staysWhenJoining } from "./stays-when-joining.ts";
import { stoppedFetchersSpin } from "./stopped-fetchers-spin.ts";
import { strandedRequest } from "./stranded-request.ts";
import { timeoutCheck } from "./timeout-check.ts";

export const PATCHED_VERSION = "2.2.4";

/**
 * In the order of installation. A later patch wraps an earlier one where both replace the same member:
 * - Connection.disconnect: stranded-request empties the queue after connect-hangs has released the socket;
 * - ConsumerGroup.recoverFromFetch: leader-moved-rejoins handles moved leaders before dead-broker-stops-all;
 * - ConsumerGroup's private join: forgotten-member-id sends its second request through stays-when-joining;
 * - RequestQueue.scheduleRequestTimeoutCheck: timeout-check reads the time that clock-request-timeout keeps;
 * - BrokerPool.metadata: stale-leader and gone-broker change different parts, in any order.
 */
export const PATCHES: readonly Patch[] = [
  idleTimer,
  clockRequestTimeout,
  timeoutCheck,
  clockHeartbeat,
  clockAges,
  silentLeader,
  connectHangs,
  strandedRequest,
  deadBrokerStopsAll,
  leaderMovedRejoins,
  refetchInProcess,
  lostCoordinator,
  staysWhenJoining,
  stoppedFetchersSpin,
  forgottenMemberId,
  silentMetadataBroker,
  staleCoordinator,
  staleLeader,
  goneBroker,
  replacedSeedBroker,
  missingCodecs,
  slowDecode,
  lostPosition,
];

export const PATCHES_WITHOUT_DECODER: readonly Patch[] = PATCHES.map((patch) =>
  patch === slowDecode ? independentDecode : patch,
);

/** Another version could drop or break a patch silently. @throws Error that names version or members, and the remedy. */
export function checkKafkajs(installed: string, patches: readonly Patch[]): void {
  const remedy = `install kafkajs ${PATCHED_VERSION}, or adapt services/kafka/patches and PATCHED_VERSION there`;
  if (installed !== PATCHED_VERSION) {
    throw new Error(`kafkajs ${installed} is installed, but the patches are for ${PATCHED_VERSION}: ${remedy}`);
  }
  const missing = patches.flatMap(({ id, members }) =>
    members.filter((member) => !member.exists()).map(({ name }) => `${name} (patch ${id})`),
  );
  if (missing.length > 0) throw new Error(`kafkajs ${installed} has no ${missing.join(", ")}: ${remedy}`);
}

let installed = false;

/** Checks and patches kafkajs, once per process; every client of ../client.ts calls it first. */
export function installKafkajsPatches(patches: readonly Patch[] = PATCHES): void {
  if (installed) return;
  checkKafkajs(version, patches);
  installed = true;
  for (const patch of patches) patch.install();
}
