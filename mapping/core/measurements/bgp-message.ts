/** The parts of BGP messages that MRT records hold: prefixes, path attributes and the UPDATE message (RFC 4271 section 4.3). */
import { addressFromBytes, type IpFamily, type IpPrefix, maskAddress } from "#kit";
import { BgpRecordError } from "./bgp.ts";

/** Reads a record from its start to its end, and refuses to look behind it. */
export class ByteCursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }
  uint8(what: string): number {
    return this.#view.getUint8(this.#take(1, what));
  }
  uint16(what: string): number {
    return this.#view.getUint16(this.#take(2, what));
  }
  uint32(what: string): number {
    return this.#view.getUint32(this.#take(4, what));
  }
  /** A view, not a copy. */
  bytes(length: number, what: string): Uint8Array {
    const at = this.#take(length, what);
    return this.#bytes.subarray(at, at + length);
  }

  #take(length: number, what: string): number {
    if (length > this.left)
      throw new BgpRecordError(
        "malformed",
        `${what} needs ${length} bytes at ${this.#at}, ${this.left} are left`,
      );
    const at = this.#at;
    this.#at += length;
    return at;
  }
}

/** `<length, prefix>` of RFC 4271 section 4.3: the trailing bits are irrelevant, so they are set to zero. */
export function readPrefix(cursor: ByteCursor, family: IpFamily): IpPrefix {
  const prefixLength = cursor.uint8("the prefix length");
  if (prefixLength > (family === 4 ? 32 : 128))
    throw new BgpRecordError("malformed", `a prefix of IPv${family} with ${prefixLength} bits`);
  const bytes = cursor.bytes(Math.ceil(prefixLength / 8), "the prefix");
  return { address: maskAddress(addressFromBytes(family, bytes), prefixLength), prefixLength };
}

/** Add-path sends an identifier before each prefix (RFC 7911 section 3). */
interface Nlri {
  readonly prefix: IpPrefix;
  readonly pathId: number | null;
}

function readPrefixes(bytes: Uint8Array, family: IpFamily, hasPathId: boolean): Nlri[] {
  const cursor = new ByteCursor(bytes);
  const found: Nlri[] = [];
  while (cursor.left > 0) {
    const pathId = hasPathId ? cursor.uint32("the path identifier") : null;
    found.push({ prefix: readPrefix(cursor, family), pathId });
  }
  return found;
}

export interface PathAttributes {
  /** Undefined: the attribute is missing. */
  readonly path: { readonly asPath: readonly number[]; readonly originAs: readonly number[] } | undefined;
  /** From MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760) of unicast. */
  readonly reached: readonly Nlri[];
  readonly unreached: readonly Nlri[];
}

interface Segment {
  readonly type: number;
  readonly numbers: readonly number[];
}

const AS_SET = 1;
const AS_SEQUENCE = 2;
/** AS_CONFED_SEQUENCE 3 and AS_CONFED_SET 4 (RFC 5065 section 3) are within the peer's own AS. */
const SEGMENT_TYPE_MAX = 4;
const ATTRIBUTE = { asPath: 2, mpReach: 14, mpUnreach: 15, as4Path: 17 } as const;
const FLAG_EXTENDED_LENGTH = 0x10;

/**
 * @param options.asBytes width of the numbers in AS_PATH: 2, or 4 between speakers of RFC 6793 and always in TABLE_DUMP_V2
 * @param options.isTable in a table MP_REACH_NLRI holds the next hop alone (RFC 6396 section 4.3.4), so it is not read
 */
export function readAttributes(
  bytes: Uint8Array,
  options: { readonly asBytes: 2 | 4; readonly isTable: boolean; readonly hasPathId: boolean },
): PathAttributes {
  const cursor = new ByteCursor(bytes);
  let segments: Segment[] | undefined;
  let wide: Segment[] | undefined;
  let reached: Nlri[] = [];
  let unreached: Nlri[] = [];
  while (cursor.left > 0) {
    const flags = cursor.uint8("the attribute's flags");
    const type = cursor.uint8("the attribute's type");
    const isLong = (flags & FLAG_EXTENDED_LENGTH) !== 0;
    const length = isLong ? cursor.uint16("the attribute's length") : cursor.uint8("the attribute's length");
    const value = cursor.bytes(length, `attribute ${type}`);
    if (type === ATTRIBUTE.asPath) segments = readSegments(value, options.asBytes);
    else if (type === ATTRIBUTE.as4Path && options.asBytes === 2) wide = readSegments(value, 4);
    else if (type === ATTRIBUTE.mpReach && !options.isTable) reached = readMpReach(value, options.hasPathId);
    else if (type === ATTRIBUTE.mpUnreach && !options.isTable)
      unreached = readMpUnreach(value, options.hasPathId);
  }
  return { path: segments && pathOf(segments, wide), reached, unreached };
}

function readSegments(bytes: Uint8Array, asBytes: 2 | 4): Segment[] {
  const cursor = new ByteCursor(bytes);
  const segments: Segment[] = [];
  while (cursor.left > 0) {
    const type = cursor.uint8("the segment's type");
    if (type < AS_SET || type > SEGMENT_TYPE_MAX)
      throw new BgpRecordError("malformed", `a segment of type ${type} in an AS path`);
    const count = cursor.uint8("the segment's length");
    const numbers: number[] = [];
    for (let n = 0; n < count; n++)
      numbers.push(asBytes === 2 ? cursor.uint16("an AS number") : cursor.uint32("an AS number"));
    segments.push({ type, numbers });
  }
  return segments;
}

/** The wide path stands for the end of the narrow one, whose other numbers stay (RFC 6793 section 4.2.3). */
function pathOf(
  segments: readonly Segment[],
  wide: readonly Segment[] | undefined,
): { asPath: number[]; originAs: readonly number[] } {
  const narrow = flatten(segments);
  const longer = wide && flatten(wide);
  // A wide path that is longer than the narrow one is to be ignored.
  if (longer === undefined || longer.asPath.length > narrow.asPath.length) return narrow;
  const kept = narrow.asPath.slice(0, narrow.asPath.length - longer.asPath.length);
  return { asPath: [...kept, ...longer.asPath], originAs: longer.originAs };
}

function flatten(segments: readonly Segment[]): { asPath: number[]; originAs: readonly number[] } {
  const asPath: number[] = [];
  let originAs: readonly number[] = [];
  for (const { type, numbers } of segments) {
    if (type === AS_SEQUENCE) {
      for (const number of numbers) asPath.push(number);
      if (numbers.length > 0) originAs = numbers.slice(-1);
    } else if (type === AS_SET) originAs = numbers;
  }
  return { asPath, originAs };
}

const SAFI_UNICAST = 1;

/** RFC 4760 section 3. Empty for other families than unicast of IPv4 and IPv6. */
function readMpReach(bytes: Uint8Array, hasPathId: boolean): Nlri[] {
  const cursor = new ByteCursor(bytes);
  const family = familyOf(cursor.uint16("the address family"));
  const safi = cursor.uint8("the subsequent address family");
  cursor.bytes(cursor.uint8("the next hop's length"), "the next hop");
  cursor.uint8("the reserved byte");
  if (family === undefined || safi !== SAFI_UNICAST) return [];
  return readPrefixes(cursor.bytes(cursor.left, "the prefixes"), family, hasPathId);
}

/** RFC 4760 section 4. */
function readMpUnreach(bytes: Uint8Array, hasPathId: boolean): Nlri[] {
  const cursor = new ByteCursor(bytes);
  const family = familyOf(cursor.uint16("the address family"));
  const safi = cursor.uint8("the subsequent address family");
  if (family === undefined || safi !== SAFI_UNICAST) return [];
  return readPrefixes(cursor.bytes(cursor.left, "the prefixes"), family, hasPathId);
}

/** By the number of IANA's "Address Family Numbers"; undefined for any but IP. */
export function familyOf(afi: number): IpFamily | undefined {
  return afi === 1 ? 4 : afi === 2 ? 6 : undefined;
}

export interface BgpUpdate extends Pick<PathAttributes, "path"> {
  readonly announced: readonly Nlri[];
  readonly withdrawn: readonly Nlri[];
}

const MESSAGE_UPDATE = 2;
const MARKER_BYTES = 16;
const MESSAGE_HEADER_BYTES = 19;

/** A whole BGP message with its header (RFC 4271 section 4.1). Throws BgpRecordError `other-type` for all but UPDATE. */
export function readUpdate(cursor: ByteCursor, asBytes: 2 | 4, hasPathId: boolean): BgpUpdate {
  cursor.bytes(MARKER_BYTES, "the marker");
  const length = cursor.uint16("the message's length");
  const type = cursor.uint8("the message's type");
  if (length < MESSAGE_HEADER_BYTES)
    throw new BgpRecordError("malformed", `a BGP message of ${length} bytes, which is less than its header`);
  if (type !== MESSAGE_UPDATE) throw new BgpRecordError("other-type", `a BGP message of type ${type}`);
  const body = new ByteCursor(cursor.bytes(length - MESSAGE_HEADER_BYTES, "the message"));
  const withdrawn = body.bytes(body.uint16("the length of what is withdrawn"), "what is withdrawn");
  const attributeBytes = body.bytes(body.uint16("the attributes' length"), "the attributes");
  const announced = body.bytes(body.left, "what is announced");
  const { path, reached, unreached } = readAttributes(attributeBytes, { asBytes, isTable: false, hasPathId });
  return {
    path,
    announced: [...readPrefixes(announced, 4, hasPathId), ...reached],
    withdrawn: [...readPrefixes(withdrawn, 4, hasPathId), ...unreached],
  };
}
