/** MRT records (RFC 6396) in bytes, for tests: what collectors write, and what they should not. */

export const u16 = (n: number): number[] => [(n >> 8) & 255, n & 255];
export const u32 = (n: number): number[] => [(n >>> 24) & 255, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];

const TIME = 1_700_000_000;

/** @param length what the header says, when that is not the truth */
export function mrtRecord(
  type: number,
  subtype: number,
  body: readonly number[],
  length = body.length,
): number[] {
  return [...u32(TIME), ...u16(type), ...u16(subtype), ...u32(length), ...body];
}

/** AS_SEQUENCE 2, AS_SET 1, AS_CONFED_SEQUENCE 3. */
export type Segments = readonly (readonly [type: number, ...numbers: number[]])[];

export function asPathAttribute(segments: Segments, asBytes: 2 | 4, type = 2): number[] {
  const value = segments.flatMap(([kind, ...numbers]) => [
    kind,
    numbers.length,
    ...numbers.flatMap(asBytes === 2 ? u16 : u32),
  ]);
  return [0x50, type, ...u16(value.length), ...value];
}

const IPV4_PEER = [0, ...u32(1), 192, 0, 2, 1, ...u16(64500)];
const IPV6_PEER = [3, ...u32(2), 0x20, 0x01, 0x0d, 0xb8, ...u32(0), ...u32(0), ...u32(1), ...u32(4200000001)];

/** Peer 0: AS 64500 at 192.0.2.1, in 2 bytes; peer 1: AS 4200000001 at 2001:db8::1. */
export const peerTable: number[] = mrtRecord(13, 1, [
  ...u32(1),
  ...u16(4),
  ...new TextEncoder().encode("view"),
  ...u16(2),
  ...IPV4_PEER,
  ...IPV6_PEER,
]);

export interface RibEntry {
  readonly peer: number;
  readonly attributes: readonly number[];
  readonly pathId?: number;
}

/** @param prefix length, then its bytes */
export function ribRecord(
  subtype: number,
  prefix: readonly number[],
  entries: readonly RibEntry[],
): number[] {
  const body = entries.flatMap(({ peer, attributes, pathId }) => [
    ...u16(peer),
    ...u32(TIME - 60),
    ...(pathId === undefined ? [] : u32(pathId)),
    ...u16(attributes.length),
    ...attributes,
  ]);
  return mrtRecord(13, subtype, [...u32(0), ...prefix, ...u16(entries.length), ...body]);
}

/** BGP4MP with an UPDATE of AS 64500 at 192.0.2.1. */
export function updateRecord(
  subtype: 1 | 4 | 9,
  parts: {
    readonly withdrawn?: readonly number[];
    readonly attributes?: readonly number[];
    readonly announced?: readonly number[];
  },
): number[] {
  const { withdrawn = [], attributes = [], announced = [] } = parts;
  const body = [
    ...u16(withdrawn.length),
    ...withdrawn,
    ...u16(attributes.length),
    ...attributes,
    ...announced,
  ];
  const as = subtype === 1 ? u16 : u32;
  return mrtRecord(16, subtype, [
    ...as(64500),
    ...as(64501),
    ...u16(0),
    ...u16(1),
    192,
    0,
    2,
    1,
    192,
    0,
    2,
    2,
    ...Array<number>(16).fill(255),
    ...u16(19 + body.length),
    2,
    ...body,
  ]);
}
