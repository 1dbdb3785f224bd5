import { describe, expect, test } from "bun:test";
import { connectionTo, HANGS_MS, sendApiVersions } from "./fixtures.ts";

describe("stranded-request", () => {
  test("a request queued while its connection closes fails", async () => {
    const outcomes = new Set<string>();
    // The window is one microtask long, so every microtask of a request's path is tried.
    for (let turns = 0; turns < 40; turns++) {
      const { connection, server } = await connectionTo((socket) => void socket.on("error", () => {}), {
        requestTimeout: 60_000,
      });
      await connection.connect();
      const sent = sendApiVersions(connection);
      // As a broken connection does.
      for (let turn = 0; turn < turns; turn++) await null;
      connection.requestQueue.rejectAll(new Error("broken"));
      void connection.disconnect();
      outcomes.add(
        await Promise.race([
          sent.then(
            () => "answered",
            () => "error",
          ),
          Bun.sleep(HANGS_MS).then(() => `hangs (turn ${turns})`),
        ]),
      );
      connection.socket?.destroy();
      server.close();
    }
    expect([...outcomes]).toEqual(["error"]);
  });
});
