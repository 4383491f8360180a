/** Addresses that somebody else may be behind: what a probe agent may be told to measure without its operator saying so. */
import { type IpAddress, parsePrefix, prefixContains } from "#kit";

/** Not globally reachable by the IANA special-purpose address registries (RFC 6890), multicast, and forms that carry an IPv4 address. */
const SPECIAL = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "::/96",
  "::ffff:0:0/96",
  "64:ff9b::/96",
  "64:ff9b:1::/48",
  "100::/64",
  "2001::/23",
  "2001:db8::/32",
  "2002::/16",
  "3fff::/20",
  "5f00::/16",
  "fc00::/7",
  "fe80::/10",
  "fec0::/10",
  "ff00::/8",
].map((text) => {
  const prefix = parsePrefix(text);
  if (prefix === undefined) throw new RangeError(`Not a prefix: ${text}`);
  return prefix;
});

export function isGlobalAddress(address: IpAddress): boolean {
  return !SPECIAL.some((prefix) => prefixContains(prefix, address));
}
