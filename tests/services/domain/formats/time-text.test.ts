import { describe, expect, test } from "bun:test";
import { timeReader, WallClock } from "../../../../services/domain/formats/time-text.ts";

const read = (text: string, format?: string, zone?: string) => timeReader(format, zone, text).read(text);
const iso = (text: string, format?: string, zone?: string) => {
  const found = read(text, format, zone);
  return found && new Date(Number(found.time)).toISOString();
};

describe("times since 1970", () => {
  test.each<[string, string | undefined, unknown]>([
    ["1764489600", undefined, { time: 1764489600000, precision: "ms" }],
    ["1764489600.25", undefined, { time: 1764489600250, precision: "ms" }],
    ["1764489600.2500001", undefined, { time: "1764489600250000100", precision: "ns" }],
    ["1764489600123", undefined, { time: 1764489600123, precision: "ms" }],
    ["1764489600123.0", "ms", { time: 1764489600123, precision: "ms" }],
    ["1764489600123456", undefined, { time: 1764489600123456, precision: "us" }],
    ["1764489600123456789", undefined, { time: "1764489600123456789", precision: "ns" }],
    ["1764489600000000000", "ns", { time: 1764489600000, precision: "ms" }],
    ["0", "s", { time: 0, precision: "ms" }],
    ["1.76E+09", "s", undefined],
    ["-5", "s", undefined],
    ["", "ms", undefined],
  ])("%s as %s", (text, format, expected) => expect(read(text, format)).toEqual(expected as never));
});

describe("dates", () => {
  test.each<[string, string | undefined, string | undefined, string | undefined]>([
    ["2026-03-01T10:34:32Z", undefined, undefined, "2026-03-01T10:34:32.000Z"],
    ["2026-03-01 10:34:32.5+02:00", undefined, undefined, "2026-03-01T08:34:32.500Z"],
    ["2026-03-01T10:34:32-0330", undefined, undefined, "2026-03-01T14:04:32.000Z"],
    ["2026-03-01 10:34:32", undefined, "UTC", "2026-03-01T10:34:32.000Z"],
    ["2026-03-01 10:34:32,250", undefined, "Europe/Berlin", "2026-03-01T09:34:32.250Z"],
    ["2026-07-01T10:34", undefined, "Europe/Berlin", "2026-07-01T08:34:00.000Z"],
    ["2026-07-01 10:34:00", undefined, "Asia/Kolkata", "2026-07-01T05:04:00.000Z"],
    ["1.3.2026 09:05", "DD.MM.YYYY HH:mm", "Europe/Berlin", "2026-03-01T08:05:00.000Z"],
    ["3/1/2026 12:05:01 AM", "MM/DD/YYYY hh:mm:ss A", "America/New_York", "2026-03-01T05:05:01.000Z"],
    ["3/1/2026 12:05:01 p.m.", "MM/DD/YYYY hh:mm:ss A", "UTC", "2026-03-01T12:05:01.000Z"],
    ["2026-02-29 00:00:00", "YYYY-MM-DD HH:mm:ss", "UTC", undefined],
    ["2026-02-28 24:00:00", "YYYY-MM-DD HH:mm:ss", "UTC", undefined],
    ["2026-02-28T10:00:60Z", "rfc3339", undefined, undefined],
    ["13/1/2026 13:05:01 AM", "MM/DD/YYYY hh:mm:ss A", "UTC", undefined],
  ])("%s (%s, %s)", (text, format, zone, expected) => expect(iso(text, format, zone)).toBe(expected));

  test("digits below the millisecond stay", () => {
    expect(read("2026-03-01T10:34:32.000001Z")).toEqual({ time: 1772361272000001, precision: "us" });
    expect(read("2026-03-01T10:34:32.123456789Z")).toEqual({ time: "1772361272123456789", precision: "ns" });
  });
});

describe("daylight saving", () => {
  const BERLIN = "Europe/Berlin";
  const instants = (texts: string[], zone = BERLIN) => {
    const { read, clock } = timeReader("YYYY-MM-DD HH:mm:ss", zone, texts[0]!);
    const times = texts.map((text) => {
      const found = read(text);
      return found && new Date(Number(found.time)).toISOString().slice(11, 16);
    });
    return { times, ambiguous: clock!.ambiguous };
  };

  test("an hour that the clock skips has no time", () => {
    const texts = ["2026-03-29 01:59:59", "2026-03-29 02:00:00", "2026-03-29 02:59:59", "2026-03-29 03:00:00"];
    expect(instants(texts).times).toEqual(["00:59", undefined, undefined, "01:00"]);
  });

  test("an hour that the clock shows twice follows the rows before it, in either order", () => {
    const wall = ["01:50:00", "02:10:00", "02:50:00", "02:10:00", "02:50:00", "03:10:00", "03:50:00"].map(
      (time) => `2026-10-25 ${time}`,
    );
    const times = ["23:50", "00:10", "00:50", "01:10", "01:50", "02:10", "02:50"];
    expect(instants(wall)).toEqual({ times, ambiguous: 4 });
    expect(instants(wall.toReversed()).times).toEqual(times.toReversed());
  });

  test("each series follows its own rows", () => {
    const { read } = timeReader("YYYY-MM-DD HH:mm:ss", BERLIN, "2026-10-25 02:30:00");
    const hours = ["a", "b", "a", "b"].map((series) => {
      const { time } = read("2026-10-25 02:30:00", series)!;
      return new Date(Number(time)).getUTCHours();
    });
    expect(hours).toEqual([0, 0, 1, 1]);
  });

  test("rows out of order by some seconds stay in their hour", () => {
    const wall = ["02:10:05", "02:10:04", "02:10:06"].map((time) => `2026-10-25 ${time}`);
    expect(instants(wall).times).toEqual(["00:10", "00:10", "00:10"]);
  });

  test("without a row before it, the first of the two", () => {
    expect(instants(["2026-10-25 02:30:00"]).times).toEqual(["00:30"]);
  });

  test("a change of half an hour", () => {
    // Lord Howe: at 02:00 the clock goes back to 01:30.
    expect(
      instants(["2026-04-05 01:29:00", "2026-04-05 01:45:00", "2026-04-05 01:35:00"], "Australia/Lord_Howe").times,
    ).toEqual(["14:29", "14:45", "15:05"]);
  });

  test("every half hour of the months with changes is read as its zone shows it", () => {
    for (const zone of [BERLIN, "America/St_Johns", "Australia/Lord_Howe"]) {
      const clock = new WallClock(zone);
      const format = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "medium" });
      const days = [Date.UTC(2026, 2, 1), Date.UTC(2026, 3, 1), Date.UTC(2026, 9, 1), Date.UTC(2026, 10, 1)];
      for (const ms of days.flatMap((day) => Array.from({ length: 31 * 48 }, (_, index) => day + index * 1_800_000))) {
        const wallMs = Date.parse(`${format.format(ms).replace(" ", "T")}Z`);
        expect(clock.instantMs(wallMs), `${zone} ${new Date(ms).toISOString()}`).toBe(ms);
      }
    }
  });
});

describe("what is not certain has to be given", () => {
  test.each<[string, string | undefined, string | undefined, string]>([
    ["03/04/2026", undefined, undefined, "its format is not recognised"],
    ["12345", undefined, undefined, "its format is not recognised"],
    ["2026-03-01 10:34:32", undefined, undefined, "it has no time zone"],
    ["2026-03-01 10:34:32", undefined, "Mars/Olympus", "time zone: must be a name of the IANA"],
    ["x", "unix", undefined, "time format: must be s, ms"],
    ["x", "YYYY-MM-DD YYYY", "UTC", "time format: must be s, ms"],
  ])("%s (%s, %s)", (text, format, zone, error) => expect(() => read(text, format, zone)).toThrow(error));
});
