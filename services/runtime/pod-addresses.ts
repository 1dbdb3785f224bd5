/** Addresses of the pods behind a headless Service. */
import { lookup } from "node:dns/promises";

/** An IP address as the host of a URL: an IPv6 address stands in brackets (RFC 3986, section 3.2.2). */
export const urlHost = (address: string): string => (address.includes(":") ? `[${address}]` : address);

/**
 * The addresses of a name, IPv4 and IPv6, sorted. The search list of the pod completes the name; dns.resolve would not use it.
 * @throws with the code ENOTFOUND or ENODATA where the name has no address, with another one where no name server answers
 */
export async function addressesOf(host: string): Promise<string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address).sort();
}
