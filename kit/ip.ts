/**
 * IPv4 and IPv6 addresses and prefixes as unsigned 32-bit words in network order. Texts are parsed strictly, because
 * two parsers that disagree about "010.0.0.1" are a security hole; the printed form is canonical, so equal addresses
 * have equal texts.
 */

/** The address families by their IP version (RFC 7871, 6 uses the IANA family numbers 1 and 2 on the wire). */
export type IpFamily = 4 | 6;

/** One address. An IPv4-mapped IPv6 address (::ffff:a.b.c.d) is kept as IPv6. */
export type IpAddress = {
  readonly family: IpFamily;
  /** 1 word (IPv4) or 4 words (IPv6), each 0..2^32-1, network order. */
  readonly words: readonly number[];
};

/** All addresses whose first `prefixLength` bits are those of `address`, whose other bits are zero. */
export type IpPrefix = {
  readonly address: IpAddress;
  /** 0..32 (IPv4) or 0..128 (IPv6). */
  readonly prefixLength: number;
};

/** Longest text of an address: "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255". */
const ADDRESS_TEXT_MAX = 45;
/** "/128". */
const PREFIX_TEXT_MAX = ADDRESS_TEXT_MAX + 4;
const DECIMAL_OCTET = /^(?:0|[1-9][0-9]{0,2})$/;
const HEX_GROUP = /^[0-9a-fA-F]{1,4}$/;

/** Bits in an address of `family`: 32 or 128. */
export function addressBits(family: IpFamily): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/**
 * Parses an address: IPv4 as four decimal octets without leading zeros (RFC 6943, 3.1.1 tells why), IPv6 in any form
 * of RFC 4291, 2.2, with embedded IPv4 and without zone. Returns undefined for any other text; never throws.
 */
export function parseAddress(text: string): IpAddress | undefined {
  if (text.length > ADDRESS_TEXT_MAX) return undefined;
  if (text.includes(":")) {
    const words = parseIpv6Words(text);
    return words && { family: 6, words };
  }
  const word = parseIpv4Word(text);
  return word === undefined ? undefined : { family: 4, words: [word] };
}

function parseIpv4Word(text: string): number | undefined {
  const octets = text.split(".");
  if (octets.length !== 4) return undefined;
  let word = 0;
  for (const octet of octets) {
    if (!DECIMAL_OCTET.test(octet)) return undefined;
    const value = Number(octet);
    if (value > 255) return undefined;
    word = word * 256 + value;
  }
  return word;
}

function parseIpv6Words(text: string): number[] | undefined {
  const gap = text.indexOf("::");
  let groups: number[];
  if (gap < 0) {
    const all = parseGroups(text, true);
    if (all?.length !== 8) return undefined;
    groups = all;
  } else {
    // A second "::" (or ":::") leaves an empty group on the right and is refused there.
    const left = gap === 0 ? [] : parseGroups(text.slice(0, gap), false);
    const right = gap + 2 === text.length ? [] : parseGroups(text.slice(gap + 2), true);
    // RFC 4291, 2.2: "::" stands for one or more groups of zeros.
    if (!left || !right || left.length + right.length > 7) return undefined;
    groups = [...left, ...Array.from({ length: 8 - left.length - right.length }, () => 0), ...right];
  }
  const words: number[] = [];
  for (let index = 0; index < 8; index += 2)
    words.push((groups[index] as number) * 0x1_0000 + (groups[index + 1] as number));
  return words;
}

/** The 16-bit groups of a text without "::"; a dotted IPv4 address may stand last if `mayEndInIpv4`. */
function parseGroups(text: string, mayEndInIpv4: boolean): number[] | undefined {
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [index, part] of parts.entries()) {
    if (HEX_GROUP.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else if (mayEndInIpv4 && index === parts.length - 1) {
      const word = parseIpv4Word(part);
      if (word === undefined) return undefined;
      groups.push(word >>> 16, word & 0xffff);
    } else return undefined;
  }
  return groups;
}

/**
 * The canonical text: IPv4 dotted; IPv6 after RFC 5952: lower case, no leading zeros, the longest run of two or more
 * zero groups (the first of equals) as "::". Of section 5 only IPv4-mapped addresses are written with a dotted tail.
 */
export function formatAddress(address: IpAddress): string {
  if (address.family === 4) return formatIpv4Word(address.words[0] as number);
  const [w0, w1, w2, w3] = address.words as [number, number, number, number];
  if (w0 === 0 && w1 === 0 && w2 === 0xffff) return `::ffff:${formatIpv4Word(w3)}`;
  const groups = address.words.flatMap((word) => [word >>> 16, word & 0xffff]);
  let runStart = -1;
  let runLength = 1; // A single zero group is not shortened (RFC 5952, 4.2.2).
  for (let start = 0; start < 8; start++) {
    let end = start;
    while (end < 8 && groups[end] === 0) end++;
    if (end - start > runLength) {
      runStart = start;
      runLength = end - start;
    }
    if (end > start) start = end;
  }
  const texts = groups.map((group) => group.toString(16));
  if (runStart < 0) return texts.join(":");
  return `${texts.slice(0, runStart).join(":")}::${texts.slice(runStart + runLength).join(":")}`;
}

function formatIpv4Word(word: number): string {
  return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
}

/**
 * Parses "address/length" (RFC 4632, 3.1; RFC 4291, 2.3); a bare address is the prefix of full length. The length
 * has no leading zeros and the host bits must be zero. Returns undefined for any other text; never throws.
 */
export function parsePrefix(text: string): IpPrefix | undefined {
  if (text.length > PREFIX_TEXT_MAX) return undefined;
  const slash = text.indexOf("/");
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (!address) return undefined;
  const bits = addressBits(address.family);
  if (slash < 0) return { address, prefixLength: bits };
  const lengthText = text.slice(slash + 1);
  if (!DECIMAL_OCTET.test(lengthText)) return undefined;
  const prefixLength = Number(lengthText);
  if (prefixLength > bits) return undefined;
  if (compareAddresses(maskAddress(address, prefixLength), address) !== 0) return undefined;
  return { address, prefixLength };
}

/** "address/length" with the canonical address, also at full length. */
export function formatPrefix(prefix: IpPrefix): string {
  return `${formatAddress(prefix.address)}/${prefix.prefixLength}`;
}

/**
 * The address in `bytes`, network order. A short array is filled up with zero bytes, as the ADDRESS field of an ECS
 * option is cut to its prefix (RFC 7871, 6). Throws RangeError if there are more than 4 or 16 bytes.
 */
export function addressFromBytes(family: IpFamily, bytes: Uint8Array): IpAddress {
  const bytesMax = addressBits(family) / 8;
  if (bytes.length > bytesMax)
    throw new RangeError(`An IPv${family} address has at most ${bytesMax} bytes, got ${bytes.length}`);
  const words: number[] = [];
  for (let at = 0; at < bytesMax; at += 4)
    words.push(
      (((bytes[at] ?? 0) << 24) |
        ((bytes[at + 1] ?? 0) << 16) |
        ((bytes[at + 2] ?? 0) << 8) |
        (bytes[at + 3] ?? 0)) >>>
        0,
    );
  return { family, words };
}

/** The 4 or 16 bytes of the address, network order. */
export function addressToBytes(address: IpAddress): Uint8Array {
  const bytes = new Uint8Array(addressBits(address.family) / 8);
  let at = 0;
  for (const word of address.words) {
    bytes[at++] = word >>> 24;
    bytes[at++] = word >>> 16;
    bytes[at++] = word >>> 8;
    bytes[at++] = word;
  }
  return bytes;
}

/** The 32-bit mask of word `wordIndex` under a prefix of `prefixLength` bits, unsigned. */
function wordMask(prefixLength: number, wordIndex: number): number {
  const bits = prefixLength - wordIndex * 32;
  if (bits <= 0) return 0; // Shifting by 32 would shift by 0.
  return bits >= 32 ? 0xffff_ffff : (0xffff_ffff << (32 - bits)) >>> 0;
}

/** The address with all bits after the first `prefixLength` set to zero. Throws RangeError outside 0..32 or 0..128. */
export function maskAddress(address: IpAddress, prefixLength: number): IpAddress {
  const bits = addressBits(address.family);
  if (!Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > bits)
    throw new RangeError(
      `A prefix length of IPv${address.family} is an integer in 0..${bits}, got ${prefixLength}`,
    );
  const words = address.words.map((word, index) => (word & wordMask(prefixLength, index)) >>> 0);
  return { family: address.family, words };
}

/** Whether `address` lies in `prefix`; false if the families differ. */
export function prefixContains(prefix: IpPrefix, address: IpAddress): boolean {
  if (prefix.address.family !== address.family) return false;
  for (const [index, word] of address.words.entries()) {
    const difference = word ^ (prefix.address.words[index] as number);
    if ((difference & wordMask(prefix.prefixLength, index)) !== 0) return false;
  }
  return true;
}

/** Total order: IPv4 before IPv6, then by numeric value. Negative, 0 or positive. */
export function compareAddresses(a: IpAddress, b: IpAddress): number {
  if (a.family !== b.family) return a.family - b.family;
  for (const [index, word] of a.words.entries()) {
    const difference = word - (b.words[index] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Total order: by address, then the shorter prefix first, so a prefix comes right before what it contains. */
export function comparePrefixes(a: IpPrefix, b: IpPrefix): number {
  return compareAddresses(a.address, b.address) || a.prefixLength - b.prefixLength;
}
