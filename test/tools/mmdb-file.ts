/** Writes databases in the MaxMind DB format 2.0, small ones, for tests. */
import { type IpPrefix, parsePrefix } from "#kit";

type Value = string | number | boolean | readonly Value[] | { readonly [key: string]: Value };

/** A value as encoded bytes: what `encode` makes, or what a test breaks. */
export type Encoded = readonly number[];

const control = (type: number, size: number): number[] => {
  const extended = type > 7 ? [type - 7] : [];
  const high = type > 7 ? 0 : type << 5;
  if (size < 29) return [high | size, ...extended];
  if (size < 285) return [high | 29, ...extended, size - 29];
  return [high | 30, ...extended, (size - 285) >> 8, (size - 285) & 255];
};

/** Whole numbers are uint32, others doubles. */
export function encode(value: Value): number[] {
  if (typeof value === "string") {
    const bytes = new TextEncoder().encode(value);
    return [...control(2, bytes.length), ...bytes];
  }
  if (typeof value === "boolean") return control(14, Number(value));
  if (typeof value === "number") {
    if (Number.isInteger(value) && value >= 0)
      return [...control(6, 4), value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, value);
    return [...control(3, 8), ...bytes];
  }
  if (Array.isArray(value)) return [...control(11, value.length), ...value.flatMap((one) => encode(one))];
  const entries = Object.entries(value);
  return [
    ...control(7, entries.length),
    ...entries.flatMap(([key, one]) => [...encode(key), ...encode(one)]),
  ];
}

/** A pointer of 4 bytes. */
export const pointer = (to: number): number[] => [
  0x38,
  to >>> 24,
  (to >>> 16) & 255,
  (to >>> 8) & 255,
  to & 255,
];

export interface MmdbFileOptions {
  readonly ipVersion: 4 | 6;
  readonly recordBits: 24 | 28 | 32;
  /** Disjoint prefixes and the offset of their value in `data`; IPv4 lies at ::/96 of IPv6. */
  readonly networks: readonly (readonly [prefix: string, offset: number])[];
  readonly data: Encoded;
  readonly metadata?: Readonly<Record<string, Value>>;
}

export function mmdbFile({ ipVersion, recordBits, networks, data, metadata }: MmdbFileOptions): Uint8Array {
  // A record: the number of a node, nothing, or the value at an offset.
  const nodes: [TreeRecord, TreeRecord][] = [[undefined, undefined]];
  for (const [text, offset] of networks) {
    const bits = bitsOf(parsePrefix(text) as IpPrefix, ipVersion);
    let node = 0;
    for (const [depth, bit] of bits.entries()) {
      const records = nodes[node] as [TreeRecord, TreeRecord];
      if (depth === bits.length - 1) {
        records[bit] = { offset };
        break;
      }
      let next = records[bit];
      if (typeof next !== "number") {
        next = nodes.push([undefined, undefined]) - 1;
        records[bit] = next;
      }
      node = next;
    }
  }
  const numberOf = (record: TreeRecord): number =>
    record === undefined
      ? nodes.length
      : typeof record === "number"
        ? record
        : nodes.length + 16 + record.offset;
  const tree = nodes.flatMap(([left, right]) => nodeBytes(numberOf(left), numberOf(right), recordBits));
  const marker = [0xab, 0xcd, 0xef, ...new TextEncoder().encode("MaxMind.com")];
  const meta = encode({
    binary_format_major_version: 2,
    build_epoch: 1_700_000_000,
    database_type: "Test",
    ip_version: ipVersion,
    node_count: nodes.length,
    record_size: recordBits,
    ...metadata,
  });
  return Uint8Array.from([...tree, ...Array<number>(16).fill(0), ...data, ...marker, ...meta]);
}

type TreeRecord = number | { readonly offset: number } | undefined;

function bitsOf({ address, prefixLength }: IpPrefix, ipVersion: 4 | 6): (0 | 1)[] {
  const isMapped = address.family === 4 && ipVersion === 6;
  const words = isMapped ? [0, 0, 0, ...address.words] : address.words;
  const length = prefixLength + (isMapped ? 96 : 0);
  return Array.from({ length }, (_, n) => (((words[n >>> 5] as number) >>> (31 - (n & 31))) & 1) as 0 | 1);
}

function nodeBytes(left: number, right: number, recordBits: 24 | 28 | 32): number[] {
  const low = (n: number): number[] => [(n >>> 16) & 255, (n >>> 8) & 255, n & 255];
  if (recordBits === 24) return [...low(left), ...low(right)];
  if (recordBits === 28) return [...low(left), ((left >>> 24) << 4) | (right >>> 24), ...low(right)];
  return [left >>> 24, ...low(left), right >>> 24, ...low(right)];
}
