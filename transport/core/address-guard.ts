/**
 * Which addresses an origin may have. The name or address of an origin is a customer's word, and what a name resolves to
 * may change after it was looked at (DNS rebinding), so it is checked each time a connection is opened. Private addresses are
 * for who runs the CDN to allow: in the topology, or by having servers of its own there.
 */
import {
  addressToBytes,
  type IpAddress,
  type IpPrefix,
  parseAddress,
  parsePrefix,
  prefixContains,
  type TopologyDocument,
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
  /** A network that nobody routes between strangers, which the topology does not allow. */
  "private",
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
/** By kind: RFC 1918, RFC 6598, RFC 4193, loopback, and what is for documents and measurements within one network (RFC 2544). */
const PRIVATE_KINDS: readonly (readonly IpPrefix[])[] = [
  prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
  prefixes("100.64.0.0/10"),
  prefixes("fc00::/7"),
  LOOPBACK,
  prefixes("198.18.0.0/15", "192.0.0.0/24"),
];
const PRIVATE = PRIVATE_KINDS.flat();
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
  /** It is an origin of the topology: its operator's word. */
  readonly isOperators: boolean;
  /** Private networks that origins may be in; see {@link privateOriginsOf}. */
  readonly privateAllowed: readonly IpPrefix[];
}): AddressRefusal | undefined {
  const { isNamed, isOwn, isOperators, privateAllowed } = options;
  const parsed = parseAddress(options.address);
  if (parsed === undefined) return "malformed";
  for (const address of [parsed, ...carried(parsed)]) {
    if (isIn(LINK_LOCAL, address)) return "link-local";
    // "::1" is within the compatible form's prefix, and "0.0.0.1" is no address that it would carry.
    if (isIn(LOOPBACK, address)) {
      if (isNamed) return "loopback-by-name";
      if (!isOperators && !isIn(privateAllowed, address)) return "private";
      break;
    }
    if (isIn(UNSPECIFIED, address)) return "unspecified";
    if (isIn(MULTICAST, address)) return "multicast";
    if (isIn(PRIVATE, address) && !isOperators && !isIn(privateAllowed, address)) return "private";
  }
  return isOwn ? "own-server" : undefined;
}

/** The private networks in which customers may have origins, by a topology (its field `privateOrigins`). */
export function privateOriginsOf({
  privateOrigins,
  clusters,
}: Pick<TopologyDocument, "privateOrigins" | "clusters">): readonly IpPrefix[] {
  if (privateOrigins !== undefined) return prefixes(...privateOrigins);
  const own = clusters
    .filter(({ role }) => role !== "origin")
    .flatMap(({ servers }) => servers.flatMap(({ address }) => parseAddress(address) ?? []));
  return PRIVATE_KINDS.filter((kind) => own.some((address) => isIn(kind, address))).flat();
}

function isIn(set: readonly IpPrefix[], address: IpAddress): boolean {
  return set.some((prefix) => prefixContains(prefix, address));
}

function carried(address: IpAddress): readonly IpAddress[] {
  if (!CARRIERS.some((prefix) => prefixContains(prefix, address))) return [];
  const [a = 0, b = 0, c = 0, d = 0] = addressToBytes(address).subarray(12);
  const inner = parseAddress(`${a}.${b}.${c}.${d}`);
  return inner === undefined ? [] : [inner];
}
