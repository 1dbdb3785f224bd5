import { describe, expect, test } from "bun:test";
import {
  addressAt,
  chooseSubnets,
  clash,
  overlaps,
  parseRange,
  takenFromMachine,
} from "../../../scripts/local-cluster/subnets.ts";

const taken = (...ranges: string[]) => ranges.map((range) => ({ range, by: `route ${range}` }));

describe("address ranges", () => {
  test("parsing clears the host bits; an invalid range is refused with its value", () => {
    expect(parseRange("192.0.2.77/24")).toEqual({ base: 3221225984, prefix: 24 });
    expect(parseRange("10.0.0.1")).toEqual({ base: 167772161, prefix: 32 });
    for (const text of ["10.0.0", "10.0.0.256/8", "10.0.0.0/33", "fd00::/64", ""]) {
      expect(() => parseRange(text)).toThrow(`got "${text}"`);
    }
  });

  test("ranges overlap when one contains the other, in either order, and not when they are adjacent", () => {
    const [wide, inside, next] = ["10.0.0.0/8", "10.9.0.0/16", "11.0.0.0/16"].map(parseRange);
    expect(overlaps(wide!, inside!)).toBe(true);
    expect(overlaps(inside!, wide!)).toBe(true);
    expect(overlaps(wide!, next!)).toBe(false);
    expect(overlaps(parseRange("0.0.0.0/0"), next!)).toBe(true);
  });

  test("addressAt counts from the start of the range and refuses a position outside", () => {
    expect(addressAt("10.96.0.0/16", 10)).toBe("10.96.0.10");
    expect(addressAt("198.19.8.0/24", 255)).toBe("198.19.8.255");
    expect(() => addressAt("198.19.8.0/24", 256)).toThrow("got 256");
  });

  test("an unused machine gets the customary ranges", () => {
    expect(chooseSubnets([])).toEqual({ nodes: "198.19.0.0/24", pods: "10.244.0.0/16", services: "10.96.0.0/16" });
  });

  test("chosen ranges overlap neither ranges in use nor each other", () => {
    const machine = taken("198.19.0.0/16", "10.96.0.0/12", "10.244.0.0/16", "10.213.0.0/24");
    const chosen = chooseSubnets(machine);
    for (const range of Object.values(chosen)) expect(clash(range, machine)).toBeUndefined();
    const [nodes, pods, services] = Object.values(chosen).map((range) => parseRange(range as string));
    expect(overlaps(nodes!, pods!) || overlaps(nodes!, services!) || overlaps(pods!, services!)).toBe(false);
  });

  test("the error names the kind when all private ranges are routed", () => {
    expect(() => chooseSubnets(taken("10.0.0.0/8"))).toThrow("no free address range for pods");
  });

  test("routes, gateway, addresses and name servers are in use; the default route and the cluster's link are not", () => {
    const ranges = takenFromMachine(
      [
        { dst: "default", gateway: "192.0.2.1", dev: "eth0" },
        { dst: "10.8.0.0/16", dev: "vpn0" },
        { dst: "198.19.0.0/24", dev: "conveyor0" },
        { dst: "local ::1", dev: "lo" },
      ],
      [
        { ifname: "eth0", addr_info: [{ family: "inet", local: "192.0.2.2", prefixlen: 24 }] },
        { ifname: "conveyor0", addr_info: [{ family: "inet", local: "198.19.0.1", prefixlen: 24 }] },
      ],
      ["10.99.0.53", "fd00::53"],
      "conveyor0",
    ).map(({ range }) => range);
    expect(ranges).toEqual(["192.0.2.1", "10.8.0.0/16", "192.0.2.2/24", "10.99.0.53"]);
    const chosen = chooseSubnets(ranges.map((range) => ({ range, by: "machine" })));
    expect(chosen).toEqual({ nodes: "198.19.0.0/24", pods: "10.244.0.0/16", services: "10.96.0.0/16" });
  });
});
