/**
 * Databases of addresses in the MaxMind DB format 2.0 (https://maxmind.github.io/MaxMind-DB/): GeoLite, DB-IP and others. Nothing is
 * copied out of the file but what a look-up asks for, and a damaged or hostile file costs a bounded time.
 */
import { type IpAddress, ParseError } from "#kit";
import { type AutonomousSystem, asNumberOf, coordinatesOf, countryOf, nameOf, type Place } from "./places.ts";

export interface MmdbMetadata {
  readonly databaseType: string;
  readonly buildEpochSeconds: number;
  readonly ipVersion: 4 | 6;
  readonly nodeCount: number;
  readonly recordBits: 24 | 28 | 32;
}

export type MmdbValue =
  | string
  | number
  | bigint
  | boolean
  | Uint8Array
  | readonly MmdbValue[]
  | { readonly [key: string]: MmdbValue };

/** What a look-up finds. */
export interface MmdbMatch {
  readonly value: MmdbValue;
  /** How many leading bits of the address have this value in common. */
  readonly prefixLength: number;
}

/** "Metadata ... is found by searching for the marker in the last 128 KiB". */
const METADATA_BYTES_MAX = 131_072;
const SEPARATOR_BYTES = 16;
/** No published database nests deeper than 6. */
const DEPTH_MAX = 32;
/** Values that one look-up decodes: a city with its names in all languages has about 100. */
const VALUES_MAX = 4_096;

/** Branches of a tree that are followed in one walk: the largest published database has some 20 million. */
const WALK_VISITS_MAX = 2 ** 27;

export class MmdbReader {
  readonly metadata: MmdbMetadata;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Of the data section, whose first byte is offset 0 of pointers and records. */
  readonly #data: Section;
  /** Where IPv4 begins in a tree of IPv6: behind 96 bits of zero. */
  readonly #ipv4Node: { readonly node: number; readonly depth: number };

  /** Keeps `file`; it must not be changed. Throws ParseError when it is no such database or is cut. */
  constructor(file: Uint8Array) {
    this.#bytes = file;
    this.#view = new DataView(file.buffer, file.byteOffset, file.byteLength);
    const metadataAt = endOfMarker(file);
    this.metadata = metadataOf(new Section(file.subarray(metadataAt)).value(0));
    const { nodeCount, recordBits, ipVersion } = this.metadata;
    const treeBytes = (nodeCount * recordBits) / 4;
    const dataAt = treeBytes + SEPARATOR_BYTES;
    if (dataAt > metadataAt - MARKER_BYTES.length)
      throw new ParseError(["node_count"], nodeCount, `a search tree that fits into ${file.length} bytes`);
    this.#data = new Section(file.subarray(dataAt, metadataAt - MARKER_BYTES.length));
    let node = 0;
    let depth = 0;
    if (ipVersion === 6)
      while (depth < 96 && node < nodeCount) {
        node = this.#record(node, 0);
        depth++;
      }
    this.#ipv4Node = { node, depth };
  }

  /** Undefined: the database says nothing of the address. Throws ParseError where the file is damaged. */
  lookup(address: IpAddress): MmdbMatch | undefined {
    const { nodeCount, ipVersion } = this.metadata;
    if (address.family === 6 && ipVersion === 4) return undefined;
    let { node } = address.family === 4 ? this.#ipv4Node : { node: 0 };
    const bits = address.words.length * 32;
    let depth = 0;
    while (depth < bits && node < nodeCount) {
      const word = address.words[depth >>> 5] as number;
      node = this.#record(node, (word >>> (31 - (depth & 31))) & 1);
      depth++;
    }
    if (node === nodeCount) return undefined;
    if (node < nodeCount)
      throw new ParseError(["tree"], depth, "an end of the search tree within the address");
    return { value: this.#data.value(node - nodeCount - SEPARATOR_BYTES), prefixLength: depth };
  }

  /**
   * Visits what the database says, ascending, down to `prefixLengthMax` bits; of what is told apart further the first address stands for all. Trees
   * of IPv6 that name IPv4 a second time (6to4) are visited once. Throws ParseError where the file is damaged.
   *
   * @param visit `record` is for {@link valueAt}; equal records are equal values
   */
  walk(
    family: 4 | 6,
    prefixLengthMax: number,
    visit: (address: IpAddress, prefixLength: number, record: number) => void,
  ): void {
    const { nodeCount, ipVersion } = this.metadata;
    if (family === 6 && ipVersion === 4) return;
    const words = family === 4 ? [0] : [0, 0, 0, 0];
    const bits = words.length * 32;
    let visits = 0;
    const enter = (from: number, depth: number): void => {
      let node = from;
      if (++visits > WALK_VISITS_MAX)
        throw new ParseError(["tree"], visits, `a search tree of at most ${WALK_VISITS_MAX} branches`);
      if (family === 6 && depth > 0 && node === this.#ipv4Node.node && node < nodeCount) return;
      if (depth === prefixLengthMax)
        for (let below = depth; node < nodeCount && below < bits; below++) node = this.#record(node, 0);
      if (node > nodeCount) visit({ family, words: words.slice() }, depth, node);
      if (node >= nodeCount || depth === prefixLengthMax) return;
      const mask = 2 ** (31 - (depth & 31));
      enter(this.#record(node, 0), depth + 1);
      (words[depth >>> 5] as number) += mask;
      enter(this.#record(node, 1), depth + 1);
      (words[depth >>> 5] as number) -= mask;
    };
    enter(family === 4 ? this.#ipv4Node.node : 0, 0);
  }

  /** The value of a record that {@link walk} has visited. Throws ParseError where the file is damaged. */
  valueAt(record: number): MmdbValue {
    return this.#data.value(record - this.metadata.nodeCount - SEPARATOR_BYTES);
  }

  /** One of the two records of a node: a node, nothing (`nodeCount`), or beyond it a value. */
  #record(node: number, side: number): number {
    const { recordBits } = this.metadata;
    const at = (node * recordBits) / 4;
    if (recordBits === 32) return this.#view.getUint32(at + side * 4);
    const byte = (offset: number): number => this.#bytes[at + offset] as number;
    if (recordBits === 24) {
      const from = side * 3;
      return (byte(from) << 16) | (byte(from + 1) << 8) | byte(from + 2);
    }
    // 28 bits: the middle byte has the highest four bits of both.
    const high = side === 0 ? byte(3) >>> 4 : byte(3) & 15;
    const from = side * 4;
    return high * 2 ** 24 + ((byte(from) << 16) | (byte(from + 1) << 8) | byte(from + 2));
  }
}

/** The bytes AB CD EF and "MaxMind.com". */
const MARKER_BYTES = Uint8Array.of(0xab, 0xcd, 0xef, ...new TextEncoder().encode("MaxMind.com"));

function endOfMarker(file: Uint8Array): number {
  const first = Math.max(0, file.length - METADATA_BYTES_MAX);
  for (let at = file.length - MARKER_BYTES.length; at >= first; at--)
    if (MARKER_BYTES.every((byte, index) => file[at + index] === byte)) return at + MARKER_BYTES.length;
  throw new ParseError([], `${file.length} bytes`, "a MaxMind DB, whose metadata has a marker");
}

function metadataOf(value: MmdbValue): MmdbMetadata {
  const of = fieldsOf(value);
  const whole = (name: string, max: number): number => {
    const found = of?.[name];
    if (typeof found !== "number" || !Number.isInteger(found) || found < 0 || found > max)
      throw new ParseError([name], found, `a whole number from 0 to ${max}`);
    return found;
  };
  const format = whole("binary_format_major_version", 65_535);
  if (format !== 2) throw new ParseError(["binary_format_major_version"], format, "2");
  const recordBits = whole("record_size", 65_535);
  if (recordBits !== 24 && recordBits !== 28 && recordBits !== 32)
    throw new ParseError(["record_size"], recordBits, "24, 28 or 32");
  const ipVersion = whole("ip_version", 65_535);
  if (ipVersion !== 4 && ipVersion !== 6) throw new ParseError(["ip_version"], ipVersion, "4 or 6");
  return {
    databaseType: nameOf(of?.["database_type"]) ?? "",
    buildEpochSeconds: whole("build_epoch", Number.MAX_SAFE_INTEGER),
    ipVersion,
    nodeCount: whole("node_count", 0xffff_ffff),
    recordBits,
  };
}

/** Types of the data section that are decoded: "Output Data Section" of the format. */
const TYPE = {
  pointer: 1,
  text: 2,
  double: 3,
  bytes: 4,
  uint16: 5,
  uint32: 6,
  map: 7,
  int32: 8,
  uint64: 9,
  uint128: 10,
  array: 11,
  boolean: 14,
  float: 15,
} as const;

/** What a pointer of 1, 2, 3 or 4 bytes has added to it. */
const POINTER_BASES = [0, 2_048, 526_336, 0] as const;

/** A section of encoded values; each is checked to lie within it. */
class Section {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  #valuesLeft = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  value(at: number): MmdbValue {
    this.#at = at;
    this.#valuesLeft = VALUES_MAX;
    return this.#next(0, true);
  }

  #next(depth: number, mayPoint: boolean): MmdbValue {
    if (depth > DEPTH_MAX) throw this.#wrong(`more than ${DEPTH_MAX} levels`);
    if (this.#valuesLeft-- <= 0) throw this.#wrong(`more than ${VALUES_MAX} values`);
    const control = this.#uint(1);
    let type = control >>> 5;
    if (type === TYPE.pointer) {
      // "A pointer must not point to another pointer": so no two of them make a circle.
      if (!mayPoint) throw this.#wrong("a pointer to a pointer");
      const size = (control >>> 3) & 3;
      const high = size === 3 ? 0 : control & 7;
      const target = high * 2 ** (8 * (size + 1)) + this.#uint(size + 1) + (POINTER_BASES[size] as number);
      const back = this.#at;
      this.#at = target;
      const value = this.#next(depth + 1, false);
      this.#at = back;
      return value;
    }
    if (type === 0) type = this.#uint(1) + 7;
    const size = this.#size(control & 31);
    switch (type) {
      case TYPE.text:
        return decoder.decode(this.#take(size));
      case TYPE.bytes:
        return this.#take(size).slice();
      case TYPE.double:
        return this.#view.getFloat64(this.#fixed(size, 8));
      case TYPE.float:
        return this.#view.getFloat32(this.#fixed(size, 4));
      case TYPE.uint16:
      case TYPE.uint32:
      case TYPE.uint64:
      case TYPE.uint128:
        return this.#whole(size, type);
      case TYPE.int32:
        return size === 4 ? this.#uint(4) | 0 : this.#whole(size, TYPE.uint32);
      case TYPE.boolean:
        return size !== 0;
      case TYPE.array: {
        const list: MmdbValue[] = [];
        for (let n = 0; n < size; n++) list.push(this.#next(depth + 1, true));
        return list;
      }
      case TYPE.map: {
        const map = Object.create(null) as Record<string, MmdbValue>;
        for (let n = 0; n < size; n++) {
          const key = this.#next(depth + 1, true);
          if (typeof key !== "string") throw this.#wrong("a key that is no text");
          map[key] = this.#next(depth + 1, true);
        }
        return map;
      }
      default:
        throw this.#wrong(`a value of type ${type}`);
    }
  }

  #size(low: number): number {
    if (low < 29) return low;
    if (low === 29) return 29 + this.#uint(1);
    return low === 30 ? 285 + this.#uint(2) : 65_821 + this.#uint(3);
  }

  /** Above 2^53 a bigint. */
  #whole(size: number, type: number): number | bigint {
    const bytesMax = { [TYPE.uint16]: 2, [TYPE.uint32]: 4, [TYPE.uint64]: 8, [TYPE.uint128]: 16 }[type] ?? 0;
    if (size > bytesMax) throw this.#wrong(`a whole number of ${size} bytes, expected at most ${bytesMax}`);
    if (size <= 6) return this.#uint(size);
    let value = 0n;
    for (const byte of this.#take(size)) value = (value << 8n) | BigInt(byte);
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
  }

  #fixed(size: number, expected: number): number {
    if (size !== expected) throw this.#wrong(`a number of ${size} bytes, expected ${expected}`);
    const at = this.#at;
    this.#take(size);
    return at;
  }

  /** At most 6 bytes: exact as a number. */
  #uint(bytes: number): number {
    let value = 0;
    for (const byte of this.#take(bytes)) value = value * 256 + byte;
    return value;
  }

  #take(length: number): Uint8Array {
    const from = this.#at;
    if (!(from >= 0 && length <= this.#bytes.length - from)) throw this.#wrong(`${length} bytes`);
    this.#at += length;
    return this.#bytes.subarray(from, this.#at);
  }

  #wrong(what: string): ParseError {
    return new ParseError(
      ["data", this.#at],
      what,
      `a value within the section's ${this.#bytes.length} bytes and bounds`,
    );
  }
}

const decoder = new TextDecoder();

/** Of the shapes of GeoIP and GeoLite (`country.iso_code`, `location.latitude`) and of `@ip-location-db` (`country_code`, `latitude`). */
export function placeOf(value: MmdbValue): Place | undefined {
  const of = fieldsOf(value);
  if (of === undefined) return undefined;
  const location = fieldsOf(of["location"]) ?? of;
  const city = fieldsOf(fieldsOf(of["city"])?.["names"])?.["en"] ?? of["city"];
  return {
    country: countryOf(fieldsOf(of["country"])?.["iso_code"] ?? of["country_code"]) ?? null,
    city: nameOf(city),
    coordinates: coordinatesOf(location["latitude"], location["longitude"]) ?? null,
  };
}

/** Of the shape of GeoLite ASN; undefined when there is no number. */
export function autonomousSystemOf(value: MmdbValue): AutonomousSystem | undefined {
  const of = fieldsOf(value);
  const asNumber = asNumberOf(of?.["autonomous_system_number"]);
  if (asNumber === undefined) return undefined;
  return { asNumber, organisation: nameOf(of?.["autonomous_system_organization"]) };
}

function fieldsOf(value: MmdbValue | undefined): Readonly<Record<string, MmdbValue>> | undefined {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Uint8Array)
    ? (value as Readonly<Record<string, MmdbValue>>)
    : undefined;
}
