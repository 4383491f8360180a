/** The names of a hosts file (hosts(5)): an address and its names on each line, `#` for comments. */
import { parseAddress } from "#kit";

/** Lines that are read; a file of block lists may have more, and they name nothing that an origin would be. */
const LINES_MAX = 100_000;

/** Addresses by lower-case name, in the file's order. What is no address is passed over, as libc does. Never throws. */
export function parseHosts(text: string): ReadonlyMap<string, readonly string[]> {
  const hosts = new Map<string, string[]>();
  for (const line of text.split("\n", LINES_MAX)) {
    const [address = "", ...names] = (line.split("#", 1)[0] ?? "").trim().split(/\s+/);
    if (names.length === 0 || parseAddress(address) === undefined) continue;
    for (const name of names.map((one) => one.toLowerCase())) {
      const known = hosts.get(name);
      if (known === undefined) hosts.set(name, [address]);
      else if (!known.includes(address)) known.push(address);
    }
  }
  return hosts;
}
