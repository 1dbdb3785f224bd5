/**
 * Address ranges for the local cluster that do not overlap any network of this machine. Only the nodes' range has a route on
 * the machine; the ranges of pods and services exist inside the nodes' namespaces only, but an overlap there would make
 * addresses of the user's network unreachable from a node.
 */
import { readFile } from "node:fs/promises";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { must } from "../cli/process.ts";

export interface Range {
  /** First address as a number. */
  base: number;
  prefix: number;
}

export interface Subnets {
  /** The machine's end of the link, and the nodes: the only range with a route outside the cluster. */
  nodes: string;
  pods: string;
  services: string;
}

/** A range in use, and its user. */
export interface Taken {
  range: string;
  by: string;
}

/** 198.18.0.0/15 is reserved for tests between devices (RFC 2544) and used by no other network. */
const NODE_CANDIDATES = [
  ...Array.from({ length: 8 }, (_, index) => `198.19.${index * 8}.0/24`),
  ...Array.from({ length: 8 }, (_, index) => `10.213.${index * 8}.0/24`),
  ...Array.from({ length: 8 }, (_, index) => `172.29.${index * 8}.0/24`),
  ...Array.from({ length: 8 }, (_, index) => `192.168.${200 + index}.0/24`),
];
/** Kubernetes' customary ranges first. */
const POD_CANDIDATES = [244, 242, 233, 200, 180, 160, 140, 120, 60].map((second) => `10.${second}.0.0/16`);
const SERVICE_CANDIDATES = [96, 98, 111, 196, 176, 156, 136, 116, 56].map((second) => `10.${second}.0.0/16`);

/** @throws RangeError that names the rule and the value. */
export function parseRange(text: string): Range {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\/(\d{1,2}))?$/.exec(text);
  const bytes = match?.slice(1, 5).map(Number) ?? [];
  const prefix = match?.[5] === undefined ? 32 : Number(match[5]);
  if (bytes.length !== 4 || bytes.some((byte) => byte > 255) || prefix > 32) {
    throw new RangeError(`range: must be an IPv4 address with an optional prefix length; got "${text}"`);
  }
  const address = bytes.reduce((value, byte) => value * 256 + byte, 0);
  const size = 2 ** (32 - prefix);
  return { base: Math.floor(address / size) * size, prefix };
}

export function overlaps(a: Range, b: Range): boolean {
  return a.base < b.base + 2 ** (32 - b.prefix) && b.base < a.base + 2 ** (32 - a.prefix);
}

/** The address at a position of a range: addressAt("10.96.0.0/16", 10) is "10.96.0.10". */
export function addressAt(range: string, position: number): string {
  const { base, prefix } = parseRange(range);
  if (position < 0 || position >= 2 ** (32 - prefix)) {
    throw new RangeError(`address: position must be within ${range}; got ${position}`);
  }
  const value = base + position;
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join(".");
}

/** The range in use that a candidate overlaps. */
export function clash(wanted: string, taken: readonly Taken[]): Taken | undefined {
  const range = parseRange(wanted);
  return taken.find((other) => overlaps(range, parseRange(other.range)));
}

/**
 * Ranges that overlap neither a range in use nor each other.
 * @throws OperatorError (exit 3) when every candidate of a kind is in use
 */
export function chooseSubnets(taken: readonly Taken[]): Subnets {
  const chosen: Taken[] = [];
  const choose = (what: string, candidates: readonly string[]): string => {
    const free = candidates.find((candidate) => !clash(candidate, [...taken, ...chosen]));
    if (!free) {
      throw new OperatorError(`no free address range for ${what}: all of ${candidates.join(", ")} are routed here`, {
        exitCode: EXIT.precondition,
        hint: "the routes of this machine: ip route show table all",
      });
    }
    chosen.push({ range: free, by: what });
    return free;
  };
  return {
    nodes: choose("nodes", NODE_CANDIDATES),
    pods: choose("pods", POD_CANDIDATES),
    services: choose("services", SERVICE_CANDIDATES),
  };
}

interface RouteEntry {
  dst?: string;
  gateway?: string;
  dev?: string;
}
interface AddressEntry {
  ifname: string;
  addr_info?: { family: string; local: string; prefixlen: number }[];
}

/** Ranges in use, from the JSON of `ip`; the default route is not one, its gateway is. */
export function takenFromMachine(
  routes: readonly RouteEntry[],
  addresses: readonly AddressEntry[],
  nameservers: readonly string[],
  ownLink: string,
): Taken[] {
  const taken: Taken[] = [];
  const add = (range: string | undefined, by: string) => {
    if (range && /^\d+\.\d+\.\d+\.\d+(\/\d+)?$/.test(range)) taken.push({ range, by });
  };
  for (const route of routes) {
    if (route.dev === ownLink) continue;
    if (route.dst !== "default" && route.dst !== "0.0.0.0/0")
      add(route.dst, `route ${route.dst} dev ${route.dev ?? "?"}`);
    add(route.gateway, `gateway ${route.gateway}`);
  }
  for (const entry of addresses) {
    if (entry.ifname === ownLink) continue;
    for (const info of entry.addr_info ?? []) {
      if (info.family === "inet") add(`${info.local}/${info.prefixlen}`, `address of ${entry.ifname}`);
    }
  }
  for (const server of nameservers) add(server, `name server ${server}`);
  return taken;
}

/** Ranges in use on this machine: routes of all tables, addresses, gateways, name servers; those of `ownLink` do not count. */
export async function machineRanges(ownLink: string): Promise<Taken[]> {
  const [routes, addresses, resolv] = await Promise.all([
    must(["ip", "-4", "-json", "route", "show", "table", "all"]),
    must(["ip", "-4", "-json", "address", "show"]),
    readFile("/etc/resolv.conf", "utf8").catch(() => ""),
  ]);
  return takenFromMachine(
    JSON.parse(routes || "[]") as RouteEntry[],
    JSON.parse(addresses || "[]") as AddressEntry[],
    [...resolv.matchAll(/^nameserver\s+(\S+)/gm)].map((match) => match[1]!),
    ownLink,
  );
}
