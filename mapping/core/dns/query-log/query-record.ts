/** A sampled query as a line of the query log: JSON, addresses cut to networks. */
import { formatPrefix, type IpFamily, maskAddress } from "#kit";
import { dnsTypeLabel, rcodeText } from "../constants.ts";
import { readName } from "../name.ts";
import type { SampledQuery } from "./query-ring.ts";

/** Leading bits of an address that are kept, by family: enough to tell networks apart, too little to follow a person. */
export interface AddressCut {
  readonly ipv4: number;
  readonly ipv6: number;
}
/** RFC 7871 section 11.1 has resolvers tell no more of a client. */
export const addressCutDefault: AddressCut = { ipv4: 24, ipv6: 56 };

/** The bits of a header that a client sets, first one highest (RFC 1035 section 4.1.1, RFC 4035 section 3). */
const flagNames = [
  [0x0400, "aa"],
  [0x0200, "tc"],
  [0x0100, "rd"],
  [0x0080, "ra"],
  [0x0020, "ad"],
  [0x0010, "cd"],
] as const;

/** The network of an address, `ADDRESS/LENGTH`. */
export function cutAddress(family: IpFamily, words: ArrayLike<number>, cut: AddressCut): string {
  const prefixLength = family === 4 ? cut.ipv4 : cut.ipv6;
  const own = Array.from(words).slice(0, family === 4 ? 1 : 4);
  return formatPrefix({ address: maskAddress({ family, words: own }, prefixLength), prefixLength });
}

/** The name in lower case, as {@link readName} writes it; null when there was none. */
export function nameTextOf({ name }: SampledQuery): string | null {
  if (name === undefined) return null;
  const read = readName(name, 0);
  return read.ok ? read.name.text || "." : null;
}

/** One line without its end: JSON in ASCII. */
export function queryLine(query: SampledQuery, serverId: string, cut: AddressCut): string {
  const { clientSubnet, flags } = query;
  const record = {
    atEpochMs: query.atEpochMs,
    serverId,
    transport: query.transport,
    client: cutAddress(query.family, query.words, cut),
    port: query.port,
    name: nameTextOf(query),
    type: query.name === undefined ? null : typeText(query.type),
    class: query.name === undefined ? null : query.class,
    opcode: (flags >>> 11) & 15,
    flags: flagNames.filter(([bit]) => (flags & bit) !== 0).map(([, text]) => text),
    clientSubnet: clientSubnet === undefined ? null : subnetText(clientSubnet, cut),
    scope: clientSubnet?.scopePrefixLength ?? null,
    cookie: query.cookie,
    rcode: query.rcode < 0 ? null : rcodeText(query.rcode),
    reason: query.reason,
    cluster: query.clusterId,
    mapVersion: query.mapVersion === 0 ? null : query.mapVersion,
    latencyUs: query.latencyUs,
    queryBytes: query.queryBytes,
    answerBytes: query.answerBytes,
  };
  return JSON.stringify(record);
}

/** RFC 3597 section 5 for types without a name here. */
function typeText(type: number): string {
  const label = dnsTypeLabel(type);
  return label === "other" ? `TYPE${type}` : label;
}

function subnetText(
  { family, words, sourcePrefixLength }: NonNullable<SampledQuery["clientSubnet"]>,
  cut: AddressCut,
): string {
  if (family === 0) return "0/0";
  const own = family === 1 ? cut.ipv4 : cut.ipv6;
  const kept = Math.min(own, sourcePrefixLength);
  return cutAddress(family === 1 ? 4 : 6, words, { ipv4: kept, ipv6: kept });
}
