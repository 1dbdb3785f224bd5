import { describe, expect, test } from "bun:test";
import { connectionTo, errorName, sendApiVersions, unlessHanging } from "./fixtures.ts";

describe("stranded-request", () => {
  test("a request queued while its connection closes fails", async () => {
    // The window is one microtask long, so every microtask of a request's path is tried.
    for (let turns = 0; turns < 40; turns++) {
      const { connection, close } = await connectionTo({ requestTimeout: 60_000 });
      await connection.connect();
      const failed = errorName(sendApiVersions(connection)).then((name) => name !== "no error");
      // As a broken connection does.
      for (let turn = 0; turn < turns; turn++) await null;
      connection.requestQueue.rejectAll(new Error("broken"));
      void connection.disconnect();
      expect(await unlessHanging(failed), `turn ${turns}`).toBe(true);
      close();
    }
  });
});
