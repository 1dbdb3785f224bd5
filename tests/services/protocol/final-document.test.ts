import { describe, expect, test } from "bun:test";
import { finalLine, readFinal } from "../../../services/protocol/final-document.ts";

const setup = { created: ["topic conveyor.events"], changed: [], removed: [], unchanged: [], duration_ms: 7 };

describe("readFinal", () => {
  test("finds the document of its kind among log lines", () => {
    const log = `{"event":"running"}\nnot JSON\n${finalLine("setup", setup)}{"event":"stopped"}\n`;
    expect(readFinal(log, "setup")).toEqual(setup);
    expect(readFinal(log, "ingest")).toBeUndefined();
  });

  test("returns the last of several documents", () => {
    const log = finalLine("setup", { ...setup, duration_ms: 1 }) + finalLine("setup", setup);
    expect(readFinal(log, "setup")?.duration_ms).toBe(7);
  });

  test("ignores a document that was cut, and log lines with the same words", () => {
    const cut = finalLine("setup", setup).slice(0, -5);
    expect(readFinal(`{"event":"setup_done","created":[]}\n${cut}`, "setup")).toBeUndefined();
    expect(readFinal("", "setup")).toBeUndefined();
  });
});
