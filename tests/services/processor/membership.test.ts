import { expect, test } from "bun:test";
import type { Consumer } from "kafkajs";
import { GROUP_SILENCE_MS, watchMembership } from "../../../services/processor/membership.ts";

/** Readiness of a consumer whose events the test sends. */
function membership() {
  const listeners = new Map<string, () => void>();
  const consumer = {
    events: { GROUP_JOIN: "join", HEARTBEAT: "heartbeat", CRASH: "crash" },
    on: (event: string, listener: () => void) => void listeners.set(event, listener),
  } as unknown as Consumer;
  let nowMs = 1_000_000;
  const isMember = watchMembership(consumer, () => nowMs);
  return {
    isMember,
    send: (event: "join" | "heartbeat" | "crash") => listeners.get(event)!(),
    wait: (ms: number) => {
      nowMs += ms;
    },
  };
}

test("a processor is no member before its first join, whatever it hears", () => {
  const { isMember, send } = membership();
  expect(isMember()).toBe(false);
  send("heartbeat");
  expect(isMember()).toBe(false);
  send("join");
  expect(isMember()).toBe(true);
});

test("it stops to be one after 30 s without a heartbeat or join, and is one again with the next", () => {
  expect(GROUP_SILENCE_MS).toBe(30_000);
  for (const confirmation of ["heartbeat", "join"] as const) {
    const { isMember, send, wait } = membership();
    send("join");
    wait(GROUP_SILENCE_MS - 1);
    send(confirmation);
    wait(GROUP_SILENCE_MS - 1);
    expect(isMember()).toBe(true);
    wait(1);
    expect(isMember()).toBe(false);
    send(confirmation);
    expect(isMember()).toBe(true);
  }
});

test("a crashed consumer is no member until it joins again", () => {
  const { isMember, send } = membership();
  send("join");
  send("crash");
  send("heartbeat");
  expect(isMember()).toBe(false);
  send("join");
  expect(isMember()).toBe(true);
});
