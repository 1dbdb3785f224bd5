/**
 * Known defects of kafkajs 2.2.4, mended at start-up in one place; each has a test that fails without its mend.
 *
 * | id | upstream | defect | mend |
 * |---|---|---|---|
 * | idle-timer | tulios/kafkajs 1556, 1704 | every connection re-arms a 1 ms timer for ever: 3.7 % of a core idle | arm it only while requests wait |
 * | timeout-check | – | ten look-ups a second per connection for timed-out requests | one a second |
 * | silent-leader | – | a request that timed out leaves its connection in use: a frozen or unreachable broker is asked again and again while its partitions have long had a new leader | close the connection, as the Java client does; kafkajs then refreshes its metadata |
 * | connect-hangs | – | a server that closes during the TLS handshake (a broker that is stopping) leaves connect() pending for ever; two requests that find a connection closed open two sockets and write to the one that is not ready | one attempt at a time per connection, which always ends |
 * | dead-broker-stops-all | – | one broker that cannot be reached ends the fetching from all brokers, over and over until it is back | the fetch from that broker comes back empty after a look at the metadata; the others go on |
 * | slow-decode | tulios/kafkajs 1576 | reading a record costs two decoders and two big integers | fetch-decoder.ts reads an answer in one pass |
 * | lost-coordinator | – | with retries that never end, heartbeats and commits go to a dead coordinator until it comes back, or make the whole member stop and join anew | the member goes on reading and looks for the new coordinator meanwhile, as the Java client does; a commit that is not answered soon makes it look whether the coordinator is still there |
 * | leader-moved-rejoins | – | a partition whose leader moved makes the member join its group anew: everybody stops, and once more for each fetch that learns of it | look at the metadata and fetch from the new leader, as the Java client does |
 * | forgotten-member-id | – | the id that the coordinator gives before a join is forgotten when that join fails; the next one asks for another, and the group waits a session for a member that nobody is | keep the id, as the Java client does |
 * | stays-when-joining | – | a member that is told to stop while it joins goes without leaving: the group waits a session, or the end of its join, for a member that nobody is | it leaves, and joins no more |
 * | stranded-request | – | a request that is queued while its connection closes stays there: its time-out check is gone, and the next disconnect() waits for it for ever | the connection takes it along when it has closed |
 * | silent-adviser | – | who leads, and who coordinates, is asked of any broker: also of one that is frozen, until the time-out, and everybody else who asks waits for the same answer | those are asked first that let nobody wait, and a second one when the first does not answer (metadata-mends.ts) |
 * | stale-leader | – | whoever is asked for the leaders is believed: a broker that is cut off from the others names itself, and is sent batches that it can never acknowledge | the newest leader counts, by its epoch, as for the Java client (metadata-mends.ts) |
 * | gone-broker | – | a refresh of the metadata first waits until a broker that is gone has answered, or not answered, its last requests: all that need the new leaders wait for the dead one | its connections end at once (metadata-mends.ts) |
 * | retry defaults | – | a consumer crashes after 5 retries; connecting times out after 1 s | CLIENT_TIMEOUTS and RETRY_FOREVER in kafka.ts |
 * | grouping | tulios/kafkajs 1576 | sorting messages by partition is O(n²) | the event producer sorts on its own |
 * | partial send | – | send() reports success for messages never sent when leadership moves between its retries | the event producer sends and retries per partition (event-producer.ts) |
 */
import Broker from "kafkajs/src/broker/index.js";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import Runner from "kafkajs/src/consumer/runner.js";
import errors from "kafkajs/src/errors.js";
import Connection from "kafkajs/src/network/connection.js";
import RequestQueue from "kafkajs/src/network/requestQueue/index.js";
import protocol from "kafkajs/src/protocol/requests/index.js";
import { installFetchDecoder } from "../fetch-decoder.ts";
import { breakOff, installMetadataPatches, refreshWhileWaiting } from "./metadata-patches.ts";

/** Requests have limits of seconds; a second of precision is enough and costs a tenth of kafkajs' look-ups. */
export const TIMEOUT_CHECK_MS = 1000;
/** kafkajs' own interval while requests wait for a free slot. */
const PENDING_CHECK_MS = 10;

/** Before a broker that cannot be reached is asked again: brief beside its restart, long beside a busy loop. */
const UNREACHABLE_PAUSE_MS = 250;
/** Before a partition without a leader is asked for again: an election takes milliseconds once it has begun. */
const LEADER_PAUSE_MS = 100;
/** kafkajs' own limit comes first; this one catches the attempts that it forgets. */
const CONNECT_GRACE_MS = 500;

/** Errors that say nothing about the group, only that its coordinator cannot be talked to. */
const CONNECTION_ERRORS = new Set([
  "KafkaJSConnectionError",
  "KafkaJSConnectionClosedError",
  "KafkaJSRequestTimeoutError",
  "KafkaJSBrokerNotFound",
  "KafkaJSLockTimeout",
]);

/** The broker says that it is not, or not yet, the group's coordinator. */
const COORDINATOR_MOVED = new Set([
  "NOT_COORDINATOR_FOR_GROUP",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "GROUP_LOAD_IN_PROGRESS",
]);
/** Between two questions for the coordinator; each is one small request. */
const LOOK_PAUSE_MS = 100;
/** Far longer than it takes to elect one; the question is asked again by the next heartbeat. */
const LOOK_LIMIT_MS = 30_000;
/** Another broker leads; nothing changed about who reads the partition. */
const LEADER_MOVED = new Set([
  "LEADER_NOT_AVAILABLE",
  "NOT_LEADER_FOR_PARTITION",
  "FENCED_LEADER_EPOCH",
  "UNKNOWN_LEADER_EPOCH",
]);
const JOIN_GROUP_API_KEY = 11;
/** The coordinator answers within milliseconds when it is there; when it is not, an end in order must not wait for it. */
const LEAVE_LIMIT_MS = 2000;

let mended = false;

/** Applies the mends to the library, once per process; call it before the first client is made. */
export function installKafkajsPatches(): void {
  if (mended) return;
  mended = true;
  mendIdleTimer();
  mendTimeoutCheck();
  mendSilentLeader();
  mendConnectHangs();
  mendDeadBrokerStopsAll();
  mendLostCoordinator();
  mendLeaderMovedRejoins();
  mendJoin();
  mendStaysWhenJoining();
  mendStrandedRequest();
  installMetadataPatches(closedError);
  installFetchDecoder();
}

function mendIdleTimer(): void {
  RequestQueue.prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
    // Nothing waits: the next push arms the timer again if it has to wait.
    if (this.throttleCheckTimeoutId || this.pending.length === 0) return;
    const throttledMs = this.throttledUntil - Date.now();
    this.throttleCheckTimeoutId = setTimeout(
      () => {
        this.throttleCheckTimeoutId = null;
        this.checkPendingRequests();
      },
      throttledMs > 0 ? throttledMs : PENDING_CHECK_MS,
    );
  };
}

function mendTimeoutCheck(): void {
  RequestQueue.prototype.scheduleRequestTimeoutCheck = function (this: RequestQueue) {
    if (!this.enforceRequestTimeout) return;
    this.destroy();
    this.requestTimeoutIntervalId = setInterval(
      () => {
        const now = Date.now();
        for (const request of this.inflight.values()) {
          if (now - request.sentAt > request.requestTimeout) request.timeoutRequest();
        }
        if (!this.isConnected()) this.destroy();
      },
      Math.min(this.requestTimeout, TIMEOUT_CHECK_MS),
    );
  };
}

function mendSilentLeader(): void {
  const send = Connection.prototype.send;
  Connection.prototype.send = async function (this: Connection, call) {
    try {
      return await send.call(this, call);
    } catch (error) {
      if (!(error instanceof Error) || error.name !== "KafkaJSRequestTimeoutError") throw error;
      const closed = closedError(`Closed after a timeout: ${error.message}`, this);
      // Whatever else waits on this connection would wait for the same silent broker.
      breakOff(this, closed);
      throw closed;
    }
  };
}

function mendConnectHangs(): void {
  const attempts = new WeakMap<Connection, Promise<boolean>>();
  const { connect } = Connection.prototype;
  Connection.prototype.connect = function (this: Connection) {
    if (this.isConnected()) return Promise.resolve(true);
    let attempt = attempts.get(this);
    if (attempt === undefined) {
      attempt = new Promise<boolean>((resolve, reject) => {
        const fail = (message: string) =>
          reject(new errors.KafkaJSConnectionError(message, { broker: `${this.host}:${this.port}` }));
        const timer = setTimeout(() => {
          this.socket?.destroy();
          fail("Connection timeout");
        }, this.connectionTimeout + CONNECT_GRACE_MS);
        connect
          .call(this)
          .then(resolve, reject)
          .finally(() => clearTimeout(timer));
        // Without effect once connect() has settled.
        this.socket?.once("close", () => fail("Closed during the handshake"));
      }).finally(() => attempts.delete(this));
      attempts.set(this, attempt);
    }
    return attempt;
  };
  // kafkajs closes a connection again and again while its broker is away, each time on the last socket, which collects
  // listeners until the runtime warns of a leak; and a socket that is still connecting would go on doing so.
  const { disconnect } = Connection.prototype;
  Connection.prototype.disconnect = async function (this: Connection) {
    const { socket } = this;
    const done = await disconnect.call(this);
    if (socket?.connecting) socket.destroy();
    if (this.socket === socket) this.socket = undefined;
    return done;
  };
}

function mendDeadBrokerStopsAll(): void {
  const { recoverFromFetch } = ConsumerGroup.prototype;
  ConsumerGroup.prototype.recoverFromFetch = async function (this: ConsumerGroup, error) {
    try {
      await recoverFromFetch.call(this, error);
    } catch (failure) {
      if (!(failure instanceof Error) || !CONNECTION_ERRORS.has(failure.name)) throw failure;
      await this.cluster.refreshMetadata().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, UNREACHABLE_PAUSE_MS));
    }
  };
}

function mendLostCoordinator(): void {
  const { heartbeat, commitOffsets, commitOffsetsIfNecessary } = ConsumerGroup.prototype;
  ConsumerGroup.prototype.heartbeat = async function (this: ConsumerGroup, options) {
    await withCoordinator(this, () => heartbeat.call(this, options));
  };
  ConsumerGroup.prototype.commitOffsets = async function (this: ConsumerGroup, offsets) {
    await withCoordinator(this, () => commitOffsets.call(this, offsets));
  };
  ConsumerGroup.prototype.commitOffsetsIfNecessary = async function (this: ConsumerGroup) {
    await withCoordinator(this, () => commitOffsetsIfNecessary.call(this));
  };
}

/** Groups whose coordinator is being looked for. */
const looking = new WeakSet<ConsumerGroup>();

/**
 * What is said to the coordinator, when there is one. Without it the member goes on: nobody can take its partitions
 * away meanwhile, offsets stay resolved and are committed with the next commit, and the new coordinator knows the
 * member from the group's log.
 */
async function withCoordinator(group: ConsumerGroup, say: () => Promise<void>): Promise<void> {
  if (looking.has(group)) return;
  try {
    await refreshWhileWaiting(say(), () => group.cluster.refreshMetadata());
  } catch (error) {
    const { name, type } = error as { name?: string; type?: string };
    if (!CONNECTION_ERRORS.has(name ?? "") && !COORDINATOR_MOVED.has(type ?? "")) throw error;
    looking.add(group);
    void lookForCoordinator(group).finally(() => looking.delete(group));
  }
}

/** Ends with a coordinator that can be reached, or after a while without: the next heartbeat begins again. */
async function lookForCoordinator(group: ConsumerGroup): Promise<void> {
  const limit = performance.now() + LOOK_LIMIT_MS;
  do {
    await new Promise((resolve) => setTimeout(resolve, LOOK_PAUSE_MS));
    try {
      const coordinator = await group.cluster.findGroupCoordinator({ groupId: group.groupId });
      group.coordinator = coordinator;
      if (group.offsetManager) group.offsetManager.coordinator = coordinator;
      return;
    } catch {
      // Named and not reachable, or not elected yet.
    }
  } while (performance.now() < limit);
}

function mendLeaderMovedRejoins(): void {
  const { recoverFromFetch } = ConsumerGroup.prototype;
  ConsumerGroup.prototype.recoverFromFetch = async function (this: ConsumerGroup, error) {
    if (!LEADER_MOVED.has((error as { type?: string }).type ?? "")) return await recoverFromFetch.call(this, error);
    await this.cluster.refreshMetadata().catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, LEADER_PAUSE_MS));
  };
}

/** Groups that join at this moment, and those that shall not join any more. */
const joining = new WeakSet<ConsumerGroup>();
const stopping = new WeakSet<ConsumerGroup>();
/** Settled, never rejected, when the coordinator has named the member or has failed to. */
const named = new WeakMap<ConsumerGroup, Promise<unknown>>();

/** forgotten-member-id, and the join's half of stays-when-joining. */
function mendJoin(): void {
  // kafkajs' own asks again within joinGroup(), where the group cannot see the id.
  Broker.prototype.joinGroup = async function (this: Broker, options) {
    const joinGroup = this.lookupRequest(JOIN_GROUP_API_KEY, protocol.requests.JoinGroup);
    try {
      return await this.connectionPool.send(joinGroup({ protocolType: "consumer", ...options }));
    } catch (error) {
      if (error instanceof Error && error.name === "KafkaJSConnectionClosedError") await this.disconnect();
      throw error;
    }
  };
  const prototype = ConsumerGroup.prototype as unknown as Record<symbol, (this: ConsumerGroup) => Promise<void>>;
  const join = Object.getOwnPropertySymbols(prototype).find(({ description }) => description?.endsWith(":join"))!;
  const original = prototype[join]!;
  /** Gives whether it is in; false when the coordinator has only named it so far (KIP-394). */
  const ask = async (group: ConsumerGroup): Promise<boolean> => {
    if (stopping.has(group)) throw new errors.KafkaJSNonRetriableError("The consumer stops: it joins no more");
    try {
      await original.call(group);
      return true;
    } catch (error) {
      if (!(error instanceof Error) || error.name !== "KafkaJSMemberIdRequired") throw error;
      group.memberId = (error as Error & { memberId: string }).memberId;
      return false;
    }
  };
  prototype[join] = async function (this: ConsumerGroup) {
    const first = ask(this);
    // Who has a name may wait in this very request for all other members; who has none is answered at once.
    if (this.memberId === null) named.set(this, Promise.allSettled([first]));
    if (!(await first)) await ask(this);
  };
  const { joinAndSync } = ConsumerGroup.prototype;
  ConsumerGroup.prototype.joinAndSync = async function (this: ConsumerGroup) {
    joining.add(this);
    try {
      await joinAndSync.call(this);
    } finally {
      joining.delete(this);
    }
  };
}

function mendStaysWhenJoining(): void {
  const { stop } = Runner.prototype;
  Runner.prototype.stop = async function (this: Runner) {
    const group = this.consumerGroup;
    stopping.add(group);
    // A join that ends because of this is no crash.
    this.onCrash = () => {};
    if (joining.has(group)) {
      await Promise.race([
        leaveWhileJoining(group).catch(() => {}),
        new Promise((resolve) => setTimeout(resolve, LEAVE_LIMIT_MS)),
      ]);
    }
    await stop.call(this);
  };
}

async function leaveWhileJoining(group: ConsumerGroup): Promise<void> {
  await named.get(group);
  await group.leave();
}

function mendStrandedRequest(): void {
  const { disconnect } = Connection.prototype;
  Connection.prototype.disconnect = async function (this: Connection) {
    const done = await disconnect.call(this);
    if (!this.isConnected()) {
      this.requestQueue.rejectAll(closedError("Closed while the request waited", this));
    }
    return done;
  };
}

const closedError = (message: string, { host, port }: Connection): Error =>
  new errors.KafkaJSConnectionClosedError(message, { host, port });
