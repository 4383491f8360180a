/**
 * Which addresses an origin may have. The name or address of an origin is a customer's word, and what a name resolves to
 * may change after it was looked at (DNS rebinding), so it is checked each time a connection is opened. Private addresses
 * (RFC 1918, RFC 4193) are allowed: organisations have their origins there.
 */
import {
  addressToBytes,
  type IpAddress,
  type IpPrefix,
  parseAddress,
  parsePrefix,
  prefixContains,
} from "#kit";

/** Why an address is not connected to; log word and part of the error. */
export const addressRefusals = [
  /** It is no address at all, or one with a zone. */
  "malformed",
  /** RFC 3927, RFC 4291 section 2.5.6: machine-local services, above all the metadata service of clouds. */
  "link-local",
  /** "This network" (RFC 1122 section 3.2.1.3): many systems take it for the machine itself. */
  "unspecified",
  /** Multicast, reserved, broadcast (RFC 1112, RFC 4291 section 2.7). */
  "multicast",
  /** A name that leads to this machine. Written as an address it is somebody's decision; as a name it is a trap. */
  "loopback-by-name",
  /** A server of ours that is no origin: its admin surface, or a loop. */
  "own-server",
] as const;
export type AddressRefusal = (typeof addressRefusals)[number];

const prefixes = (...texts: readonly string[]): readonly IpPrefix[] =>
  texts.map((text) => {
    const prefix = parsePrefix(text);
    if (prefix === undefined) throw new RangeError(`Not a prefix: ${text}`);
    return prefix;
  });

const LINK_LOCAL = prefixes("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128");
const UNSPECIFIED = prefixes("0.0.0.0/8", "::/128");
const MULTICAST = prefixes("224.0.0.0/4", "240.0.0.0/4", "ff00::/8");
const LOOPBACK = prefixes("127.0.0.0/8", "::1/128");
/** IPv6 forms that carry an IPv4 address in their last 32 bits: mapped (RFC 4291), compatible, NAT64 (RFC 6052). */
const CARRIERS = prefixes("::ffff:0:0/96", "::/96", "64:ff9b::/96");

/**
 * Why an origin's address may not be connected to; undefined when it may. `isNamed`: it came from resolving a name;
 * `isOwn`: address and port are those of a server of ours that is no origin.
 */
export function refusedAddress(options: {
  readonly address: string;
  readonly isNamed: boolean;
  readonly isOwn: boolean;
}): AddressRefusal | undefined {
  const parsed = parseAddress(options.address);
  if (parsed === undefined) return "malformed";
  const isIn = (set: readonly IpPrefix[], address: IpAddress): boolean =>
    set.some((prefix) => prefixContains(prefix, address));
  for (const address of [parsed, ...carried(parsed)]) {
    if (isIn(LINK_LOCAL, address)) return "link-local";
    if (isIn(LOOPBACK, address)) {
      if (options.isNamed) return "loopback-by-name";
      break;
    }
    if (isIn(UNSPECIFIED, address)) return "unspecified";
    if (isIn(MULTICAST, address)) return "multicast";
  }
  return options.isOwn ? "own-server" : undefined;
}

function carried(address: IpAddress): readonly IpAddress[] {
  if (!CARRIERS.some((prefix) => prefixContains(prefix, address))) return [];
  const [a = 0, b = 0, c = 0, d = 0] = addressToBytes(address).subarray(12);
  const inner = parseAddress(`${a}.${b}.${c}.${d}`);
  return inner === undefined ? [] : [inner];
}
