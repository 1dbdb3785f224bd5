import { describe, expect, test } from "bun:test";
import { stepClockBack } from "../../../stepped-clock.ts";
import { connectionTo, errorName, sendApiVersions, unlessHanging } from "./fixtures.ts";

describe("clock-request-timeout", () => {
  test("a request to a silent broker times out after the clock stepped back", async () => {
    const { connection, close } = await connectionTo({ requestTimeout: 300 });
    await connection.connect();
    const request = errorName(sendApiVersions(connection));
    using _ = stepClockBack();
    expect(await unlessHanging(request)).toBe("KafkaJSConnectionClosedError");
    close();
  });
});
