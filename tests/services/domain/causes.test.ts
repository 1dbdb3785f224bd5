import { describe, expect, test } from "bun:test";
import { causesOf } from "../../../services/domain/causes.ts";

describe("causesOf", () => {
  test("returns an error and its causes, also kafkajs' originalError, outermost first", () => {
    const inner = new Error("inner");
    const middle = Object.assign(new Error("middle"), { originalError: inner });
    const outer = new Error("outer", { cause: middle });
    expect([...causesOf(outer)]).toEqual([outer, middle, inner]);
    expect([...causesOf("text")]).toEqual(["text"]);
    expect([...causesOf(undefined)]).toEqual([]);
  });

  test("ends for a circular chain", () => {
    const circular = new Error("round");
    circular.cause = circular;
    expect([...causesOf(circular)].length).toBeLessThan(10);
  });
});
