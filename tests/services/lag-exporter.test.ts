/** Goal: the exporter tells a replaced leader's old end from a log that lost its tail. Method: an admin with given answers. */
import { expect, test } from "bun:test";
import type { Admin } from "kafkajs";
import { CommitBeyondEnd, createGroupReader } from "../../services/lag-exporter.ts";

const TOPIC = "conveyor.events";
let nowMs = 0;
let commit = 0;
let end = 0;
const admin = {
  fetchOffsets: async () => [{ topic: TOPIC, partitions: [{ partition: 3, offset: String(commit), metadata: null }] }],
  describeGroups: async () => ({ groups: [{ members: [{}, {}] }] }),
  fetchTopicOffsets: async () => [{ partition: 3, offset: String(end), low: "0", high: String(end) }],
} as unknown as Admin;

test("a commit beyond the end is refused while a replaced leader may answer, then all events count as lag", async () => {
  const read = createGroupReader(TOPIC, "processor", () => nowMs);
  const lagAt = async (atMs: number, committed: number, ends: number) => {
    [nowMs, commit, end] = [atMs, committed, ends];
    return (await read(admin)).partitions[0]?.lag;
  };
  expect(await lagAt(0, 90, 100)).toBe(10);
  const refused = `the commit is beyond the end of ${TOPIC} in partition 3: a replaced leader answered, or the log lost its tail`;
  await expect(lagAt(1000, 105, 100)).rejects.toThrow(new CommitBeyondEnd(refused));
  await expect(lagAt(14_000, 120, 100)).rejects.toThrow(refused);
  // The new leader answers; the next replaced leader has its whole time again.
  expect(await lagAt(15_000, 130, 130)).toBe(0);
  await expect(lagAt(40_000, 140, 130)).rejects.toThrow(refused);
  await expect(lagAt(54_999, 140, 130)).rejects.toThrow(refused);
  expect(await lagAt(55_000, 140, 130)).toBe(130);
});
